"""Proper scores: lowest, in expectation, for the true probabilities and for nothing else."""

from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pals_jax.class_indices import outside_classes, require_classes

_LEAST = jnp.finfo(jnp.float32).tiny


class ProperScores(NamedTuple):
    """Sums of the negative log-likelihood and the Brier score.

        NLL = mean -log p_y                           in nats
        Brier = mean Σ_k (p_k - [k = y])²             in [0, 2]

    for a pixel of true class y. Brier, Verification of forecasts expressed in terms of probability,
    Monthly Weather Review 1950, in its form for any number of classes; others halve it for two.
    p_y counts as 1.2e-38, the smallest normal float32, where it is less: a pixel costs at most
    87.3 nats, and never infinity.

    Attributes:
      pixels: [*rows] of a batch, [] of a set; their number.
      nll: likewise, the sum of -log p_y.
      brier: likewise, the sum of Σ_k (p_k - [k = y])².
    """

    pixels: np.ndarray | Array
    nll: np.ndarray | Array
    brier: np.ndarray | Array

    @classmethod
    def empty(cls) -> Self:
        """Zero sums in float64 on the host, to merge batches into."""
        return cls(*(np.zeros(()) for _ in range(3)))

    @classmethod
    def of_batch(
        cls, probs: Float[Array, "*rows w k"], labels: Int[Array, "*rows w"], ignore: int
    ) -> Self:
        """Sums per image row of one batch, on the device; `merge` adds the rows up, because a
        float32 sum over millions of pixels would lose digits.

        Args:
          probs: class probabilities; anything, NaN too, where a pixel does not count.
          labels: true class of each pixel; pixels with `ignore` do not count.
          ignore: the label of pixels that do not count.

        Raises:
          ValueError: labels lie outside the classes. Inside a jitted function values cannot be
            checked; there a pixel with such a value does not count.
        """
        probs, num_classes = probs.astype(jnp.float32), probs.shape[-1]
        require_classes("labels", labels, num_classes, ignore)
        labels = labels.astype(jnp.int32)  # in bytes, an ignore index of -1 would equal 255
        valid = (labels != ignore) & ~outside_classes(labels, num_classes, ignore)
        truth = jnp.where(valid, labels, 0)
        likelihood = jnp.take_along_axis(probs, truth[..., None], axis=-1)[..., 0]
        nll = jnp.where(valid, -jnp.log(jnp.maximum(likelihood, _LEAST)), 0)
        # Class after class, because on a CPU XLA takes ten times as long for a sum over a short
        # last axis.
        brier = sum(jnp.square(probs[..., k] - (truth == k)) for k in range(num_classes))
        brier = jnp.where(valid, brier, 0)
        return cls(valid.sum(-1), nll.sum(-1), brier.sum(-1))

    def update(self, probs: Array, labels: Array, ignore: int) -> Self:
        """These sums with those of a batch added; see `of_batch`."""
        return self.merge(self.of_batch(probs, labels, ignore))

    def merge(self, other: Self) -> Self:
        """The sums over both parts of a set, in float64 on the host."""
        return type(self)(*(_total(a) + _total(b) for a, b in zip(self, other, strict=True)))

    def result(self) -> dict[str, Any]:
        """Both means over the set.

        Returns:
          {"nll": float, "brier": float}; those of nothing are NaN.
        """
        pixels, nll, brier = map(_total, self)
        if not pixels:
            return {"nll": float("nan"), "brier": float("nan")}
        return {"nll": float(nll / pixels), "brier": float(brier / pixels)}


def _total(sums: np.ndarray | Array) -> np.ndarray:
    return np.asarray(sums, np.float64).sum()
