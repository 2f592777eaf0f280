"""Pictures: class maps in colour, overlays, and panels of what training sees."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Palette = Sequence[tuple[int, int, int]]

_CAPTION_HEIGHT = 14


def colourise(index: np.ndarray, palette: Palette) -> np.ndarray:
    """Colours a class map; indices outside the palette, such as the ignore value, become black.

    Args:
      index: [H,W] integers.
      palette: (r, g, b) per class.

    Returns:
      uint8 [H,W,3].
    """
    table = np.zeros((len(palette) + 1, 3), np.uint8)
    table[:-1] = palette
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

    Args:
      rows: uint8 pictures [H,W,3], one list per row.
      captions: one per column.

    Returns:
      uint8 [H',W',3].
    """
    grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    width = rows[0][0].shape[1]
    canvas = Image.new("RGB", (grid.shape[1], grid.shape[0] + _CAPTION_HEIGHT), "white")
    canvas.paste(Image.fromarray(grid), (0, _CAPTION_HEIGHT))
    draw = ImageDraw.Draw(canvas)
    for column, caption in enumerate(captions):
        draw.text((column * width + 3, 1), caption, fill="black")
    return np.asarray(canvas)


def training_panel(
    images: np.ndarray,
    labels: np.ndarray,
    predictions: np.ndarray,
    soft_labels: np.ndarray,
    palette: Palette,
) -> np.ndarray:
    """Input, truth, prediction and entropy of the soft target, one row per image.

    Args:
      images: [B,H,W,3] uint8, or floating point in [0, 1].
      labels: [B,H,W] class indices.
      predictions: [B,H,W] class indices.
      soft_labels: [B,H,W,K]; their entropy is shown relative to its largest possible value, log K.
      palette: (r, g, b) per class.
    """
    if images.dtype != np.uint8:
        images = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    entropy = -np.sum(soft_labels * np.log(np.maximum(soft_labels, 1e-12)), axis=-1)
    highest = np.log(soft_labels.shape[-1])
    rows = [
        [image, colourise(truth, palette), colourise(guess, palette), heat(uncertain, highest)]
        for image, truth, guess, uncertain in zip(images, labels, predictions, entropy, strict=True)
    ]
    last = f"entropy of the target, 0 to log {soft_labels.shape[-1]}"
    return panel(rows, ("input", "truth", "prediction", last))
