"""The report of a sweep: `report.md` and `report.html`, made of what is finished."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pals_jax.data import DEV
from pals_jax.files import write_atomically
from pals_jax.sweep import figures, page, statistics, tables
from pals_jax.sweep.plan import Run, Sweep
from pals_jax.sweep.rows import Row
from pals_jax.sweep.runner import failure

_FIGURES = "figures"
_LOG_LINES = 20
_MOST_PICTURES = 12
_MOST_LINES = 10  # that a figure can tell apart

_HOW_TO_READ = """\
**How to read it.** Runs of one seed share subset, initialisation and batches, so variants are
compared pair by pair: *difference* is the mean of (variant - {baseline}) over the seeds, in points
of mIoU, with Student's 95 % interval. An interval that holds 0 shows no difference; *detectable* is
the smallest true difference that this number of pairs, with the spread they have, would show with
probability 0.8. Of twenty variants that do nothing, one leaves 0 out by chance. Times per step come
from runs side by side: orders of magnitude."""

_OVER_IMAGES = """\
The interval *over images* resamples blocks of {block} neighbouring images and holds the trained
networks fixed: it tells what other images like these could have shown."""


def write(sweep: Sweep, runs: Sequence[Run], rows: Mapping[str, Row], workdir: Path) -> None:
    """Writes the report; what lacks a finished run is left out.

    Args:
      sweep: what was asked.
      runs: all of them, in its order.
      rows: of those that are finished, by name.
      workdir: of the sweep.
    """
    (workdir / _FIGURES).mkdir(exist_ok=True)
    text = "\n\n".join(_Report(sweep, runs, rows, workdir).parts()) + "\n"
    write_atomically(workdir / "report.md", text)
    write_atomically(workdir / "report.html", page.render(text, sweep.title, workdir))


class _Report:
    """The paragraphs of one report, in Markdown."""

    def __init__(self, sweep: Sweep, runs: Sequence[Run], rows: Mapping[str, Row], workdir: Path):
        self.sweep, self.runs, self.workdir = sweep, runs, workdir
        self.rows = {run.name: rows[run.name] for run in runs if run.name in rows}
        self.failed = {
            run.name: log
            for run in runs
            if run.name not in rows and (log := failure(workdir / run.name, _LOG_LINES))
        }

    def parts(self) -> list[str]:
        parts = [f"# {self.sweep.title}", self._state()]
        if self.rows:
            parts.append(_HOW_TO_READ.format(baseline=self.sweep.baseline))
            if self.sweep.bootstrap_block:
                parts.append(_OVER_IMAGES.format(block=self.sweep.bootstrap_block))
        conditions: list[dict[str, Any]] = []
        for row in self.rows.values():
            if row["condition"] not in conditions:
                conditions.append(row["condition"])
        for number, condition in enumerate(conditions):
            parts += self._condition(number, condition)
        return [*parts, *self._labels(), *self._pictures(), *self._failures(), *self._all_runs()]

    def _state(self) -> str:
        done, failed, config = len(self.rows), len(self.failed), self.runs[0].config
        images = {row["images"] for row in self.rows.values()}
        shown = f", {min(images)} images" if images else ""
        checkpoint = {
            "latest": "that of the last step",
            "best": "the best on images held out of the training split",
        }.get(config.eval.checkpoint, f"that of step {config.eval.checkpoint}")
        chosen = "Nothing was chosen on these images: variants stand in the order of the sweep."
        if config.eval.split == DEV:
            chosen = "These images are held out to choose on: report what was chosen on others."
        return (
            f"{done} of {len(self.runs)} runs are finished, {failed} failed, "
            f"{len(self.runs) - done - failed} are still to be run. Reported: split "
            f"`{config.eval.split}`{shown}, at full resolution; the checkpoint is {checkpoint}. "
            f"{chosen}"
        )

    def _condition(self, number: int, condition: dict[str, Any]) -> list[str]:
        """The comparison under one condition."""
        baseline = self.sweep.baseline
        by_variant = self._by_variant(condition)
        images = sorted({row["train_images"] for rows in by_variant.values() for row in rows})
        named = ", ".join(f"{field} = {value or 'all'}" for field, value in condition.items())
        labelled = f"{' or '.join(map(str, images))} labelled images"
        parts = [f"## {named}: {labelled}" if named else f"## {labelled.capitalize()}"]
        bootstrap = self.sweep.bootstrap_block > 0
        parts.append(tables.scores(by_variant, baseline, bootstrap=bootstrap))
        if baseline not in by_variant:
            return [*parts, f"No run of {baseline}, to compare with, is finished yet."]
        differences = {
            variant: found
            for variant, rows in by_variant.items()
            if variant != baseline and (found := tables.difference(rows, by_variant[baseline]))
        }
        if differences:
            drawn = figures.differences(differences, baseline)
            parts += [
                self._figure(f"differences_{number}", drawn, "Differences in mIoU by variant"),
                f"**IoU by class**: that of {baseline}, and the mean differences to it in points.",
                tables.class_gains(by_variant, baseline),
            ]
        parts.append("**Reliability**: accuracy against confidence, pooled over the seeds.")
        drawn = figures.reliability({v: _bins(r) for v, r in by_variant.items()}, baseline)
        parts.append(self._figure(f"reliability_{number}", drawn, "Reliability diagrams"))
        if len(by_variant) <= _MOST_LINES:
            parts.append("**Near contours**: mIoU of the pixels within so many pixels of one.")
            drawn = figures.curves(
                {variant: _trimap(rows) for variant, rows in by_variant.items()},
                "distance to a contour of the truth, pixels",
                "mIoU %",
            )
            parts.append(self._figure(f"contours_{number}", drawn, "mIoU near contours"))
        return parts

    def _by_variant(self, condition: dict[str, Any]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in self.rows.values():
            if row["condition"] == condition:
                found.setdefault(row["variant"], []).append(row)
        return found

    def _labels(self) -> list[str]:
        """mIoU over the number of labelled images, where there are several."""
        lines: dict[str, dict[int, list[float]]] = {}
        for row in self.rows.values():
            scores = lines.setdefault(row["variant"], {})
            scores.setdefault(row["train_images"], []).append(row["mean_iou"])
        lines = {variant: scores for variant, scores in lines.items() if len(scores) > 1}
        if not lines or len(lines) > _MOST_LINES:
            return []
        points = {
            variant: [(count, *statistics.mean_and_sd(scores[count])) for count in sorted(scores)]
            for variant, scores in lines.items()
        }
        drawn = figures.curves(points, "labelled images", "mIoU %, mean ± sd over seeds")
        return ["## By the number of labels", self._figure("labels", drawn, "mIoU by labels")]

    def _pictures(self) -> list[str]:
        """The last training picture of a run of each variant."""
        shown: dict[str, Path] = {}
        for run in self.runs:
            panels = sorted((self.workdir / run.name / "panels").glob("*.png"))
            if run.name in self.rows and panels:
                shown.setdefault(run.variant, panels[-1])
        if not shown:
            return []
        parts = ["## Pictures", "What training saw last: runs of one seed see the same crops."]
        for variant, panel in list(shown.items())[:_MOST_PICTURES]:
            parts += [f"**{variant}**", self._picture(panel, f"Training picture of {variant}")]
        return parts

    def _failures(self) -> list[str]:
        if not self.failed:
            return []
        parts = ["## Failed runs", "The same command tries them again. The end of each log:"]
        for name, log in self.failed.items():
            parts += [f"**{name}**", f"```\n{log.replace('```', '‵‵‵')}\n```"]
        return parts

    def _all_runs(self) -> list[str]:
        lines = []
        for run in self.runs:
            row = self.rows.get(run.name)
            if row is None:
                lines.append(
                    [run.name, "failed" if run.name in self.failed else "to be run", "", ""]
                )
                continue
            commit = row["versions"]["commit"] or "unknown"
            lines.append([run.name, f"{100 * row['mean_iou']:.1f}", row["ids_hash"], commit])
        header = ("run", "mIoU %", "hash of the ids reported on", "commit")
        return ["## All runs", tables.markdown(header, lines)]

    def _figure(self, name: str, svg: str, description: str) -> str:
        path = self.workdir / _FIGURES / f"{name}.svg"
        write_atomically(path, svg)
        return self._picture(path, description)

    def _picture(self, path: Path, description: str) -> str:
        return f"![{description}]({quote(os.path.relpath(path, self.workdir))})"


def _bins(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, sum of confidences and right ones of each bin, summed over runs."""
    total = np.zeros((3, len(rows[0]["calibration"]["count"])))
    for row in rows:
        bins = row["calibration"]
        count = np.array(bins["count"], float)
        means = (np.array(bins[name], float) for name in ("confidence", "accuracy"))
        total += [count, *(np.where(count > 0, mean, 0) * count for mean in means)]
    return total[0], total[1], total[2]


def _trimap(rows: Sequence[Row]) -> list[tuple[float, float, float | None]]:
    """(width, mean, sd) of the mIoU within each width."""
    widths = sorted(rows[0]["trimap"], key=int)
    return [
        (int(width), *statistics.mean_and_sd([row["trimap"][width] for row in rows]))
        for width in widths
    ]
