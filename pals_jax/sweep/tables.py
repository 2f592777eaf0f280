"""Tables of a report: how the runs of a variant are summed up and compared."""

import functools
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pals_jax.sweep import statistics
from pals_jax.sweep.rows import Row, differ
from pals_jax.sweep.statistics import Difference

BySeed = Mapping[int, Row]


_SAME = ("ids_hash", "train_ids_hash", "data_hash", "train_data_hash")

# What the diagnostics of targets mean, by the name that is logged.
_MEANINGS = {
    "target_entropy": "entropy of the soft labels, in nats",
    "effective_sources": "exp of the entropy of the affinity of a cell: how many cells serve it",
    "true_class_weight": "share of that affinity on cells of its own label",
    "kl_to_frequencies": "KL of q from the class frequencies of its image, in nats",
    "q_agreement": "how often argmax q is the label",
}


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """A Markdown table; with `numbers` all but the first column are set to the right."""
    rule = ["---", *(["---:" if numbers else "---"] * (len(header) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *lines))


def literal(name: Any) -> str:
    """A name as Markdown shows it, whatever it contains."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(str(name)))


def percent(share: float | None) -> str:
    """With one decimal; n/a for what nothing was counted for."""
    return "n/a" if share is None else f"{100 * share:.1f}"


def points(difference: float) -> str:
    """In points, signed, with one decimal; nothing is -0.0."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}".replace("-", "−")


def pairs(runs: BySeed, reference: BySeed) -> list[tuple[Row, Row]]:
    """Runs of one seed that were trained and reported on the same images."""
    return [
        (runs[seed], reference[seed])
        for seed in sorted(runs.keys() & reference)
        if not any(differ(runs[seed], reference[seed], key) for key in _SAME)
    ]


def difference(runs: BySeed, reference: BySeed, *score: str) -> Difference | None:
    """The paired difference in a score, by default the mIoU; None without a pair.

    Args:
      runs: of a variant.
      reference: those of the baseline.
      *score: the keys that lead to it in a row, as "iou", "pole".
    """
    keys = score or ("mean_iou",)

    def of(row: Any) -> Any:
        return functools.reduce(dict.get, keys, row)

    both = [(of(own), of(other)) for own, other in pairs(runs, reference)]
    found = [a - b for a, b in both if a is not None and b is not None]
    return statistics.paired_difference(found) if found else None


def scores(by_variant: Mapping[str, BySeed], baseline: str, *, bootstrap: bool) -> str:
    """One line per variant: scores, the difference to the baseline in mIoU, and the cost."""
    header = ["variant", "mIoU %", "difference, points", "95 % interval", "detectable"]
    header += ["95 % interval over images"] * bootstrap
    header += ["runs", "pairs", "boundary IoU %", "ECE %", "NLL", "Brier", "ms per step"]
    lines = []
    for variant, runs in by_variant.items():
        reference = {} if variant == baseline else by_variant.get(baseline, {})
        found = difference(runs, reference)
        line = [literal(variant), _mean_and_sd(runs, "mean_iou"), *_compared(found)]
        if bootstrap:
            line.append(_over_images(pairs(runs, reference)))
        line += [str(len(runs)), str(found.pairs) if found else ""]
        line += [_mean_and_sd(runs, score) for score in ("mean_boundary_iou", "ece")]
        line += [_mean_and_sd(runs, score, digits=3) for score in ("nll", "brier")]
        lines.append([*line, _cost(runs, reference)])
    return markdown(header, lines)


def class_gains(by_variant: Mapping[str, BySeed], baseline: str) -> str:
    """The IoU of each class of the baseline, and the mean paired differences to it, in points."""
    reference = by_variant[baseline]
    classes = list(next(iter(reference.values()))["iou"])
    of_baseline = [
        percent(_mean_of(row["iou"].get(name) for row in reference.values())) for name in classes
    ]
    lines = [[f"{literal(baseline)}, IoU %", *of_baseline]]
    for variant, runs in by_variant.items():
        if variant != baseline:
            gains = [difference(runs, reference, "iou", name) for name in classes]
            cells = ["n/a" if gain is None else points(gain.mean) for gain in gains]
            lines.append([literal(variant), *cells])
    return markdown(["variant", *map(literal, classes)], lines)


def diagnostics(by_variant: Mapping[str, BySeed]) -> str | None:
    """What the targets logged of themselves: the means over the first and the last quarter of the
    steps, or over the last alone where pictures were drawn more rarely; then what it means. None
    where no target says more than its entropy.
    """
    names: dict[str, None] = {}
    lines = []
    for variant, runs in by_variant.items():
        found = [line for row in runs.values() for line in row["diagnostics"]]
        names |= dict.fromkeys(name for line in found for name in line if name != "step")
        last = max((line["step"] for line in found), default=0)
        early, late = (
            [line for line in found if low < line["step"] <= high]
            for low, high in ((0, last / 4), (3 * last / 4, last))
        )
        lines.append((variant, early, late))
    if len(names) < 2:
        return None

    def cell(early: list[Row], late: list[Row], name: str) -> str:
        both = [_mean_of(line.get(name) for line in part) for part in (early, late)]
        shown = ["" if value is None else f"{value:.4g}" for value in both]
        return " → ".join(shown).strip() if any(shown) else ""

    of_target = [name.removeprefix("target/") for name in names]
    table = markdown(
        ["variant", *(name.replace("_", " ") for name in of_target)],
        [
            [literal(variant), *(cell(early, late, name) for name in names)]
            for variant, early, late in lines
        ],
    )
    meanings = [
        f"{name.replace('_', ' ')}: {_MEANINGS[name]}" for name in of_target if name in _MEANINGS
    ]
    return f"{table}\n\n{'; '.join(meanings)}."


def _compared(found: Difference | None) -> list[str]:
    """The difference, its interval and what would be seen."""
    if found is None:
        return ["", "", ""]
    if found.low is None or found.high is None or found.detectable is None:
        return [points(found.mean), "", ""]
    interval = f"{points(found.low)} to {points(found.high)}"
    return [points(found.mean), interval, f"{100 * found.detectable:.1f}"]


def _over_images(both: Sequence[tuple[Row, Row]]) -> str:
    both = [pair for pair in both if None not in (row["mean_iou"] for row in pair)]
    if not both:
        return ""
    own, other = (
        [np.array(row["block_areas"]) for row in rows] for rows in zip(*both, strict=True)
    )
    interval = statistics.block_bootstrap(own, other)
    return "too few blocks" if interval is None else " to ".join(map(points, interval))


def _mean_and_sd(runs: BySeed, score: str, digits: int | None = None) -> str:
    """In percent, or with so many digits."""
    values = [row[score] for row in runs.values() if row[score] is not None]
    if not values:
        return "n/a"
    mean, sd = statistics.mean_and_sd(values)

    def shown(value: float) -> str:
        return f"{100 * value:.1f}" if digits is None else f"{value:.{digits}f}"

    return shown(mean) + ("" if sd is None else f" ± {shown(sd)}")


def _mean_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _cost(runs: BySeed, reference: BySeed) -> str:
    """Milliseconds per step, and the ratio to the reference over the pairs."""
    known = [row["seconds_per_step"] for row in runs.values() if row["seconds_per_step"]]
    if not known:
        return ""
    both = [(a["seconds_per_step"], b["seconds_per_step"]) for a, b in pairs(runs, reference)]
    ratios = [a / b for a, b in both if a and b]
    return f"{1000 * np.median(known):.0f}" + (f" ({np.median(ratios):.2f}×)" if ratios else "")
