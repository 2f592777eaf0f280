"""The trimap curve: how good a prediction is near the contours of the truth."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from pals_jax.metrics.confusion import grouped_confusion, mean_iou
from pals_jax.metrics.contours import edge_counts, near_contour
from pals_jax.metrics.index_maps import check_pair, only_classes, valid_pixels

TRIMAP_WIDTHS = (1, 2, 4, 8, 16)


class Trimap(NamedTuple):
    """Confusion of the labelled pixels within r pixels of a contour of the truth, for each width r.

    Kohli, Ladický and Torr, Robust higher order potentials for enforcing label consistency, IJCV
    2009, measure accuracy so; Krähenbühl and Koltun, Efficient inference in fully connected CRFs
    with Gaussian edge potentials, NeurIPS 2011, also IoU. A contour runs between two of the image's
    pixels that touch, be it at a corner, and differ in their label, where `ignore` is a label too;
    r = 1 are the pixels that touch it. The border of the image is no contour.

    Attributes:
      confusion: [R,K,K], rows = truth.
    """

    confusion: np.ndarray | Array

    @classmethod
    def empty(cls, num_classes: int, widths: Sequence[int] = TRIMAP_WIDTHS) -> Self:
        """Zero counts in int64 on the host, to merge batches into."""
        return cls(np.zeros((len(widths), num_classes, num_classes), np.int64))

    @classmethod
    def of_batch(
        cls,
        labels: Int[Array, "b h w"],
        predictions: Int[Array, "b h w"],
        num_classes: int,
        ignore: int,
        valid: Bool[Array, "b h w"] | None = None,
        widths: Sequence[int] = TRIMAP_WIDTHS,
    ) -> Self:
        """Counts of one batch, int32 on the device.

        Args:
          labels: true class of each pixel, or `ignore`, in any integer type.
          predictions: predicted class in 0..K-1.
          num_classes: K.
          ignore: the label of pixels that do not count.
          valid: the image, a rectangle at the top left; what is padded to it at the right and the
            bottom changes nothing. None: without padding.
          widths: in pixels, ascending, from 1 upwards.

        Raises:
          ValueError: the shapes are not one [B,H,W], a type is no integer, values lie outside the
            classes, or the widths do not ascend. Inside a jitted function values cannot be checked;
            there a pixel with such a value does not count.
        """
        if [0, *widths] != sorted({0, *widths}):
            raise ValueError(f"widths must ascend, from 1 upwards, found {widths}")
        check_pair(labels, predictions, num_classes, ignore)
        valid = valid_pixels(labels, valid)
        truth = only_classes(labels, num_classes, ignore, valid)
        guess = only_classes(predictions, num_classes)
        counts = edge_counts(truth, valid)
        # Each width adds a ring to those before. So count each pixel once, in its ring.
        ring = jnp.zeros(labels.shape, jnp.int32)
        for width in widths:
            ring += ~near_contour(counts, jnp.full(len(labels), width))
        rings = grouped_confusion(truth, guess, ring, len(widths) + 1, num_classes)
        return cls(jnp.cumsum(rings, axis=0)[:-1])

    def update(
        self,
        labels: Array,
        predictions: Array,
        ignore: int,
        valid: Array | None = None,
        widths: Sequence[int] = TRIMAP_WIDTHS,
    ) -> Self:
        """These counts with those of a batch added; see `of_batch`."""
        num_classes = self.confusion.shape[-1]
        return self.merge(self.of_batch(labels, predictions, num_classes, ignore, valid, widths))

    def merge(self, other: Self) -> Self:
        """The counts over both parts of a set, in int64 on the host."""
        return type(self)(np.asarray(self.confusion, np.int64) + np.asarray(other.confusion))

    def result(self, widths: Sequence[int] = TRIMAP_WIDTHS) -> dict[str, float]:
        """mIoU at each width; NaN where no pixel is counted.

        Returns:
          {"1": float, "2": float, …}
        """
        return {
            str(width): mean_iou(confusion)
            for width, confusion in zip(widths, self.confusion, strict=True)
        }
