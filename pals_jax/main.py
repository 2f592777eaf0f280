"""Command line: `python -m pals_jax.main --config=FILE --workdir=DIR [--mode=MODE]`."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from absl import app, flags, logging
from ml_collections import config_flags

from pals_jax import command_line
from pals_jax import config as configs
from pals_jax.checkpoints import CheckpointError
from pals_jax.data import DataError
from pals_jax.errors import ConfigError, OptionError, WeightsError, advice
from pals_jax.evaluate import evaluate
from pals_jax.export import export
from pals_jax.interrupt import Interrupted, tell
from pals_jax.predict import predict
from pals_jax.train import NonFiniteError, train_and_evaluate

_MODES = {"train": train_and_evaluate, "evaluate": evaluate, "predict": predict, "export": export}

# What the same command does after an interruption.
_AGAIN = {"train": "goes on from the last checkpoint, if any", "predict": "predicts all anew"}

# Errors that say what is wrong and what to do.
_EXPLAINED = (ConfigError, OptionError, DataError, WeightsError, CheckpointError, NonFiniteError)

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What to run; --config.FIELD=VALUE sets a field, see pals_jax/config.py."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.")
_MODE = flags.DEFINE_enum("mode", "train", list(_MODES), "What to do.")


def main(arguments: Sequence[str]) -> None:
    """Runs one mode; a failure that has an explanation ends with it and a non-zero exit code."""
    if arguments[1:]:
        sys.exit(f"unknown arguments {arguments[1:]}: every flag has the form --name=value")
    if not _WORKDIR.value:
        sys.exit("--workdir is missing: give a folder, as --workdir=runs/demo")
    if _CONFIG.value is None:
        sys.exit("--config is missing: give a file, as --config=configs/demo.py")
    # Orbax tells a dozen lines for each checkpoint; --verbosity=0 shows them. Errors are raised.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
    signal.signal(signal.SIGTERM, _interrupt)
    going_on = f"; the same command {_AGAIN[_MODE.value]}" if _MODE.value in _AGAIN else ""
    try:
        _MODES[_MODE.value](configs.resolve(_CONFIG.value), Path(_WORKDIR.value))
    except Interrupted as stop:
        tell(stop)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt as stop:
        signum = stop.args[0] if stop.args else signal.SIGINT
        tell(f"interrupted{going_on}")
        # Not sys.exit: XLA's threads may be compiling still, which crashes when Python is gone.
        os._exit(128 + signum)
    except _EXPLAINED as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:
        if advice(error) is None:
            raise
        sys.exit(f"{error}: {advice(error)}{going_on}")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Lets a signal that would end the process without a word end it as Ctrl-C does."""
    del frame
    signal.signal(signum, signal.SIG_IGN)  # a second one changes nothing
    raise KeyboardInterrupt(signum)


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
