"""Tables of a report: how the runs of a variant are summed up and compared."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pals_jax.sweep import statistics
from pals_jax.sweep.rows import Row
from pals_jax.sweep.statistics import Difference

Rows = Sequence[Row]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


def scores(by_variant: Mapping[str, Rows], baseline: str, *, bootstrap: bool) -> str:
    """One line per variant: scores, the difference to the baseline in mIoU, and the cost."""
    header = ["variant", "runs", "mIoU %", "difference", "95 % interval", "detectable"]
    header += ["95 % interval over images"] * bootstrap
    header += ["boundary IoU %", "ECE %", "NLL", "Brier", "ms per step"]
    reference = by_variant.get(baseline, ())
    lines = []
    for variant, rows in by_variant.items():
        compared = () if variant == baseline else reference
        line = [variant, str(len(rows)), _mean_and_sd(rows, "mean_iou"), *_compared(rows, compared)]
        if bootstrap:
            line.append(_over_images(rows, compared))
        line += [_mean_and_sd(rows, field) for field in ("mean_boundary_iou", "ece")]
        line += [f"{_mean(rows, field):.3f}" for field in ("nll", "brier")]
        lines.append([*line, _cost(rows, compared)])
    return markdown(header, lines)


def class_gains(by_variant: Mapping[str, Rows], baseline: str) -> str:
    """The mean paired difference in IoU of each class, in points."""
    reference = by_variant[baseline]
    classes = list(reference[0]["iou"])
    lines = []
    for variant, rows in by_variant.items():
        if variant == baseline:
            cells = [_mean_and_sd([row["iou"] for row in rows], name) for name in classes]
            lines.append([f"{variant}, IoU %", *cells])
            continue
        gains = [
            statistics.paired_difference(
                _by_seed(rows, "iou", name), _by_seed(reference, "iou", name)
            )
            for name in classes
        ]
        lines.append(
            [variant, *("" if gain is None else f"{100 * gain.mean:+.1f}" for gain in gains)]
        )
    return markdown(["variant", *classes], lines)


def _gain(rows: Rows, reference: Rows, name: str) -> str:
    own, other = (_by_seed(some, "iou", name) for some in (rows, reference))
    found = statistics.paired_difference(own, other)
    return "" if found is None else f"{100 * found.mean:+.1f}"


def difference(rows: Rows, reference: Rows) -> Difference | None:
    """The paired difference in mIoU; None without a common seed."""
    return statistics.paired_difference(_by_seed(rows, "mean_iou"), _by_seed(reference, "mean_iou"))


def _by_seed(rows: Rows, field: str, name: str | None = None) -> dict[int, float]:
    """A score by seed, where it is known."""
    values = {row["seed"]: row[field] if name is None else row[field][name] for row in rows}
    return {seed: value for seed, value in values.items() if value is not None}


def _compared(rows: Rows, reference: Rows) -> list[str]:
    found = difference(rows, reference)
    if found is None:
        return ["", "", ""]
    if found.low is None or found.high is None or found.detectable is None:
        return [f"{100 * found.mean:+.1f}", "one pair", ""]
    interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    return [f"{100 * found.mean:+.1f}", interval, f"{100 * found.detectable:.1f}"]


def _over_images(rows: Rows, reference: Rows) -> str:
    blocks, others = (
        {row["seed"]: np.array(row["block_areas"]) for row in some} for some in (rows, reference)
    )
    seeds = sorted(blocks.keys() & others)
    if not seeds:
        return ""
    low, high = statistics.block_bootstrap([blocks[s] for s in seeds], [others[s] for s in seeds])
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def _mean_and_sd(rows: Sequence[Mapping], field: str) -> str:
    """In percent."""
    values = [row[field] for row in rows if row[field] is not None]
    if not values:
        return "n/a"
    mean, sd = statistics.mean_and_sd(values)
    return f"{100 * mean:.1f}" + ("" if sd is None else f" ± {100 * sd:.1f}")


def _mean(rows: Rows, field: str) -> float:
    return float(np.mean([row[field] for row in rows if row[field] is not None] or [np.nan]))


def _cost(rows: Rows, reference: Rows) -> str:
    """Milliseconds per step, and the ratio to the reference over the common seeds."""
    seconds, others = (_by_seed(some, "seconds_per_step") for some in (rows, reference))
    if not seconds:
        return ""
    shown = f"{1000 * np.median(list(seconds.values())):.0f}"
    if common := seconds.keys() & others:
        shown += f" ({np.median([seconds[s] / others[s] for s in common]):.2f}×)"
    return shown
