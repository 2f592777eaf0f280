"""The report of a sweep: `report.md` and `report.html`, made of what is finished."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pals_jax import config as configs
from pals_jax.data import DEV
from pals_jax.files import write_atomically
from pals_jax.sweep import figures, page, statistics, tables
from pals_jax.sweep.plan import Run, Sweep, identity
from pals_jax.sweep.rows import Row
from pals_jax.sweep.runner import failure
from pals_jax.sweep.tables import BySeed, literal, percent

_LABELS = "data.subset"
_OPTIONS = "target.options."
_FIGURES = "figures"
_LOG_LINES = 20
_MOST_PICTURES = 12
_MOST_LINES = 10  # that a figure can tell apart

_HOW_TO_READ = """\
**How to read it.** Runs of one seed share initialisation, labelled images and the order of batches,
so variants are compared pair by pair: *difference* is the mean of (variant − {baseline}) over the
pairs, in points of mIoU, with Student's 95 % interval. An interval that holds 0 shows no
difference; *detectable* is the smallest true difference that so many pairs, with the spread they
have, would show with probability 0.8. Of twenty variants that do nothing, one leaves 0 out by
chance. {subsets}*mIoU* is the mean over all runs of a variant: where it has fewer than {baseline},
only the difference compares the two. *ms per step* is a median, of runs side by side, behind it in
brackets that of the ratios to {baseline} by pairs."""

_CHECKPOINTS = {
    "latest": "that of the last step",
    "best": "the best on images held out of the training split",
}
_ABOUT_SPLIT = {
    DEV: "These images are held out of the training split. ",
    "train": "**The networks were trained on this split.** ",
}
_CHOICE = (
    "Variants stand in the order of the sweep: whoever chooses one by this report has to report it "
    "on other images."
)
_ONE_SUBSET = "All seeds train on the same images: intervals tell nothing of others. "
_OWN_SUBSETS = "Where not all labels are used, each seed has images of its own. "

_OVER_IMAGES = """\
The interval *over images* resamples blocks of {block} neighbouring images and holds the trained
networks fixed: it tells what other images like these could have shown. A class that the truth of a
draw lacks is left out of its mIoU. What another training would show, and so whether a variant is
better, is for the interval over seeds to tell."""

_SEEN = """\
What training saw last, from left to right: the input, the truth, the prediction and the entropy of
the target. Runs of one seed see the same crops."""

_TARGETS = """\
**The targets**: means over the batches of which a picture was drawn in the first → in the last
quarter of training."""


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
        self.sweep, self.runs, self.rows, self.workdir = sweep, runs, rows, workdir
        self.done = [run for run in runs if run.name in rows]
        self.failed = {
            run.name: log
            for run in runs
            if run.name not in rows and (log := failure(workdir / run.name, _LOG_LINES))
        }

    def parts(self) -> list[str]:
        parts = [f"# {literal(self.sweep.title)}", self._state()]
        if self.done:
            parts.append(
                _HOW_TO_READ.format(baseline=literal(self.sweep.baseline), subsets=self._subsets())
            )
            if self.sweep.bootstrap_block:
                parts.append(_OVER_IMAGES.format(block=self.sweep.bootstrap_block))
        for number, condition in enumerate(_distinct(run.condition for run in self.done)):
            parts += self._condition(number, condition)
        parts += [*self._labels(), *self._pictures(), *self._failures()]
        return [*parts, *self._settings(), *self._all_runs()]

    def _state(self) -> str:
        done, failed, config = len(self.done), len(self.failed), self.runs[0].config
        images = sorted({self.rows[run.name]["images"] for run in self.done})
        shown = f", {' or '.join(map(str, images))} images" if images else ""
        checkpoints = {_CHECKPOINTS.get(c, f"that of step {c}") for c in self._checkpoints()}
        about = _ABOUT_SPLIT.get(config.eval.split, "")
        left = len(self.runs) - done - failed
        others = f", {failed} failed" * (failed > 0) + f", {left} still to be run" * (left > 0)
        return (
            f"{done} of {len(self.runs)} runs are finished{others}. Reported: split "
            f"`{config.eval.split}`{shown}, at full resolution; the checkpoint is "
            f"{' or, by variant, '.join(sorted(checkpoints))}. {about}{_CHOICE}"
        )

    def _checkpoints(self) -> set[str]:
        return {run.config.eval.checkpoint for run in self.runs}

    def _subsets(self) -> str:
        """Whether seeds differ in the images that they train or report on; nothing of one seed."""
        of_seeds: dict[str, dict[int, tuple[str, str]]] = {}
        for run in self.done:
            row = self.rows[run.name]
            key = json.dumps([run.variant, run.condition])
            hashes = (row["train_ids_hash"], row["ids_hash"])
            of_seeds.setdefault(key, {})[run.seed] = hashes
        trained, reported = (
            any(len({hashes[i] for hashes in seeds.values()}) > 1 for seeds in of_seeds.values())
            for i in (0, 1)
        )
        if all(len(seeds) < 2 for seeds in of_seeds.values()):
            return ""
        said = _OWN_SUBSETS if trained else _ONE_SUBSET
        return said + "Each seed reports on images of its own. " * reported

    def _condition(self, number: int, condition: dict[str, Any]) -> list[str]:
        """The comparison under one condition."""
        baseline, by_variant = self.sweep.baseline, self._by_variant(condition)
        rows = [row for runs in by_variant.values() for row in runs.values()]
        images = " or ".join(map(str, sorted({row["train_images"] for row in rows})))
        named = f"{_shown(condition)}: " if condition else ""
        parts = [f"## {literal(named)}{images or 'unknown'} labelled images"]
        bootstrap = self.sweep.bootstrap_block > 0
        parts.append(tables.scores(by_variant, baseline, bootstrap=bootstrap))
        if baseline not in by_variant:
            return [*parts, f"No run of {literal(baseline)}, to compare with, is finished yet."]
        parts += _not_compared(by_variant, baseline)
        differences = {
            variant: found
            for variant, runs in by_variant.items()
            if variant != baseline and (found := tables.difference(runs, by_variant[baseline]))
        }
        if differences:
            drawn = figures.differences(differences, baseline)
            parts += [
                self._figure(f"differences_{number}", drawn, "Differences in mIoU by variant"),
                f"**IoU by class**: that of {literal(baseline)}, and the mean differences to it.",
                tables.class_gains(by_variant, baseline),
            ]
        if said := tables.diagnostics(by_variant):
            parts += [_TARGETS, said]
        parts.append(
            "**Reliability**: accuracy against confidence, pooled over the seeds; in grey "
            f"{literal(baseline)}."
        )
        drawn = figures.reliability({v: _bins(runs) for v, runs in by_variant.items()}, baseline)
        parts.append(self._figure(f"reliability_{number}", drawn, "Reliability diagrams"))
        parts.append(
            "**Near contours**: mIoU of the pixels within some distance of a contour of the truth; "
            "bars are one sd over the seeds."
        )
        if len(by_variant) > _MOST_LINES:
            return [*parts, _too_many(len(by_variant))]
        curves = {v: points for v, runs in by_variant.items() if (points := _trimap(runs))}
        if not curves:
            return [*parts, "No image has a contour."]
        xlabel = "distance to a contour of the truth, pixels"
        drawn = figures.curves(curves, xlabel, "mIoU %")
        return [*parts, self._figure(f"contours_{number}", drawn, "mIoU near contours")]

    def _by_variant(self, condition: dict[str, Any]) -> dict[str, dict[int, Row]]:
        found: dict[str, dict[int, Row]] = {}
        for run in self.done:
            if run.condition == condition:
                found.setdefault(run.variant, {})[run.seed] = self.rows[run.name]
        return found

    def _labels(self) -> list[str]:
        """mIoU over the number of labelled images, where that is a condition with several values;
        a figure for each value of the others.
        """
        if _LABELS not in self.sweep.conditions:
            return []
        parts = []
        others = [{k: v for k, v in run.condition.items() if k != _LABELS} for run in self.done]
        for number, other in enumerate(_distinct(others)):
            lines: dict[str, dict[int, list[float]]] = {}
            for run, own in zip(self.done, others, strict=True):
                row = self.rows[run.name]
                if own == other and row["mean_iou"] is not None:
                    scores = lines.setdefault(run.variant, {})
                    scores.setdefault(row["train_images"], []).append(row["mean_iou"])
            lines = {variant: scores for variant, scores in lines.items() if len(scores) > 1}
            if not lines:
                continue
            parts.append(f"## By the number of labels {literal(_shown(other))}".rstrip())
            if len(lines) > _MOST_LINES:
                parts.append(_too_many(len(lines)))
                continue
            points = {
                variant: [(n, *statistics.mean_and_sd(scores[n])) for n in sorted(scores)]
                for variant, scores in lines.items()
            }
            drawn = figures.curves(points, "labelled images", "mIoU %, mean ± sd over seeds")
            parts.append(self._figure(f"labels_{number}", drawn, "mIoU by labels"))
        return parts

    def _pictures(self) -> list[str]:
        """The last training picture of a run of each variant."""
        shown: dict[str, Path] = {}
        for run in self.done:
            if run.variant not in shown:
                panels = sorted((self.workdir / run.name / "panels").glob("step_*.png"))
                if last := next(filter(page.is_intact, reversed(panels)), None):
                    shown[run.variant] = last
        if not shown:
            return []
        parts = ["## Pictures", _SEEN]
        if len(shown) > _MOST_PICTURES:
            parts.append(f"The first {_MOST_PICTURES} of {len(shown)} variants.")
        for variant, panel in list(shown.items())[:_MOST_PICTURES]:
            name = literal(variant)
            parts += [
                f"**{name}**, step {panel.stem.removeprefix('step_').lstrip('0')}",
                self._picture(panel, f"Training picture of {name}"),
            ]
        return parts

    def _failures(self) -> list[str]:
        if not self.failed:
            return []
        parts = [
            "## Failed runs",
            "The same command tries them again: mend the cause first. A run with checkpoints that "
            "is to have other fields begins anew without its folder. The end of each log:",
        ]
        for name, log in self.failed.items():
            parts += [f"**{literal(name)}**", f"```\n{log.replace('```', '‵‵‵')}\n```"]
        return parts

    def _settings(self) -> list[str]:
        """What each variant is, with its target and all options, and what all runs share apart
        from defaults.
        """
        fields: dict[str, dict[str, dict[str, None]]] = {}
        for run in self.runs:
            of_variant = fields.setdefault(run.variant, {})
            decisive = identity(run.config)
            own = {"target.name": run.config.target.name}
            own |= {  # as it was trained with: the seed may have set it anew
                field: decisive.get(field, value)
                for field, value in run.fields.items()
                if not field.startswith(_OPTIONS)
            }
            options = {
                field.removeprefix(_OPTIONS): value
                for field, value in decisive.items()
                if field.startswith(_OPTIONS)
            }
            for field, value in (own | options).items():
                of_variant.setdefault(field, {})[str(value)] = None
        cells = [
            [
                literal(name),
                ", ".join(f"`{field} = {' or '.join(values)}`" for field, values in own.items()),
            ]
            for name, own in fields.items()
        ]
        cells = [[name, text.replace("|", "\\|")] for name, text in cells]
        shared = self._shared()
        return [
            "## Settings",
            f"Options of a target without `{_OPTIONS}` before them:",
            tables.markdown(("variant", "fields"), cells, numbers=False),
            *(
                ["All runs, beside these: " + ", ".join(shared) + "; else the defaults."]
                if shared
                else []
            ),
        ]

    def _shared(self) -> list[str]:
        """Fields that decide what comes out of a run, with one value in all and no default."""
        usual = identity(configs.resolve(configs.default_config()))
        all_fields = [identity(run.config) for run in self.runs]
        return [
            f"`{field} = {value}`"
            for field, value in all_fields[0].items()
            if value != usual.get(field)
            and all(f.get(field) == value for f in all_fields)
            and not field.startswith("target.")
            and not all(field in run.fields for run in self.runs)  # told of each variant
        ]

    def _all_runs(self) -> list[str]:
        lines = []
        for run in self.runs:
            row = self.rows.get(run.name)
            if row is None:
                state = "failed" if run.name in self.failed else "to be run"
                lines.append([literal(run.name), state, "", ""])
                continue
            commit = row["versions"].get("commit") or "unknown"
            score = percent(row["mean_iou"])
            lines.append([literal(run.name), score, str(row["train_images"]), commit])
        header = ("run", "mIoU %", "labelled images", "commit")
        return ["## All runs", tables.markdown(header, lines)]

    def _figure(self, name: str, svg: str, description: str) -> str:
        path = self.workdir / _FIGURES / f"{name}.svg"
        write_atomically(path, svg)
        return self._picture(path, description)

    def _picture(self, path: Path, description: str) -> str:
        return f"![{description}]({quote(os.path.relpath(path, self.workdir))})"


def _distinct(conditions) -> list[dict[str, Any]]:
    """In the order of their first appearance."""
    return [json.loads(text) for text in dict.fromkeys(map(json.dumps, conditions))]


def _shown(condition: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {'all' if v == '' else v}" for k, v in condition.items())


def _not_compared(by_variant: Mapping[str, BySeed], baseline: str) -> list[str]:
    """Tells of variants whose runs have the seeds of the baseline, but not its images."""
    reference = by_variant[baseline]
    apart = [
        literal(variant)
        for variant, runs in by_variant.items()
        if runs.keys() & reference and not tables.pairs(runs, reference)
    ]
    if not apart:
        return []
    return [
        f"Not compared, because their runs have other images than those of {literal(baseline)} "
        f"with the same seed: {', '.join(apart)}."
    ]


def _too_many(count: int) -> str:
    return f"Not drawn: {count} lines could not be told apart. `rows.jsonl` holds the numbers."


def _bins(runs: BySeed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, sum of confidences and right ones of each bin, summed over runs."""
    total: Any = 0
    for row in runs.values():
        bins = row["calibration"]
        count = np.array(bins["count"], float)
        means = (np.array(bins[name], float) for name in ("confidence", "accuracy"))
        total = total + np.array([count, *(np.where(count > 0, m, 0) * count for m in means)])
    return total[0], total[1], total[2]


def _trimap(runs: BySeed) -> list[tuple[float, float, float | None]]:
    """(width, mean, sd) of the mIoU within each width, where it is known."""
    points: list[tuple[float, float, float | None]] = []
    for width in sorted(next(iter(runs.values()))["trimap"], key=int):
        known = [v for row in runs.values() if (v := row["trimap"][width]) is not None]
        if known:
            points.append((int(width), *statistics.mean_and_sd(known)))
    return points
