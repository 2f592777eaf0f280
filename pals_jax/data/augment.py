"""Random training views: scale, crop, flip, colour. NumPy arrays in, NumPy arrays out.

Each operation is a plain function of its strength, and `augment` draws the strengths. Image and
label share one geometry: both are sampled at pixel *centres*, so a label never moves against its
image.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

Image = UInt8[np.ndarray, "h w 3"]
Label = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]

_CROP_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """How far training views may stray from the stored image.

    The defaults are the recipe that the field trains DeepLabV3+ with.

    Attributes:
      crop: (height, width) of the views.
      scale: range of the random scale factor.
      flip: mirror left and right with probability ½.
      photometric: change brightness, contrast, saturation and hue, each with probability ½.
      max_class_share: try up to ten crops until no class covers more than this share of the
        valid pixels; 1 takes the first crop.
      fill: colour of padding in the image; a mean colour is the neutral choice.
      ignore: label of padding.
    """

    crop: tuple[int, int]
    ignore: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    photometric: bool = True
    max_class_share: float = 0.75
    fill: tuple[int, int, int] = (124, 116, 104)


def augment(
    example: dict[str, Any], rng: np.random.Generator, options: Augmentation
) -> dict[str, Any]:
    """One random training view: scale, crop, flip, then colour.

    Args:
      example: "image" uint8 [H, W, 3] and "label" uint8 or uint16 [H, W]; other entries are
        passed on.
      rng: the only source of randomness.
      options: strengths.

    Returns:
      "image" uint8 [h, w, 3] and "label" int32 [h, w] of the crop size.
    """
    image, label = example["image"], example["label"]
    factor = rng.uniform(*options.scale)
    height, width = (max(1, round(size * factor)) for size in label.shape)
    image, label = resize(image, label, height, width)
    top, left = choose_crop(label, rng, options)
    image, label = crop(image, label, top, left, options)
    if options.flip and rng.random() < 0.5:
        image, label = cv2.flip(image, 1), cv2.flip(label, 1)
    if options.photometric:
        image = distort(image, rng)
    return example | {"image": image, "label": label.astype(np.int32)}


def resize(image: Image, label: Label, height: int, width: int) -> tuple[Image, Label]:
    """Resamples image (bilinear) and label (nearest) on the same grid of pixel centres.

    Output pixel i looks at (i + ½) · in/out − ½ in both. OpenCV's plain INTER_NEAREST drops both
    halves and would shift labels by up to half a pixel against the image.
    """
    if label.shape == (height, width):
        return image, label
    size = (width, height)
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_LINEAR),
        cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT),
    )


def choose_crop(label: Label, rng: np.random.Generator, options: Augmentation) -> tuple[int, int]:
    """Draws the top left corner of a crop, negative where the image is smaller than the crop.

    Up to ten corners are drawn until at most `max_class_share` of the crop's valid pixels belong to
    one class; the last one stands if none passes.
    """
    (h, w), (height, width) = options.crop, label.shape
    for _ in range(_CROP_TRIES):
        top = int(rng.integers(min(0, height - h), max(0, height - h) + 1))
        left = int(rng.integers(min(0, width - w), max(0, width - w) + 1))
        window = label[max(0, top) : top + h, max(0, left) : left + w]
        counts = np.bincount(window[window != options.ignore])
        if options.max_class_share >= 1 or (
            counts.size and np.max(counts) <= options.max_class_share * counts.sum()
        ):
            break
    return top, left


def crop(
    image: Image, label: Label, top: int, left: int, options: Augmentation
) -> tuple[Image, Label]:
    """Cuts a window of the crop size; outside the image it holds the fill colour and `ignore`."""
    (h, w), (height, width) = options.crop, label.shape
    inside = np.s_[max(0, top) : top + h, max(0, left) : left + w]
    above, before = max(0, -top), max(0, -left)
    border = above, max(0, top + h - height), before, max(0, left + w - width), cv2.BORDER_CONSTANT
    return (
        cv2.copyMakeBorder(image[inside], *border, value=options.fill),
        cv2.copyMakeBorder(label[inside], *border, value=options.ignore),
    )


def distort(image: Image, rng: np.random.Generator) -> Image:
    """Changes brightness (±32), contrast and saturation (×0.5–1.5) and hue (±36°), each or not."""
    brightness = rng.uniform(-32, 32) if rng.random() < 0.5 else 0.0
    contrast = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    hue = rng.uniform(-36, 36) if rng.random() < 0.5 else 0.0
    return adjust_colour(adjust_light(image, brightness, contrast), saturation, hue)


def adjust_light(image: Image, brightness: float, contrast: float) -> Image:
    """Contrast · (v + brightness) for every sample, rounded and clipped to 0..255."""
    table = np.clip(np.rint(contrast * (np.arange(256) + brightness)), 0, 255)
    return cv2.LUT(image, table.astype(np.uint8))


def adjust_colour(image: Image, saturation: float, hue: float) -> Image:
    """Multiplies the HSV saturation and turns the hue by degrees."""
    if saturation == 1 and hue == 0:
        return image
    # OpenCV stores the hue of 8-bit images in steps of two degrees, 0..179.
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    values = np.arange(256)
    hues = np.mod(values + round(hue / 2), 180)
    saturations = np.clip(np.rint(saturation * values), 0, 255)
    tables = np.stack([hues, saturations, values], axis=-1)[None].astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(hsv, tables), cv2.COLOR_HSV2RGB)
