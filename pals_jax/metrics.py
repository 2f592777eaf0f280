"""Segmentation metrics over a whole set: counts are summed first, ratios are taken once at the end.

Counts of one batch are int32 on the device; sums over batches belong in int64 and float64 on the
host, because float32 counts are exact only up to 2^24.
"""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pals_jax.class_indices import outside_classes, require_classes

ECE_BINS = 15


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


class Calibration(NamedTuple):
    """Sums for the reliability of the top-1 confidence, in equal bins over (0, 1].

    Attributes:
      pixels: [bins], their number.
      confidence: [bins], sum of the top-1 probability.
      correct: [bins], those that are right.
    """

    pixels: np.ndarray | Array
    confidence: np.ndarray | Array
    correct: np.ndarray | Array

    @classmethod
    def empty(cls, bins: int = ECE_BINS) -> Self:
        """Zero sums in float64 on the host, to merge batches into."""
        return cls(*(np.zeros(bins) for _ in range(3)))

    @classmethod
    def of_batch(
        cls,
        probs: Float[Array, "*shape k"],
        labels: Int[Array, "*shape"],
        ignore: int,
        bins: int = ECE_BINS,
    ) -> Self:
        """Sums over one batch, on the device.

        Args:
          probs: class probabilities.
          labels: true class of each pixel; pixels with `ignore` do not count.
          ignore: the label of pixels that do not count.
          bins: their number; a confidence c falls in bin ceil(c · bins) - 1.

        Raises:
          ValueError: labels lie outside the classes. Inside a jitted function values cannot be
            checked; there a pixel with such a value does not count.
        """
        num_classes = probs.shape[-1]
        require_classes("labels", labels, num_classes, ignore)
        # Float32 sums of millions of confidences would lose percents. So sum per image row first,
        # and only what each one deviates from the centre of its bin.
        labels = labels.astype(jnp.int32)  # in bytes, an ignore index of -1 would equal 255
        row_length = labels.shape[-1]
        probs = probs.reshape(-1, row_length, probs.shape[-1])
        labels = labels.reshape(-1, row_length)
        valid = (labels != ignore) & ~outside_classes(labels, num_classes, ignore)
        confidence = jnp.max(probs, axis=-1)
        right = (jnp.argmax(probs, axis=-1) == labels) & valid
        bin_index = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)

        def per_bin(weights: Array) -> Array:
            rows = jax.vmap(lambda w, b: jax.ops.segment_sum(w, b, num_segments=bins))
            return rows(weights, bin_index).sum(0)

        count = per_bin(valid.astype(jnp.int32))
        centre = (jnp.arange(bins) + 0.5) / bins
        deviation = per_bin(jnp.where(valid, confidence - centre[bin_index], 0))
        return cls(count, deviation + count * centre, per_bin(right.astype(jnp.int32)))

    def update(self, probs: Array, labels: Array, ignore: int) -> Self:
        """These sums with those of a batch added; see `of_batch`."""
        return self.merge(self.of_batch(probs, labels, ignore, len(self.pixels)))

    def merge(self, other: Self) -> Self:
        """The sums over both parts of a set, in float64 on the host."""
        return type(self)(
            *(np.asarray(a, np.float64) + np.asarray(b) for a, b in zip(self, other, strict=True))
        )

    def result(self) -> dict[str, Any]:
        """ECE = Σ_b (n_b / N) |acc_b - conf_b| and its bins; accuracy and confidence of an empty
        bin are None.

        Returns:
          {"ece": float, "accuracy": [bins], "confidence": [bins], "count": [bins]}; the ECE of
          nothing is NaN.
        """
        count, confidence, correct = (np.asarray(sums, np.float64) for sums in self)
        total = count.sum()
        gap = np.abs(correct - confidence).sum()
        filled = [
            (c / n, p / n) if n > 0 else (None, None)
            for n, p, c in zip(count, confidence, correct, strict=True)
        ]
        return {
            "ece": float(gap / total) if total > 0 else float("nan"),
            "accuracy": [accuracy for accuracy, _ in filled],
            "confidence": [mean for _, mean in filled],
            "count": count.astype(int).tolist(),
        }
