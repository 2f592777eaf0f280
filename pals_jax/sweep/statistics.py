"""What may be concluded from a few runs: differences by pairs, their intervals, and what so many
runs can detect at all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, stats

LEVEL = 0.95
POWER = 0.8
FEWEST_BLOCKS = 5


class Difference(NamedTuple):
    """A mean of paired differences.

    Attributes:
      mean: of the differences.
      low, high: the interval that holds the true mean with probability `LEVEL`; None with one pair.
      detectable: the smallest true difference that this many pairs with this spread show, as an
        interval without 0, with probability `POWER`; None with one pair.
      pairs: their number.
    """

    mean: float
    low: float | None
    high: float | None
    detectable: float | None
    pairs: int

    @property
    def is_seen(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the standard deviation of a sample, divisor n - 1; None for one value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd


def paired_difference(differences: Sequence[float]) -> Difference:
    """The mean of n ≥ 1 differences between pairs, with Student's t interval.

    d̄ ± t(n - 1, (1 + LEVEL) / 2) · s_d / √n
    """
    count = len(differences)
    mean, sd = mean_and_sd(differences)
    if sd is None:
        return Difference(mean, None, None, None, count)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * sd / count**0.5
    return Difference(mean, mean - half, mean + half, detectable_difference(sd, count), count)


def detectable_difference(sd: float, pairs: int) -> float:
    """The smallest true mean difference δ whose interval lies above 0 with probability `POWER`.

        P(T > t(n - 1, (1 + LEVEL) / 2)) = POWER,  T non-central t with n - 1 degrees of freedom
                                                   and non-centrality δ √n / s_d

    Args:
      sd: s_d of the differences, here the estimate from these very pairs.
      pairs: n ≥ 2.
    """
    freedom = pairs - 1
    limit = stats.t.ppf((1 + LEVEL) / 2, freedom)

    def missing(noncentrality: float) -> float:
        return stats.nct.sf(limit, freedom, noncentrality) - POWER

    return float(optimize.brentq(missing, 0.0, 2 * limit + 10) * sd / pairs**0.5)


def block_bootstrap(
    runs: Sequence[Int[np.ndarray, "blocks 3 k"]],
    references: Sequence[Int[np.ndarray, "blocks 3 k"]],
    draws: int = 2000,
) -> tuple[float, float] | None:
    """The interval of the mean difference in mIoU over other images of the same kind.

    Blocks of neighbouring images are drawn with replacement, the same for all runs, and each draw's
    areas are summed before its mIoU is taken (Künsch 1989, with fixed blocks), as
    `metrics.mean_iou` takes it, but over the classes in the truth of the draw and those that the
    truth of all blocks lacks: a class that only the draw lacks would cost the one that predicts it
    a share of its mIoU. A draw without labels is left out. The trained networks are held fixed:
    other seeds are the matter of `paired_difference`.

    Args:
      runs: summed `metrics.areas` of each run.
      references: of the runs that they are paired with.
      draws: of the bootstrap; its generator starts from 0.

    Returns:
      The quantiles (1 ∓ LEVEL) / 2 of the mean over the pairs; None for fewer than `FEWEST_BLOCKS`
      with labels.
    """
    blocks = len(runs[0])
    if np.any(runs[0][:, 1] > 0, axis=1).sum() < FEWEST_BLOCKS:
        return None
    drawn = np.random.default_rng(0).integers(0, blocks, (draws, blocks))
    weights = np.stack([(drawn == block).sum(1) for block in range(blocks)], axis=1)

    def scores(areas: Int[np.ndarray, "blocks 3 k"]) -> Float[np.ndarray, " draws"]:
        intersection, truth, prediction = np.moveaxis(np.tensordot(weights, areas, 1), 1, 0)
        union = truth + prediction - intersection
        counts = (truth > 0) | ((union > 0) & (areas[:, 1].sum(0) == 0))
        ious = np.sum(intersection / np.maximum(union, 1), axis=1, where=counts)
        classes = counts.sum(1)
        return np.where(classes > 0, ious / np.maximum(classes, 1), np.nan)

    differences = [scores(a) - scores(b) for a, b in zip(runs, references, strict=True)]
    low, high = np.nanquantile(np.mean(differences, 0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
