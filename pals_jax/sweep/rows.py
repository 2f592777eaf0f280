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

from pals_jax.data import DEV
from pals_jax.errors import ConfigError
from pals_jax.files import json_lines
from pals_jax.sweep.plan import Run, identity

FILE = "rows.jsonl"

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
      ConfigError: a file of the run is missing or damaged.
    """
    try:
        result = json.loads((folder / "result.json").read_text())
        log = json_lines(folder / "metrics.jsonl")
        areas = [image["areas"] for image in json_lines(folder / "per_image.jsonl")]
        rates = [line["steps_per_second"] for line in log if line.get("steps_per_second")]
        row: Row = {"name": run.name, "variant": run.variant, "config": identity(run.config)}
        row |= result
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder} is damaged ({error!r}): remove it, and the same command trains it again"
        ) from error
    row["seconds_per_step"] = 1 / statistics.median(rates) if rates else None
    row["diagnostics"] = [line for line in log if any(name.startswith("target/") for name in line)]
    row["block"] = block
    if block:
        starts = range(0, len(areas), block)
        row["block_areas"] = [np.sum(areas[i : i + block], axis=0).tolist() for i in starts]
    return row


def require_same_images(row: Row, run: Run, others: Iterable[tuple[Run, Row | None]]) -> None:
    """Refuses a row that was reported on other images, or other labels, than those beside it.

    Args:
      row: of a run that has just finished.
      run: its plan.
      others: plans with their rows, None where they are not finished.

    Raises:
      ConfigError: naming a run that differs.
    """
    for other, known in others:
        own_dev = run.config.eval.split == DEV and (
            other.config.data.subset_seed != run.config.data.subset_seed
        )
        if known is None or other.condition != run.condition or own_dev:
            continue
        hashes = {found.get("data_hash") for found in (row, known)}
        if len(hashes) > 1 and None not in hashes:  # rows of an earlier version have none
            raise ConfigError(
                f"{run.name} was reported on {row['images']} images that are not the "
                f"{known['images']} of {other.name}, or have other labels: config.data.root "
                "changed. Use another --workdir for other data"
            )


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

    Raises:
      ConfigError: a run of this name finished with another configuration, or another `block`.
    """
    path = workdir / FILE
    if not path.exists():
        return {}
    found = {
        row["name"]: row for row in json_lines(path) if {"name", "config", "block"} <= row.keys()
    }
    rows = {run.name: found[run.name] for run in runs if run.name in found}
    for run in runs:
        if run.name in rows:
            row, known = rows[run.name], identity(run.config)
            different = {
                field: (row["config"].get(field), known.get(field))
                for field in sorted(known.keys() | row["config"].keys())
                if row["config"].get(field) != known.get(field)
            }
            if row["block"] != block:
                different["bootstrap_block"] = (row["block"], block)
            if different:
                raise ConfigError(
                    f"{path}: {run.name} is finished, but now differs in {different} (finished "
                    "with, asked for). Ask for the former, or use another --workdir"
                )
    return rows
