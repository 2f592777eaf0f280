"""What is kept of each finished run: one JSON line, from which every report is made.

A line is made of the files of the run alone. With `rows.jsonl` a sweep can be reported, and gone on
with, where the folders of its runs are no longer.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pals_jax import config as configs
from pals_jax.config import default_config
from pals_jax.errors import ConfigError
from pals_jax.files import append_line, json_lines
from pals_jax.sweep.plan import Run, identity
from pals_jax.workdir import is_held

FILE = "rows.jsonl"

# Fields of `data` that choose among the images of a split, or say how they are shown in training.
_OF_A_RUN = (
    *("data.subset", "data.subset_seed", "data.dev", "data.crop_size", "data.scale", "data.flip"),
    *("data.photometric", "data.downsample", "data.label_downsampling"),
)

_CHOOSING = ("data.subset", "data.subset_seed", "data.dev")  # of these

_SCORE = int | float | None  # None where nothing was counted

_AREAS = [[[int]]]  # [images,3,K] or [blocks,3,K]

# What a report reads of a row: a type, [the form of each item], {key: form, …}, and behind the key
# `str` the form of every value.
_ROW: dict[str, Any] = {
    **{"name": str, "config": dict, "block": int, "seconds_per_step": _SCORE},
    **dict.fromkeys(("mean_iou", "mean_boundary_iou", "ece", "nll", "brier"), _SCORE),
    "iou": {str: _SCORE},
    "trimap": {str: _SCORE},
    "calibration": {"count": [int | float], "confidence": [_SCORE], "accuracy": [_SCORE]},
    **dict.fromkeys(("images", "train_images"), int),
    **dict.fromkeys(("ids_hash", "train_ids_hash"), str),
    "versions": {str: str | None},
    "diagnostics": [{"step": int, str: _SCORE}],
}

Row = dict[str, Any]


def of_run(run: Run, folder: Path, block: int) -> Row:
    """The row of a finished run.

    Args:
      run: its plan.
      folder: its work directory.
      block: images whose areas are summed, see `Sweep.bootstrap_block`; 0 = none are kept.

    Returns:
      What `result.json` holds, and: name, variant, seed; "config", see `identity`;
      "seconds_per_step", the median over the log, of a process that shares the machine with the
      other runs; "diagnostics", those of the target by step; "block" and "block_areas"
      [blocks,3,K], sums of `metrics.areas`.

    Raises:
      ConfigError: a file of the run is missing or damaged, or the folder holds another run.
    """
    saved = configs.load(folder / "config.json")
    if different := configs.differences(identity(saved), identity(run.config)):
        raise ConfigError(
            f"{folder} holds a run that differs in {different} (trained with, asked for): remove "
            "it, or use another --workdir"
        )
    try:
        result = json.loads((folder / "result.json").read_text())
        log = json_lines(folder / "metrics.jsonl")
        areas = [image["areas"] for image in json_lines(folder / "per_image.jsonl")]
        rates = [line["steps_per_second"] for line in log if line.get("steps_per_second")]
        row: Row = {"name": run.name, "variant": run.variant, "config": identity(run.config)}
        if not isinstance(result, dict):
            raise ValueError(f"result.json holds {result!r:.80}")
        row = row | result | row  # what the sweep knows stands first, and wins
        row["seconds_per_step"] = 1 / statistics.median(rates) if rates else None
        row["diagnostics"] = [
            line
            for line in log
            if "step" in line and any(name.startswith("target/") for name in line)
        ]
        row["block"] = block
        if wrong := _wrong(row, _ROW):
            raise ValueError(f"in its files {', '.join(wrong)} is missing or damaged")
        expected = (row["images"], 3, len(row["iou"]))
        if not _fits(areas, _AREAS) or np.shape(areas) != expected:
            raise ValueError(f"the areas in per_image.jsonl are not whole numbers {expected}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is damaged ({error!r}): remove it, and the same command trains it again"
        ) from error
    if block:
        starts = range(0, len(areas), block)
        row["block_areas"] = [np.sum(areas[i : i + block], axis=0).tolist() for i in starts]
    return row


def require_same_data(run: Run, row: Row, folder: Path, others: Iterable[tuple[Run, Row]]) -> None:
    """Refuses a row of other images or labels than the rows beside it, where both name one split,
    and of other labelled images, where both name one subset.

    Args:
      run: that has just finished.
      row: of the run.
      folder: of the run.
      others: runs of the sweep that are finished, with their rows.

    Raises:
      ConfigError: naming a run that differs.
    """
    chosen = configs.fields(run.config)
    for other_run, other in others:
        if _split(other["config"]) != _split(row["config"]):
            continue
        keys = ["data_hash", "train_data_hash"]
        # Rows have the names of lists alone, which may lie in several folders.
        other_chosen = configs.fields(other_run.config)
        if all(other_chosen[field] == chosen[field] for field in _CHOOSING):
            keys.append("train_ids_hash")
        for key in keys:
            if differ(row, other, key):
                which = "reported on" if key == "data_hash" else "trained on"
                raise ConfigError(
                    f"the images that {row['name']} was {which}, or their labels, are not those of "
                    f"{other['name']} ({key} {row[key]}, {other[key]}): restore them and remove "
                    f"{folder}, or use another --workdir for other data"
                )


def differ(row: Row, other: Row, key: str) -> bool:
    """Whether two rows have different values; rows of earlier versions lack some."""
    return None not in (row.get(key), other.get(key)) and row[key] != other[key]


def _split(config: dict[str, Any]) -> dict[str, Any]:
    """The fields that say which splits are meant, of those of `identity`."""
    kept = {k: v for k, v in config.items() if k.startswith("data.") and k not in _OF_A_RUN}
    return kept | {"eval.split": config.get("eval.split")}


def append(row: Row, workdir: Path) -> None:
    """Adds a row to the file of a sweep, on the disk when this returns."""
    append_line(workdir / FILE, json.dumps(row))


def read(runs: Sequence[Run], workdir: Path, block: int) -> dict[str, Row]:
    """The rows of finished runs by name; what is not a row, as a half-written line, is left out,
    and told where it has the name of a run.

    Fields that a later version added have in them the default that changes nothing.

    Raises:
      ConfigError: a run of this name finished with another configuration, or another `block`.
    """
    path = workdir / FILE
    if not path.exists():
        return {}
    lines = json_lines(path)
    found = {line["name"]: line for line in lines if not _missing(line)}
    rows = {run.name: found[run.name] for run in runs if run.name in found}
    for line in lines:
        named = [run.name for run in runs if run.name == line.get("name")]
        if named and named[0] not in rows:
            missing = ", ".join(_missing(line))
            print(f"{path}: a line of {named[0]} is left out: {missing} is missing or damaged")
    defaults = identity(default_config())
    for run in runs:
        if run.name in rows:
            row, known = rows[run.name], identity(run.config)
            row["config"] = {k: v for k, v in defaults.items() if k in known} | row["config"]
            different = configs.differences(row["config"], known)
            if row["block"] != block:
                different["bootstrap_block"] = (row["block"], block)
            if different:
                raise ConfigError(
                    f"{path}: {run.name} is finished, but now differs in {different} (finished "
                    "with, asked for). Ask for the former, or use another --workdir"
                )
    return rows


def has_finished(folder: Path) -> bool:
    """Whether a folder holds the result of a run, and nobody trains there."""
    return (folder / "result.json").exists() and not is_held(folder)


def _missing(line: Row) -> list[str]:
    """What a line lacks to be a row, or has in another form."""
    return _wrong(line, _ROW | ({"block_areas": _AREAS} if line.get("block") else {}))


def _wrong(found: Row, form: dict[Any, Any]) -> list[str]:
    """The keys that lack, or whose value has another form."""
    return [key for key in form if key not in found or not _fits(found[key], form[key])]


def _fits(value: Any, form: Any) -> bool:
    """Whether a JSON value has a form, see `_ROW`."""
    if isinstance(form, list):
        return isinstance(value, list) and all(_fits(item, form[0]) for item in value)
    if not isinstance(form, dict):
        return isinstance(value, form)
    if not isinstance(value, dict) or not value:
        return False
    named = {key: form[key] for key in form if key is not str}
    every = form.get(str, object)
    return not _wrong(value, named) and all(_fits(item, every) for item in value.values())
