"""The confusion matrix, and the ratios that it holds."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from pals_jax.metrics.index_maps import check_pair, only_classes


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
    check_pair(labels, predictions, num_classes, ignore)
    truth = only_classes(labels, num_classes, ignore)
    guess = only_classes(predictions, num_classes)
    return grouped_confusion(truth, guess, jnp.zeros_like(truth), 1, num_classes)[0]


def grouped_confusion(
    truth: Int[Array, "*shape"],
    guess: Int[Array, "*shape"],
    group: Int[Array, "*shape"],
    num_groups: int,
    num_classes: int,
) -> Int[Array, "g k k"]:
    """One confusion matrix per group of pixels, int32, in one pass.

    Args:
      truth: class of each pixel, or K where it does not count; int32, because a cell's number
        overflows the uint8 that masks are stored in.
      guess: likewise, as predicted.
      group: in 0..G-1.
      num_groups: G.
      num_classes: K.
    """
    cells = num_groups * num_classes**2
    cell = (group * num_classes + truth) * num_classes + guess
    cell = jnp.where((truth < num_classes) & (guess < num_classes), cell, cells)
    counts = jnp.bincount(cell.ravel(), length=cells + 1)[:-1]
    return counts.reshape(num_groups, num_classes, num_classes).astype(jnp.int32)


def areas(confusion: np.ndarray) -> np.ndarray:
    """Pixels of each class in |T ∩ P|, in the truth |T| and in the prediction |P|: all that `iou`
    needs of an image, [..., K, K] to [..., 3, K].
    """
    diagonal = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.stack([diagonal, np.sum(confusion, -1), np.sum(confusion, -2)], axis=-2)


def overlap(intersection: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """|T ∩ P| / |T ∪ P| per class from |T ∩ P|, |T| and |P|, [K] float64; NaN where both are
    empty.
    """
    intersection = np.asarray(intersection, np.float64)
    union = truth + prediction - intersection
    return np.divide(intersection, union, out=np.full(len(union), np.nan), where=union > 0)


def mean_of_occurring(per_class: np.ndarray) -> float:
    """Mean over the classes that are not NaN; NaN if all are."""
    occurring = ~np.isnan(per_class)
    return float(per_class[occurring].mean()) if occurring.any() else float("nan")


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, [K] float64; NaN for a class absent from truth and
    prediction.

    Args:
      confusion: [K,K] counts over the whole set, rows = truth.
    """
    return overlap(*areas(np.asarray(confusion, np.float64)))


def mean_iou(confusion: np.ndarray) -> float:
    """Mean of `iou` over the classes that occur; NaN if none does."""
    return mean_of_occurring(iou(confusion))


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of counted pixels whose class is right; NaN without counted pixels."""
    confusion = np.asarray(confusion, np.float64)
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total > 0 else float("nan")
