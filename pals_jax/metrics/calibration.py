"""Reliability of the confidence: what share is right of the pixels that are said to be sure."""

from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pals_jax.class_indices import outside_classes, require_classes

ECE_BINS = 15


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
        probs = probs.astype(jnp.float32).reshape(-1, row_length, probs.shape[-1])
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
