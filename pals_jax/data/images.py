"""Read image and mask files strictly: upright 8-bit RGB, exact class indices, every surprise named.

Training data, evaluation and prediction all read through these two functions, so a photo gives the
network the same pixels wherever it comes from.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageFile, UnidentifiedImageError

from pals_jax.data.archives import File
from pals_jax.data.errors import DataError, some

Mask = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]

_ORIENTATION_TAG = 0x0112
# Exif orientation -> the view of the stored array that stands upright.
_UPRIGHT = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
# Formats whose compression alters samples, or may: a file does not tell whether it did.
_LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF", "TIFF (jpeg)", "TIFF (tiff_jpeg)")
# Pillow stretches grey samples of 2 and 4 bits to 0..255 by these factors.
_STRETCH = {"L;2": 85, "L;4": 17}


def read_image(path: str | File) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image file as 8-bit RGB, standing upright.

    Grey is repeated over the channels, palettes and CMYK are converted, alpha is dropped, 16-bit
    samples become round(v / 257), which maps 65535 to 255, and the Exif orientation is applied.

    Args:
      path: a file in any format that Pillow reads; of an animation, the first frame counts.

    Returns:
      The pixels [H, W, 3].

    Raises:
      DataError: the file is missing, truncated or unreadable, holds floats, signed or 32-bit
        samples, or its header tells another size than its pixels have.
    """
    path = Path(path) if isinstance(path, str) else path
    with _opened(path) as image:
        width, height = image.size
        if image.mode == "F":
            raise DataError(f"{path}: holds floating-point samples; save it with 8 or 16 bits.")
        # Mode I is 32 bits, in which Pillow also keeps the 16 of a PGM, and an older one of a PNG.
        if image.mode == "I" and image.format not in ("PPM", "PNG"):
            raise DataError(
                f"{path}: holds signed or 32-bit samples; save it with 8 or 16 unsigned bits."
            )
        if image.mode.startswith("I"):
            pixels = np.repeat(_to_8_bit(np.asarray(image))[..., None], 3, axis=-1)
        elif ";16" in str(image.tile) and image.format != "BMP":  # that has 16 bits in all
            # Of 16-bit colour, Pillow keeps the high byte only, which is not the nearest value.
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
            encoded = np.frombuffer(path.read_bytes(), np.uint8)
            decoded = cv2.imdecode(encoded, flags)
            if decoded is None:
                raise OSError("its 16-bit samples cannot be decoded")
            pixels = _to_8_bit(decoded[..., ::-1])
        else:
            pixels = np.asarray(image.convert("RGB"))
        if pixels.shape[:2] != (height, width):  # whoever asked `image_size` relies on it
            raise DataError(
                f"{path}: (height, width) is {(height, width)} by its header and "
                f"{pixels.shape[:2]} by its pixels; save it upright, without an orientation."
            )
        return _upright(pixels, image)


def image_size(path: str | File) -> tuple[int, int]:
    """(height, width) that `read_image` would return, from the file's header alone.

    Raises:
      DataError: the file is missing or its header unreadable.
    """
    path = Path(path) if isinstance(path, str) else path
    with _opened(path) as image:
        width, height = image.size
        # Of a TIFF, Pillow gives the size that it has when turned.
        lies = image.format != "TIFF" and image.getexif().get(_ORIENTATION_TAG, 1) in (5, 6, 7, 8)
        return (width, height) if lies else (height, width)


def read_mask(
    path: str | File, num_classes: int, ignore: int, *, palette_masks: bool = False
) -> Mask:
    """Reads a mask file whose stored samples are the class indices, and accepts nothing else.

    Args:
      path: a single-channel file of 1, 2, 4, 8, 16 or 32 bits. The stored sample is the index,
        whatever the bit depth.
      num_classes: K; indices 0..K-1 are classes.
      ignore: the index of pixels that do not count.
      palette_masks: take the indices of a palette file (mode P, as in PASCAL VOC) for class
        indices. Off by default, because tools write palettes in an order of their own.

    Returns:
      The indices [H, W], uint8, or uint16 where an index may exceed 255.

    Raises:
      DataError: the file is missing, truncated, of a format that may be lossy (as JPEG 2000),
        coloured, a palette that was not asked for, or holds values outside {0..K-1, ignore}; these
        are listed with their pixel counts.
    """
    path = Path(path) if isinstance(path, str) else path
    with _opened(path) as image:
        kind = image.format
        if kind == "TIFF":
            kind += f" ({image.info['compression']})"
        if kind in _LOSSY:
            raise DataError(
                f"{path}: a {kind} mask; its compression may alter indices. Save a PNG."
            )
        if image.mode == "P" and not palette_masks:
            raise DataError(
                f"{path}: a palette mask (mode P). If its palette indices are the class indices, "
                "set config.data.palette_masks=True; otherwise save a single-channel PNG of class "
                "indices."
            )
        if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
            raise DataError(
                f"{path}: mode {image.mode}, expected one channel of class indices. Map each "
                "colour to its class index and save a single-channel PNG."
            )
        stretch = _STRETCH.get(str(image.tile[0].args), 1) if image.tile else 1
        mask = _upright(np.asarray(image).astype(np.int64) // stretch, image)
    values, counts = np.unique(mask, return_counts=True)
    outside = ((values < 0) | (values >= num_classes)) & (values != ignore)
    if outside.any():
        found = dict(zip(values[outside].tolist(), counts[outside].tolist(), strict=True))
        raise DataError(_describe_outside(path, found, num_classes, ignore))
    return mask.astype(index_dtype(num_classes, ignore))


def index_dtype(num_classes: int, ignore: int) -> type[np.unsignedinteger[Any]]:
    """The smallest unsigned type that holds every class index and the ignore index."""
    return np.uint8 if max(num_classes - 1, ignore) <= 255 else np.uint16


@contextmanager
def _opened(path: File) -> Iterator[ImageFile.ImageFile]:
    """Opens an image file; whatever goes wrong inside is a DataError that names the file."""
    try:
        # Where Pillow itself opens the file, it scrambles a TIFF that lies on its side: it maps the
        # samples into memory as if they were stored in the size that they have when turned.
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: unreadable or truncated (not a known image format).") from None
    except Exception as error:  # Pillow's decoders raise a dozen kinds of errors on broken files
        raise DataError(f"{path}: unreadable or truncated ({error}).") from error


def _upright(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turns pixels as the file's Exif orientation says."""
    if image.format == "TIFF":  # Pillow and OpenCV turn it, even where OpenCV is told not to
        return np.ascontiguousarray(pixels)
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1), lambda a: a)
    return np.ascontiguousarray(turn(pixels))


def _to_8_bit(samples: np.ndarray) -> np.ndarray:
    """round(v / 257) in integers; 257 = 65535 / 255 is odd, so there are no ties."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _describe_outside(path: File, found: dict[int, int], num_classes: int, ignore: int) -> str:
    """The error text for label values outside the classes, given their pixel counts."""
    shown = some(f"{value} ({count} pixel{'s' * (count > 1)})" for value, count in found.items())
    hint = ""
    if list(found) == [255]:
        hint = (
            " If 255 means unlabelled, set config.data.ignore=255; if these are 0/255 masks of two "
            "classes, convert 255 to 1."
        )
    elif list(found) == [num_classes]:
        hint = (
            f" If {num_classes} is one class more, name it in config.data.classes; if it means "
            f"unlabelled, set config.data.ignore={num_classes}."
        )
    return (
        f"{path}: label values outside the classes 0..{num_classes - 1} and ignore={ignore}: "
        f"{shown}.{hint}"
    )
