"""What is kept of each finished run: one JSON line, from which every report is made.

A line is made of the files of the run alone. With `rows.jsonl` a sweep can be reported, and gone on
with, where the folders of its runs are no longer.
"""

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pals_jax import config as configs
from pals_jax.config import default_config
from pals_jax.errors import ConfigError
from pals_jax.files import json_lines
from pals_jax.sweep.plan import Run, identity
from pals_jax.workdir import is_held

FILE = "rows.jsonl"

# Fields of `data` that choose among the images of a split, or say how they are shown in training.
_OF_A_RUN = (
    *("data.subset", "data.subset_seed", "data.dev", "data.crop_size", "data.scale", "data.flip"),
    *("data.photometric", "data.downsample", "data.label_downsampling"),
)

# What a report reads of a result.
_NEEDED = {
    *("mean_iou", "iou", "mean_boundary_iou", "ece", "nll", "brier", "trimap", "calibration"),
    *("images", "ids_hash", "train_images", "train_ids_hash", "versions"),
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
        row |= result
        row["seconds_per_step"] = 1 / statistics.median(rates) if rates else None
        if lacking := _NEEDED - row.keys():
            raise ValueError(f"result.json lacks {sorted(lacking)}")
        if len(areas) != row["images"]:
            raise ValueError(f"per_image.jsonl has {len(areas)} images of {row['images']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is damaged ({error!r}): remove it, and the same command trains it again"
        ) from error
    row["diagnostics"] = [line for line in log if any(name.startswith("target/") for name in line)]
    row["block"] = block
    if block:
        starts = range(0, len(areas), block)
        row["block_areas"] = [np.sum(areas[i : i + block], axis=0).tolist() for i in starts]
    return row


def require_same_data(row: Row, folder: Path, others: Iterable[Row]) -> None:
    """Refuses a row of other images or labels than the rows beside it, where both name one split.

    Args:
      row: of a run that has just finished.
      folder: of the run.
      others: rows of the sweep.

    Raises:
      ConfigError: naming a run that differs.
    """
    for other in others:
        if _split(other["config"]) != _split(row["config"]):
            continue
        for key in ("data_hash", "train_data_hash"):
            hashes = {row.get(key), other.get(key)}
            if len(hashes) > 1 and None not in hashes:  # earlier versions wrote none
                which = "reported on" if key == "data_hash" else "trained on"
                raise ConfigError(
                    f"the images that {row['name']} was {which}, or their labels, are not those of "
                    f"{other['name']} ({key} {row[key]}, {other[key]}): restore them and remove "
                    f"{folder}, or use another --workdir for other data"
                )


def _split(config: dict[str, Any]) -> dict[str, Any]:
    """The fields that say which splits are meant, of those of `identity`."""
    kept = {k: v for k, v in config.items() if k.startswith("data.") and k not in _OF_A_RUN}
    return kept | {"eval.split": config.get("eval.split")}


def append(row: Row, workdir: Path) -> None:
    """Adds a row to the file of a sweep, on the disk when this returns."""
    path = workdir / FILE
    # What an interruption left half-written must not swallow the next row.
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write("\n" * torn + json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read(runs: Sequence[Run], workdir: Path, block: int) -> dict[str, Row]:
    """The rows of finished runs by name; what is not a row, as a half-written line, is left out.

    Fields that a later version added have in them the default that changes nothing.

    Raises:
      ConfigError: a run of this name finished with another configuration, or another `block`.
    """
    path = workdir / FILE
    if not path.exists():
        return {}
    found = {row["name"]: row for row in json_lines(path) if _is_row(row)}
    rows = {run.name: found[run.name] for run in runs if run.name in found}
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


def _is_row(line: dict[str, Any]) -> bool:
    needed = _NEEDED | {"name", "config", "block", "seconds_per_step", "diagnostics"}
    return needed <= line.keys() and all(
        isinstance(line.get(key), dict) for key in ("config", "versions", "iou")
    )
