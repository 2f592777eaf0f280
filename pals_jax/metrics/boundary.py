"""Boundary IoU: the IoU of the contours' surroundings, which large objects do not drown."""

import math
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from pals_jax.metrics.confusion import grouped_confusion, mean_of_occurring, overlap
from pals_jax.metrics.contours import edge_counts, near_contour
from pals_jax.metrics.index_maps import check_pair, only_classes, valid_pixels

# The distance is this part of the diagonal: 2 %.
_PART = 50


class Boundary(NamedTuple):
    """Counts for the boundary IoU of each class.

        IoU_k = Σ |G_k ∩ P_k| / Σ |G_k ∪ P_k|         sums over the images of the set

    where G_k are the pixels of class k in the truth within distance d of a pixel that is not of
    class k, and P_k likewise in the prediction. Cheng, Girshick, Dollár, Berg and Kirillov,
    Boundary IoU, CVPR 2021, arXiv 2103.16562; as in its code the distance is Chebyshev's, d =
    max(1, round(0.02 · diagonal)) pixels of the image at hand, and what is outside the image is not
    of the class. A pixel that does not count is of no class, in the truth and in the prediction, so
    that the contours of both run around it.

    Attributes:
      intersection: [K], |G_k ∩ P_k|.
      truth: [K], |G_k|.
      prediction: [K], |P_k|.
    """

    intersection: np.ndarray | Array
    truth: np.ndarray | Array
    prediction: np.ndarray | Array

    @classmethod
    def empty(cls, num_classes: int) -> Self:
        """Zero counts in int64 on the host, to merge batches into."""
        return cls(*(np.zeros(num_classes, np.int64) for _ in range(3)))

    @classmethod
    def of_batch(
        cls,
        labels: Int[Array, "b h w"],
        predictions: Int[Array, "b h w"],
        num_classes: int,
        ignore: int,
        valid: Bool[Array, "b h w"] | None = None,
    ) -> Self:
        """Counts of one batch, int32 on the device.

        Args:
          labels: true class of each pixel, or `ignore`, in any integer type.
          predictions: predicted class in 0..K-1.
          num_classes: K.
          ignore: the label of pixels that do not count.
          valid: the image, a rectangle at the top left; what is padded to it at the right and the
            bottom changes nothing. None: without padding.

        Raises:
          ValueError: the shapes are not one [B,H,W], a type is no integer, or values lie outside
            the classes. Inside a jitted function values cannot be checked; there a pixel with such
            a value does not count.
        """
        check_pair(labels, predictions, num_classes, ignore)
        valid = valid_pixels(labels, valid)
        truth = only_classes(labels, num_classes, ignore, valid)
        guess = only_classes(predictions, num_classes, valid=truth < num_classes)
        height, width = valid.any(2).sum(1), valid.any(1).sum(1)
        distance = distance_of(height, width, valid.shape[1:])
        near_border = _to_border(height, width, valid.shape[1:]) <= distance[:, None, None]
        near_truth, near_guess = (
            near_border | near_contour(edge_counts(index, valid), distance)
            for index in (truth, guess)
        )
        # Counted by which of the two contours is near, in one pass: none, truth's, guess's, both.
        group = near_truth + 2 * near_guess
        _, of_truth, of_guess, of_both = grouped_confusion(truth, guess, group, 4, num_classes)
        return cls(jnp.diagonal(of_both), (of_truth + of_both).sum(1), (of_guess + of_both).sum(0))

    def update(
        self,
        labels: Array,
        predictions: Array,
        ignore: int,
        valid: Array | None = None,
    ) -> Self:
        """These counts with those of a batch added; see `of_batch`."""
        return self.merge(self.of_batch(labels, predictions, len(self.truth), ignore, valid))

    def merge(self, other: Self) -> Self:
        """The counts over both parts of a set, in int64 on the host."""
        return type(self)(
            *(np.asarray(a, np.int64) + np.asarray(b) for a, b in zip(self, other, strict=True))
        )

    def result(self) -> dict[str, Any]:
        """The ratios over the set.

        Returns:
          {"iou": [K] float64, NaN for a class absent from truth and prediction, "mean_iou": float,
          over the classes that occur, NaN if none does}.
        """
        per_class = overlap(*(np.asarray(counts) for counts in self))
        return {"iou": per_class, "mean_iou": mean_of_occurring(per_class)}


def distance_of(
    height: Int[Array, "b"], width: Int[Array, "b"], shape: tuple[int, ...]
) -> Int[Array, "b"]:
    """d of images of these sizes that are padded to one shape."""
    most = max(1, round(math.hypot(*shape) / _PART))
    # d ≥ n iff 0.02 · diagonal ≥ n - 1/2, where a tie, as in Python and in the published code, goes
    # to the even number. In integers, because float32 would misplace what is near a tie.
    half = _PART // 2
    least = [(_PART * n - half) ** 2 + n % 2 for n in range(2, most + 1)]
    squared = height.astype(jnp.int32) ** 2 + width.astype(jnp.int32) ** 2
    return 1 + jnp.searchsorted(jnp.asarray(least, jnp.int32), squared, side="right")


def _to_border(
    height: Int[Array, "b"], width: Int[Array, "b"], shape: tuple[int, ...]
) -> Int[Array, "b h w"]:
    """Distance of each pixel to what is outside the image."""
    row, column = jnp.arange(shape[0]), jnp.arange(shape[1])
    vertical = jnp.minimum(row + 1, height[:, None] - row)
    horizontal = jnp.minimum(column + 1, width[:, None] - column)
    return jnp.minimum(vertical[:, :, None], horizontal[:, None, :])
