"""Pictures: class maps in colour, overlays, and panels of what training sees."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Palette = Sequence[tuple[int, int, int]]

_CAPTION_HEIGHT = 14
# Of a picture in a panel: no caption is longer.
_LEAST_WIDTH = 192
_SWATCH = 10
# White, because black is the background in the colours of PASCAL VOC.
_NO_LABEL = (255, 255, 255)


def colourise(index: np.ndarray, palette: Palette) -> np.ndarray:
    """Colours a class map; indices outside the palette, such as the ignore value, become white.

    Args:
      index: [H,W] integers.
      palette: (r, g, b) per class.

    Returns:
      uint8 [H,W,3].
    """
    table = np.array([*palette, _NO_LABEL], np.uint8)
    known = (index >= 0) & (index < len(palette))
    return table[np.where(known, index, len(palette))]


def overlay(image: np.ndarray, colours: np.ndarray, opacity: float) -> np.ndarray:
    """Blends colours over an image: (1 - opacity)·image + opacity·colours, both uint8 [H,W,3]."""
    blend = (1 - opacity) * image.astype(np.float32) + opacity * colours.astype(np.float32)
    return np.rint(blend).astype(np.uint8)


def heat(values: np.ndarray, highest: float) -> np.ndarray:
    """Maps [0, highest] to black - red - yellow - white, uint8 [H,W,3]."""
    share = np.clip(values / highest, 0, 1)[..., None]
    return np.rint(255 * np.clip(3 * share - np.array([0, 1, 2]), 0, 1)).astype(np.uint8)


def panel(rows: Sequence[Sequence[np.ndarray]], captions: Sequence[str]) -> np.ndarray:
    """Lays pictures of one size out in a grid, with a caption above each column.

    Small pictures are enlarged by a whole factor, so that the captions fit.

    Args:
      rows: uint8 pictures [H,W,3], one list per row.
      captions: one per column.

    Returns:
      uint8 [H',W',3].
    """
    factor = -(-_LEAST_WIDTH // rows[0][0].shape[1])
    rows = [[picture.repeat(factor, 0).repeat(factor, 1) for picture in row] for row in rows]
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    width = rows[0][0].shape[1]
    canvas = Image.new("RGB", (grid.shape[1], grid.shape[0] + _CAPTION_HEIGHT), "white")
    canvas.paste(Image.fromarray(grid), (0, _CAPTION_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    for column, caption in enumerate(captions):
        draw.text((column * width + 3, 1), caption, fill="black")
    return np.asarray(canvas)


def legend(classes: Sequence[str], palette: Palette) -> np.ndarray:
    """Names of the classes beside their colours, one per line: uint8 [H,W,3] on white."""
    font = ImageFont.load_default()
    width = max(math.ceil(font.getlength(name)) for name in classes)
    height = _CAPTION_HEIGHT * len(classes)
    canvas = Image.new("RGB", (_SWATCH + width + 12, height + 4), "white")
    draw = ImageDraw.Draw(canvas)
    for row, (name, colour) in enumerate(zip(classes, palette, strict=True)):
        top = 4 + row * _CAPTION_HEIGHT
        draw.rectangle((4, top, 4 + _SWATCH, top + _SWATCH), fill=tuple(colour), outline="black")
        draw.text((_SWATCH + 9, top - 1), name, fill="black", font=font)
    return np.asarray(canvas)


def _beside(picture: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Two pictures side by side, the lower one continued in white."""
    height = max(len(picture), len(key))

    def filled(part: np.ndarray) -> np.ndarray:
        return np.pad(part, ((0, height - len(part)), (0, 0), (0, 0)), constant_values=255)

    return np.concatenate([filled(picture), filled(key)], axis=1)


def training_panel(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    soft_labels: np.ndarray,
    classes: Sequence[str],
    palette: Palette,
    factor: int = 1,
) -> np.ndarray:
    """Input, truth, prediction and entropy of the soft target, one row per image; a legend beside.

    Args:
      images: [B,H,W,3] uint8, or floating point in [0, 1].
      labels: [B,H,W] class indices.
      predictions: [B,h,w] class indices, with h = ceil(H / factor).
      soft_labels: [B,h,w,K]; their entropy is shown relative to its largest possible value, log K.
      classes: K names.
      palette: (r, g, b) per class.
      factor: by which predictions and soft labels are smaller than the images; their pixels are
        repeated.
    """
    if images.dtype != np.uint8:
        images = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    entropy = -np.sum(soft_labels * np.log(np.maximum(soft_labels, 1e-12)), axis=-1)
    predictions, entropy = (
        array.repeat(factor, 1).repeat(factor, 2)[:, : images.shape[1], : images.shape[2]]
        for array in (predictions, entropy)
    )
    highest = np.log(soft_labels.shape[-1])
    rows = [
        [image, colourise(truth, palette), colourise(guess, palette), heat(uncertain, highest)]
        for image, truth, guess, uncertain in zip(images, labels, predictions, entropy, strict=True)
    ]
    last = f"entropy of the target, 0 to log {soft_labels.shape[-1]}"
    grid = panel(rows, ("input", "truth", "prediction", last))
    return _beside(grid, legend((*classes, "no label"), (*palette, _NO_LABEL)))
