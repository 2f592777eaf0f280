"""How the arguments of `python -m pals_jax.main` become flags, and what is said of wrong ones."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags

from pals_jax import config as configs
from pals_jax.errors import ConfigError

FROM_WORKDIR = Path(__file__).with_name("config_from_workdir.py")


def parse(arguments: Sequence[str]) -> list[str]:
    """Parses the flags and returns what is left; a wrong one ends the process with an explanation.

    evaluate, predict and export read the work directory's config by default.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("config", "workdir", "mode"):
        parser.add_argument(f"-{name}", f"--{name}")
    try:
        files_read = flags.FLAGS.read_flags_from_files(list(arguments[1:]), force_gnu=False)
        arguments = [arguments[0], *files_read]
        given, _ = parser.parse_known_args(arguments[1:])
        if given.config and not Path(given.config.split(":")[0]).is_file():
            raise ConfigError(f"--config={given.config}: there is no such file")
        matches = [re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in arguments[1:]]
        _check_fields([found[1] for found in matches if found])
        if given.workdir and not given.config and given.mode in ("evaluate", "predict", "export"):
            configs.load(Path(given.workdir) / "config.json")
            arguments.insert(1, f"--config={FROM_WORKDIR}:{given.workdir}")
        return flags.FLAGS(arguments)
    except (ValueError, flags.Error) as error:  # ConfigError is a ValueError
        sys.exit(f"{type(error).__name__}: {error}")


def _check_fields(given: Sequence[str]) -> None:
    """Refuses an unknown field, and a tuple given twice: ml_collections would append the second."""
    for field in given:
        check_field(field)
    known = configs.fields(configs.default_config())
    for field in sorted(set(given)):
        if isinstance(known.get(field), tuple) and given.count(field) > 1:
            raise ConfigError(
                f"config.{field} is given {given.count(field)} times: give it once, with all of "
                "its values"
            )


def check_field(field: str) -> None:
    """Refuses a field that no configuration has, with the one that may be meant."""
    known = configs.fields(configs.default_config())
    if field in known:
        return
    section, _, name = field.rpartition(".")
    inside = [path for path in known if section and path.startswith(f"{section}.")]
    below = [path for path in known if path.startswith(f"{field}.")]
    if below:
        close = []
    elif inside:
        close = _alike(name, inside)
    else:
        close = difflib.get_close_matches(field, known, n=1, cutoff=0.8) or _alike(name, known)
    hint = "all fields stand in pals_jax/config.py"
    if close:
        hint = f"did you mean config.{close[0]}?"
    elif below or inside:
        hint = f"there are {', '.join(f'config.{path}' for path in below or inside)}"
    raise ConfigError(f"unknown field config.{field}; {hint}")


def _alike(name: str, paths: Iterable[str]) -> list[str]:
    """The path whose last part is most like a name, if any is."""
    names = {path.rpartition(".")[2]: path for path in paths}
    return [names[found] for found in difflib.get_close_matches(name, names, n=1)]
