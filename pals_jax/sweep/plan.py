"""What a sweep runs: every combination of some fields, for each of some variants."""

import dataclasses
import hashlib
import itertools
import json
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from pals_jax import config as configs
from pals_jax.command_line import check_field
from pals_jax.errors import ConfigError

SEED = "seed"

# Fields and sections that say where and how a run is done, not what comes out of it.
_ELSEWHERE = ("data.root", "data.data_dir", "data.workers", "num_devices")
_BESIDE = ("log", "checkpoint", "predict")


@dataclasses.dataclass(frozen=True)
class Grid:
    """Every combination of the values of some fields, for each variant.

    Attributes:
      fields: the values that each field takes, by its path, as {"seed": (0, 1, 2)}.
      variants: what is compared, by name: the fields of each and their one value. Without any, each
        combination of the fields that are neither the seed nor a condition of the sweep is a
        variant, named after those with several values.
    """

    fields: Mapping[str, Sequence[Any]]
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a file in `configs/sweeps/` returns from `get_sweep()`.

    Attributes:
      title: of the report.
      grids: whose runs together are the sweep.
      baseline: the variant that all others are compared with.
      conditions: fields under which variants are compared: only runs that agree in them, and in the
        seed, make a pair.
      bootstrap_block: neighbouring images, in the order of their ids, that are resampled together;
        frames of a drive are alike. 0 = no bootstrap over images.
    """

    title: str
    grids: Sequence[Grid]
    baseline: str
    conditions: Sequence[str] = ("data.subset",)
    bootstrap_block: int = 0


class Run(NamedTuple):
    """One training of a sweep.

    Attributes:
      name: its folder below the work directory of the sweep.
      variant: what it is one of.
      condition: the fields under which it is compared.
      seed: it is paired with runs of the same seed.
      config: resolved.
    """

    name: str
    variant: str
    condition: dict[str, Any]
    seed: int
    config: ConfigDict

    @property
    def config_hash(self) -> str:
        """See `hash_of`."""
        return hash_of(self.config)


def hash_of(config: ConfigDict) -> str:
    """16 hexadecimal digits that tell apart two configurations with different results."""
    kept = {
        field: value
        for field, value in configs.fields(config).items()
        if field not in _ELSEWHERE and field.split(".")[0] not in _BESIDE
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def load(path: Path) -> Sweep:
    """What `get_sweep()` of a file returns.

    Raises:
      ConfigError: there is no such file, function or sweep.
    """
    if not path.is_file():
        raise ConfigError(f"--sweep={path}: there is no such file")
    get_sweep = runpy.run_path(str(path)).get("get_sweep", lambda: None)
    sweep = get_sweep()
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"--sweep={path} must define get_sweep(), which returns a Sweep")
    return sweep


def expand(sweep: Sweep, config: ConfigDict) -> list[Run]:
    """The runs of a sweep, in the order of its grids, conditions first, then seeds, then variants:
    so that what is to be compared finishes together.

    Args:
      sweep: what to run.
      config: what all runs start from.

    Raises:
      ConfigError: a field is unknown or has a value that it cannot have, two runs would share a
        folder, the baseline is no variant, or runs would choose on what they report.
    """
    runs: list[Run] = []
    for number, grid in enumerate(sweep.grids):
        runs += _of_grid(grid, f"grids[{number}]", sweep, config)
    if not runs:
        raise ConfigError(f"sweep {sweep.title!r} has no run: its grids are empty")
    _check_folders(runs)
    variants = list(dict.fromkeys(run.variant for run in runs))
    if sweep.baseline not in variants:
        raise ConfigError(f"the sweep's baseline {sweep.baseline!r} is none of {variants}")
    splits = {run.config.eval.split for run in runs}
    if len(splits) > 1:
        raise ConfigError(
            f"the runs report on several splits, {sorted(splits)}: make one sweep for each"
        )
    for run in runs:
        if run.config.eval.split == "dev" and run.config.eval.checkpoint == "best":
            raise ConfigError(
                f'{run.name}: config.eval.checkpoint = "best" is chosen on dev, and would be '
                'reported on dev; use "latest", or another config.eval.split'
            )
    return runs


def _of_grid(grid: Grid, where: str, sweep: Sweep, config: ConfigDict) -> list[Run]:
    for field in (*grid.fields, *itertools.chain(*grid.variants.values()), *sweep.conditions):
        try:
            check_field(field)
        except ConfigError as error:
            raise ConfigError(f"{where} of the sweep: {error}") from None
    for field, values in grid.fields.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ConfigError(
                f"{where} of the sweep: {field} must list the values to take, as "
                f"{(values,) if isinstance(values, str) else (0, 1)}, found {values!r}"
            )
    ordered = sorted(grid.fields, key=lambda field: (field not in sweep.conditions, field != SEED))
    runs = []
    for values in itertools.product(*(grid.fields[field] for field in ordered)):
        chosen = dict(zip(ordered, values, strict=True))
        named = {
            field: value
            for field, value in chosen.items()
            if field != SEED and field not in sweep.conditions and len(grid.fields[field]) > 1
        }
        for variant, own in (grid.variants or {"": {}}).items():
            fields = chosen | dict(own)
            if twice := sorted(chosen.keys() & own.keys()):
                raise ConfigError(
                    f"{where} of the sweep: variant {variant!r} sets {twice}, which the grid varies"
                )
            name = ", ".join(filter(None, [variant, _described(named)]))
            runs.append(_run(name or "base", fields, sweep, config))
    return runs


def _run(variant: str, fields: dict[str, Any], sweep: Sweep, base: ConfigDict) -> Run:
    if re.search(r"[|<>`\n]", variant):
        raise ConfigError(f"variant {variant!r} must do without | < > ` and line breaks")
    config = ConfigDict(base.to_dict())
    try:
        config.update_from_flattened_dict(fields)
        config = configs.resolve(config)
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"variant {variant!r} of the sweep, {fields}: {error}") from None
    known = configs.fields(config)
    condition = {field: known[field] for field in sweep.conditions}
    parts = [variant, *(f"{k.split('.')[-1]}={v}" for k, v in condition.items() if v != "")]
    folder = "/".join(re.sub(r"[^\w.=+-]+", "_", part).strip("_.") for part in parts)
    return Run(f"{folder}/seed={config.seed}", variant, condition, config.seed, config)


def _described(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{field.split('.')[-1]}={value}" for field, value in fields.items())


def _check_folders(runs: Sequence[Run]) -> None:
    """Refuses two runs in one folder, also where a file system takes upper for lower case."""
    first: dict[str, Run] = {}
    for run in runs:
        other = first.setdefault(run.name.lower(), run)
        if other is run:
            continue
        different = configs.changes(other.config, run.config)
        found = f"they differ in {different}" if different else "they are the same"
        raise ConfigError(
            f"two runs of the sweep would share the folder {run.name}: {found}. Take one out, or "
            "name their variants apart"
        )
