"""What a sweep runs: every combination of some fields, for each of some variants."""

import dataclasses
import itertools
import json
import re
import runpy
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from pals_jax import config as configs
from pals_jax.command_line import check_field
from pals_jax.data.id_lists import is_list
from pals_jax.errors import ConfigError

SEED = "seed"

# Fields and sections that say where and how a run is done, not what comes out of it.
_ELSEWHERE = ("data.root", "data.data_dir", "data.workers", "num_devices")
_BESIDE = ("log", "checkpoint", "predict", "export")

_TAKEN = ("figures", "report.html", "report.md", "rows.jsonl")  # beside the runs
_LONGEST_NAME = 200  # bytes of a folder's name, below the 255 of file systems


@dataclasses.dataclass(frozen=True)
class Grid:
    """Every combination of the values of some fields, for each variant.

    Attributes:
      fields: the values that each field takes, by its path, as {"seed": (0, 1, 2)}.
      variants: what is compared, by name: the fields of each and their one value. Without any, each
        combination of the fields that are neither the seed nor a condition of the sweep is a
        variant, named after those with several values.

    Raises:
      ConfigError: a field is unknown, or values have another form.
    """

    fields: Mapping[str, Sequence[Any]]
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _require(
            isinstance(self.fields, Mapping), "fields of a Grid", "{field: values}", self.fields
        )
        _check_fields(self.fields)
        for field, values in self.fields.items():
            holds = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
            _require(holds, f"{field} of a Grid", "a list of the values to take", values)
        _require(isinstance(self.variants, Mapping), "variants of a Grid", "{name: fields}",
                 self.variants)  # fmt: skip
        for variant, own in self.variants.items():
            holds = isinstance(variant, str) and variant.isprintable() and variant[:1] != "_"
            _require(holds, "the name of a variant", "a text on one line, without _ before it",
                     variant)  # fmt: skip
            _require(isinstance(own, Mapping), f"variant {variant!r}", "{field: value}", own)
            _check_fields(own)
            if twice := sorted(self.fields.keys() & own.keys()):
                raise ConfigError(f"variant {variant!r} sets {twice}, which its grid varies")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a file in `configs/sweeps/` returns from `get_sweep()`.

    Attributes:
      title: of the report.
      grids: whose runs together are the sweep.
      baseline: the variant that all others are compared with.
      conditions: fields under which variants are compared: only runs that agree in them, and in the
        seed, make a pair.
      seed_fields: fields that take the value of the seed. With "data.subset_seed" each seed has
        labelled images of its own, and differences tell of other such subsets, too.
      bootstrap_block: neighbouring images, in the order of their ids, that are resampled together;
        frames of a drive are alike. 0 = no bootstrap over images.

    Raises:
      ConfigError: an attribute has another form.
    """

    title: str
    grids: Sequence[Grid]
    baseline: str
    conditions: Sequence[str] = ("data.subset",)
    seed_fields: Sequence[str] = ()
    bootstrap_block: int = 0

    def __post_init__(self):
        _require(isinstance(self.title, str), "title of a Sweep", "a text", self.title)
        grids = isinstance(self.grids, Sequence) and all(isinstance(g, Grid) for g in self.grids)
        _require(grids, "grids of a Sweep", "a list of Grids", self.grids)
        for name in ("conditions", "seed_fields"):
            fields = getattr(self, name)
            holds = isinstance(fields, Sequence) and not isinstance(fields, str)
            _require(holds, f"{name} of a Sweep", "a list of fields", fields)
            _check_fields(fields)
        block = self.bootstrap_block
        _require(type(block) is int and block >= 0, "bootstrap_block", "a whole number ≥ 0", block)


class Run(NamedTuple):
    """One training of a sweep.

    Attributes:
      name: its folder below the work directory of the sweep.
      variant: what it is one of.
      condition: the fields under which it is compared, as JSON values.
      seed: it is paired with runs of the same seed.
      fields: that the sweep sets apart from those of condition and seed.
      config: resolved.
    """

    name: str
    variant: str
    condition: dict[str, Any]
    seed: int
    fields: dict[str, Any]
    config: ConfigDict


def identity(config: ConfigDict) -> dict[str, Any]:
    """The fields that decide what comes out of a run, by their path, as JSON values; a list of ids
    and a file of weights by its name, wherever it lies.
    """
    kept = {
        field: Path(value).name
        if isinstance(value, str) and (is_list(value) or field == "weights")
        else value
        for field, value in configs.fields(config).items()
        if field not in _ELSEWHERE and field.split(".")[0] not in _BESIDE
    }
    return json.loads(json.dumps(kept))


def load(path: Path) -> Sweep:
    """What `get_sweep()` of a file returns.

    Raises:
      ConfigError: there is no such file, function or sweep, it has a wrong form, or it fails.
    """
    if not path.is_file():
        raise ConfigError(f"--sweep={path}: there is no such file")
    try:
        get_sweep = runpy.run_path(str(path)).get("get_sweep", lambda: None)
        sweep = get_sweep()
    except ConfigError as error:
        raise ConfigError(f"--sweep={path}: {error}") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = list(itertools.dropwhile(lambda frame: frame.filename != str(path), frames))
        said = [*traceback.format_list(own), *traceback.format_exception_only(error)]
        raise ConfigError(f"--sweep={path} fails:\n{''.join(said).rstrip()}") from error
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"--sweep={path} must define get_sweep(), which returns a Sweep")
    return sweep


def expand(sweep: Sweep, config: ConfigDict) -> list[Run]:
    """The runs of a sweep, in the order of its grids, conditions first, then seeds, then variants:
    so that what is to be compared finishes together.

    Args:
      sweep: what to run.
      config: what all runs start from; fields that the sweep sets win.

    Raises:
      ConfigError: a field has a value that it cannot have, two runs are the same or would share a
        folder, a baseline is missing, or runs would choose on what they report.
    """
    runs = [run for grid in sweep.grids for run in _of_grid(grid, sweep, config)]
    if not runs:
        raise ConfigError(f"sweep {sweep.title!r} has no run: its grids are empty")
    _check_distinct(runs)
    _check_baseline(runs, sweep.baseline)
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


def _of_grid(grid: Grid, sweep: Sweep, config: ConfigDict) -> list[Run]:
    ordered = sorted(grid.fields, key=lambda field: (field not in sweep.conditions, field != SEED))
    runs = []
    for values in itertools.product(*(grid.fields[field] for field in ordered)):
        chosen = dict(zip(ordered, values, strict=True))
        varied = ", ".join(
            f"{field.split('.')[-1]}={value}"
            for field, value in chosen.items()
            if field != SEED and field not in sweep.conditions and len(grid.fields[field]) > 1
        )
        for variant, own in (grid.variants or {"": {}}).items():
            name = ", ".join(filter(None, [variant, varied]))
            runs.append(_run(name or "base", {**chosen, **own}, sweep, config))
    return runs


def _run(variant: str, fields: dict[str, Any], sweep: Sweep, base: ConfigDict) -> Run:
    config = ConfigDict(base.to_dict())
    known = configs.fields(base)
    for field, value in fields.items():
        if isinstance(known.get(field), str) and not isinstance(value, str):
            raise ConfigError(f"{field} is a text: write {str(value)!r} and not {value!r}")
    try:
        config.update_from_flattened_dict(fields)
        config.update_from_flattened_dict(dict.fromkeys(sweep.seed_fields, config.seed))
        config = configs.resolve(config)
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"variant {variant!r} of the sweep, {fields}: {error}") from None
    decisive = identity(config)
    if lacking := [field for field in sweep.conditions if field not in decisive]:
        raise ConfigError(
            f"{lacking} cannot be conditions: variant {variant!r} has no such field, or its value "
            "does not decide what comes out of a run"
        )
    condition = {field: decisive[field] for field in sweep.conditions}
    named = (f"{field.split('.')[-1]}={value}" for field, value in condition.items() if value != "")
    folders = [_folder(part) for part in (variant, *named)]
    name = "/".join([*folders, f"seed={config.seed}"])
    own = {k: v for k, v in fields.items() if k != SEED and k not in sweep.conditions}
    return Run(name, variant, condition, config.seed, own, config)


def _folder(name: str) -> str:
    """A name as that of a folder.

    Raises:
      ConfigError: nothing is left of it, or too much.
    """
    folder = re.sub(r"[^\w.=+-]+", "_", name).strip("_.")
    if not folder or len(folder.encode()) > _LONGEST_NAME or folder in _TAKEN:
        raise ConfigError(
            f"{name!r} cannot be the name of a folder: use letters or digits, at most "
            f"{_LONGEST_NAME} bytes, and none of {_TAKEN}; variants get short names by "
            "Grid(variants=…)"
        )
    return folder


def _check_distinct(runs: Sequence[Run]) -> None:
    """Refuses two runs in one folder, also where a file system takes upper for lower case, and a
    run twice under two names.
    """
    in_folder: dict[str, Run] = {}
    with_config: dict[str, Run] = {}
    for run in runs:
        other = in_folder.setdefault(run.name.lower(), run)
        if other is not run:
            different = configs.changes(other.config, run.config)
            found = f"they differ in {different}" if different else "they are the same"
            raise ConfigError(
                f"two runs of the sweep would share the folder {run.name}: {found}. Take one out, "
                "or name their variants apart"
            )
        other = with_config.setdefault(json.dumps(identity(run.config), sort_keys=True), run)
        if other is not run:
            raise ConfigError(
                f"{other.name} and {run.name} are the same run under two names: take one out"
            )


def _check_baseline(runs: Sequence[Run], baseline: str) -> None:
    """Refuses what could never be compared."""
    variants = list(dict.fromkeys(run.variant for run in runs))
    if baseline not in variants:
        raise ConfigError(
            f"the sweep's baseline {baseline!r} is none of the variants {variants}. A field under "
            "which variants are to be compared belongs to the sweep's conditions"
        )
    seeds: dict[tuple[str, str], set[int]] = {}
    for run in runs:
        seeds.setdefault((run.variant, json.dumps(run.condition)), set()).add(run.seed)
    for (variant, condition), own in seeds.items():
        of_baseline = seeds.get((baseline, condition), set())
        if not own & of_baseline:
            where = f" under {condition}" if condition != "{}" else ""
            raise ConfigError(
                f"{variant!r} has no run to compare with{where}: its seeds are {sorted(own)}, "
                f"those of the baseline {baseline!r} {sorted(of_baseline)}"
            )


def _check_fields(fields: Iterable[str]) -> None:
    for field in fields:
        _require(isinstance(field, str), "a field of a sweep", "a text", field)
        check_field(field)


def _require(holds: bool, name: str, expected: str, found: Any) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {expected}, found {found!r}")
