"""The confusion matrix, and the ratios that it holds."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from pals_jax.class_indices import outside_classes, require_classes


def confusion_matrix(
    labels: Int[Array, "*shape"], predictions: Int[Array, "*shape"], num_classes: int, ignore: int
) -> Int[Array, "k k"]:
    """Counts pixels by true class (rows) and predicted class (columns).

    Args:
      labels: true class of each pixel, or `ignore`, in any integer type.
      predictions: predicted class in 0..K-1, of the shape of `labels`.
      num_classes: K.
      ignore: the label of pixels that do not count.

    Returns:
      int32 [K,K].

    Raises:
      ValueError: the shapes differ, a type is no integer, or values lie outside the classes. Inside
        a jitted function values cannot be checked; there a pixel with such a value does not count.
    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels and predictions must have one shape, found {labels.shape} and "
            f"{predictions.shape}"
        )
    require_classes("labels", labels, num_classes, ignore)
    require_classes("predictions", predictions, num_classes, ignore=0)
    # int32, because a cell's number overflows the uint8 that masks are stored in.
    labels, predictions = labels.ravel().astype(jnp.int32), predictions.ravel().astype(jnp.int32)
    skipped = (labels == ignore) | outside_classes(labels, num_classes, ignore)
    skipped |= outside_classes(predictions, num_classes, ignore=0)
    cell = jnp.where(skipped, num_classes**2, labels * num_classes + predictions)
    counts = jnp.bincount(cell, length=num_classes**2 + 1)[:-1]
    return counts.reshape(num_classes, num_classes).astype(jnp.int32)


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, [K] float64; NaN for a class absent from truth and
    prediction.

    Args:
      confusion: [K,K] counts over the whole set, rows = truth.
    """
    confusion = np.asarray(confusion, np.float64)
    intersection = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return np.divide(intersection, union, out=np.full(len(confusion), np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean of `iou` over the classes that occur; NaN if none does."""
    per_class = iou(confusion)
    occurring = ~np.isnan(per_class)
    return float(per_class[occurring].mean()) if occurring.any() else float("nan")


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of counted pixels whose class is right; NaN without counted pixels."""
    confusion = np.asarray(confusion, np.float64)
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total > 0 else float("nan")
