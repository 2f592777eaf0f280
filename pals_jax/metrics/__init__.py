"""Segmentation metrics over a whole set: counts are summed first, ratios are taken once at the end.

Counts of one batch are int32 on the device; sums over batches belong in int64 and float64 on the
host, because float32 counts are exact only up to 2^24.
"""

from pals_jax.metrics.boundary import Boundary
from pals_jax.metrics.calibration import ECE_BINS, Calibration
from pals_jax.metrics.confusion import (
    areas,
    confusion_matrix,
    iou,
    mean_iou,
    mean_of_occurring,
    overlap,
    pixel_accuracy,
)
from pals_jax.metrics.scores import ProperScores
from pals_jax.metrics.trimap import TRIMAP_WIDTHS, Trimap

__all__ = [
    "ECE_BINS",
    "TRIMAP_WIDTHS",
    "Boundary",
    "Calibration",
    "ProperScores",
    "Trimap",
    "areas",
    "confusion_matrix",
    "iou",
    "mean_iou",
    "mean_of_occurring",
    "overlap",
    "pixel_accuracy",
]
