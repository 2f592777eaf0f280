"""Figures of a report, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from pals_jax.sweep.statistics import Difference

_COLUMNS = 3  # of small multiples
_MARKERS = "osD^vP*X<>"

# Text stays text, to be searched and read aloud, and equal figures are equal files.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pals_jax",
    "text.parse_math": False,
    "font.size": 9,
}
_WIDTH = 5.5  # inches: on a phone, text of that width can still be read


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def differences(by_variant: Mapping[str, Difference], baseline: str) -> str:
    """Paired differences in mIoU with their intervals, one line per variant, in points."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.6 + 0.28 * len(by_variant)))
        axes = figure.subplots()
        for row, difference in enumerate(by_variant.values()):
            colour = "C0" if difference.is_seen else "0.45"
            if difference.low is not None and difference.high is not None:
                ends = 100 * difference.low, 100 * difference.high
                axes.plot(ends, (row, row), color=colour, linewidth=2)
            axes.plot(100 * difference.mean, row, "o", color=colour)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(by_variant)), list(by_variant))
        axes.set_ylim(len(by_variant) - 0.5, -0.5)
        axes.set_xlabel(f"mIoU − that of {baseline}, points; mean and 95 % interval over seeds")
        axes.grid(axis="x", color="0.9")
        return _svg(figure)


def curves(
    points: Mapping[str, Sequence[tuple[float, float, float | None]]], xlabel: str, ylabel: str
) -> str:
    """A line per variant through (x, mean, sd) on a logarithmic x; bars of one sd.

    Args:
      points: by variant, in the order of x.
      xlabel: names x.
      ylabel: names the means, which are shown in percent.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 4))
        axes = figure.subplots()
        ticks = sorted({x for line in points.values() for x, _, _ in line})
        for number, (variant, line) in enumerate(points.items()):
            x, means, sds = zip(*line, strict=True)
            axes.errorbar(
                # Set apart by 1 %, so that bars do not cover each other.
                np.array(x) * 1.01 ** (number - len(points) / 2),
                100 * np.array(means),
                [100 * (sd or 0) for sd in sds],
                marker=_MARKERS[number % len(_MARKERS)],
                capsize=3,
                label=variant,
            )
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.grid(color="0.9")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
        return _svg(figure)


def reliability(
    by_variant: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], baseline: str
) -> str:
    """Accuracy against confidence, one small picture per variant with the baseline in grey.

    Args:
      by_variant: pixels, sum of confidences and number of right ones [bins] of each variant.
      baseline: one of the variants.
    """
    with mpl.rc_context(_STYLE):
        rows = -(-len(by_variant) // _COLUMNS)
        figure = Figure(figsize=(_WIDTH, 2 * rows))
        grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(by_variant) :]:
            axes.remove()
        for axes, (variant, sums) in zip(grid.flat, by_variant.items(), strict=False):
            axes.plot((0, 1), (0, 1), ":", color="black", linewidth=0.8)
            if variant != baseline:
                axes.plot(*_line(by_variant[baseline]), color="0.7", label=baseline)
            axes.plot(*_line(sums), "o-", markersize=3)
            axes.set_title(variant, fontsize=7)
            axes.set_aspect("equal")
        figure.supxlabel("confidence", fontsize=9)
        figure.supylabel("accuracy", fontsize=9)
        figure.tight_layout()
        return _svg(figure)


def _line(sums: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean confidence and accuracy of the bins that hold a pixel."""
    pixels, confidence, correct = sums
    filled = pixels > 0
    return confidence[filled] / pixels[filled], correct[filled] / pixels[filled]
