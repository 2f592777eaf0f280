"""What may be concluded from a few runs: differences by pairs, their intervals, and what so many
runs can detect at all.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from pals_jax import metrics

LEVEL = 0.95
POWER = 0.8


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


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float]
) -> Difference | None:
    """The mean of value - reference over the seeds that both have, with Student's t interval.

        d̄ ± t(n - 1, (1 + LEVEL) / 2) · s_d / √n

    Args:
      values: by seed.
      reference: likewise.

    Returns:
      None without a common seed.
    """
    differences = np.array([values[s] - reference[s] for s in sorted(values.keys() & reference)])
    count = len(differences)
    if not count:
        return None
    mean, sd = mean_and_sd(differences.tolist())
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
    runs: Sequence[np.ndarray], references: Sequence[np.ndarray], draws: int = 2000
) -> tuple[float, float]:
    """The interval of the mean difference in mIoU over other images of the same kind.

    Blocks of neighbouring images are drawn with replacement, the same for all runs, and each draw's
    areas are summed before its mIoU is taken (Künsch 1989, with fixed blocks). It holds the
    trained networks fixed: other seeds are the matter of `paired_difference`.

    Args:
      runs: [blocks,3,K] summed `metrics.areas` of each run.
      references: of the runs that they are paired with.
      draws: of the bootstrap; its generator starts from 0.

    Returns:
      The quantiles (1 ∓ LEVEL) / 2 of the mean over the pairs.
    """
    generator = np.random.default_rng(0)
    blocks = len(runs[0])
    differences = []
    for _ in range(draws):
        drawn = generator.integers(0, blocks, blocks)
        weights = np.bincount(drawn, minlength=blocks)
        own, other = (
            [
                metrics.mean_of_occurring(metrics.overlap(*np.tensordot(weights, run, 1)))
                for run in some
            ]
            for some in (runs, references)
        )
        differences.append(np.mean(own) - np.mean(other))
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
