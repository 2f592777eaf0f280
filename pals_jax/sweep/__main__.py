"""Command line: `python -m pals_jax.sweep --config=FILE --sweep=FILE --workdir=DIR`."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from pals_jax import command_line
from pals_jax.errors import ConfigError, advice
from pals_jax.interrupt import tell
from pals_jax.sweep import report, rows, tables
from pals_jax.sweep.plan import Run, Sweep, expand, load
from pals_jax.sweep.runner import Runner, failure
from pals_jax.workdir import exclusive

_CONFIG = config_flags.DEFINE_config_file("config", None, "What all runs start from.")
_SWEEP = flags.DEFINE_string("sweep", None, "A file of configs/sweeps: what to change in it.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the runs and the report are kept.")
_PROCESSES = flags.DEFINE_integer(
    "processes",
    0,
    "Runs at a time; 0 = one per core of the processor, or one on an accelerator.",
    lower_bound=0,
)
_MODE = flags.DEFINE_enum(
    "mode", "run", ["run", "report"], "Train and report, or only report what is finished."
)


def main(arguments: Sequence[str]) -> None:
    """Runs a sweep; ends with exit code 1 where a run failed."""
    if arguments[1:]:
        sys.exit(f"unknown arguments {arguments[1:]}: every flag has the form --name=value")
    for flag in (_CONFIG, _SWEEP, _WORKDIR):
        if not flag.value:
            sys.exit(f"--{flag.name} is missing")
    workdir = Path(_WORKDIR.value or "").expanduser().absolute()
    try:
        sweep = load(Path(_SWEEP.value or ""))
        runs = expand(sweep, _CONFIG.value)
        # A report is made while another process trains, too.
        training = _MODE.value == "run"
        with exclusive(workdir) if training else contextlib.nullcontext():
            code = run(sweep, runs, workdir, _PROCESSES.value, train=training)
    except KeyboardInterrupt:
        tell("interrupted; the same command goes on")
        sys.exit(128 + signal.SIGINT)
    except ConfigError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except OSError as error:
        if advice(error) is None:
            raise
        sys.exit(f"{error}: {advice(error)}; the same command goes on")
    sys.exit(code)


def run(sweep: Sweep, runs: Sequence[Run], workdir: Path, processes: int, *, train: bool) -> int:
    """Trains what is not finished, if asked to, and writes the report; returns the exit code."""
    finished = rows.read(runs, workdir, sweep.bootstrap_block)

    def take(done: Run) -> rows.Row:
        row = rows.of_run(done, workdir / done.name, sweep.bootstrap_block)
        others = [(other, finished[other.name]) for other in runs if other.name in finished]
        rows.require_same_data(done, row, workdir / done.name, others)
        if train:  # who only reports leaves the file to the process that trains
            rows.append(row, workdir)
        finished[done.name] = row
        return row

    def keep(done: Run) -> str:
        row = take(done)
        report.write(sweep, runs, finished, workdir)
        return f"mIoU {tables.percent(row['mean_iou'])} %"

    # Runs that a killed sweep has left training end without it.
    for done in runs:
        try:
            if done.name not in finished and rows.has_finished(workdir / done.name):
                take(done)
        except ConfigError as error:
            print(f"{done.name}: {error}")
    code = 0
    if not train and not finished and not any(failure(workdir / r.name, 1) for r in runs):
        raise ConfigError(f"--workdir={workdir} holds no finished run of this sweep to report")
    if train:
        waiting = [other for other in runs if other.name not in finished]
        print(f"{len(finished)} of {len(runs)} runs are finished", flush=True)
        runner = Runner(waiting, workdir, processes or _default_processes(), keep)
        signum = runner.run()
        if signum is not None:
            print(f"stopped; the same command goes on with {workdir}")
            code = 128 + signum
        elif runner.failed:
            print(f"{len(runner.failed)} of {len(runs)} runs failed; the report shows their logs")
            code = 1
    report.write(sweep, runs, finished, workdir)
    written = (workdir / name for name in ("report.html", "report.md", rows.FILE))
    print("wrote " + ", ".join(str(path) for path in written if path.exists()))
    return code


def _default_processes() -> int:
    """One per core, or one where there is an accelerator, whose memory runs could not share."""
    # In a process of its own, because JAX claims the memory of a GPU for as long as it runs.
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    backend = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if backend[-1] != "cpu":
        return 1
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return len(cores) or os.cpu_count() or 1


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse)
