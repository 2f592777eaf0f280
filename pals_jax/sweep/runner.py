"""Runs of a sweep side by side, each in a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pals_jax import config as configs
from pals_jax.command_line import FROM_WORKDIR
from pals_jax.errors import ConfigError
from pals_jax.files import append_line, json_lines
from pals_jax.interrupt import StopSignal
from pals_jax.progress import format_duration
from pals_jax.sweep.plan import Run, identity
from pals_jax.workdir import is_held

LOG = "log.txt"

_POLL = 0.5  # seconds
_TELL = 60.0  # seconds between lines that tell the progress
_FAILED = "failed with "
# What Python says of an error in a destructor, which ends nothing; some have a traceback.
_IGNORED = r"^Exception ignored .*\n((Traceback.*\n([ \t].*\n)*)?[\w.]+(:.*)?\n)?"
_LONGEST = 500  # letters of an error on the screen, or of a line of a log in a report


class _Child(NamedTuple):
    run: Run
    process: subprocess.Popen
    slot: int
    started: float


class Runner:
    """Trains what is not finished, some runs at a time; where one fails, the others go on.

    Attributes:
      failed: runs that ended with an error.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        workdir: Path,
        processes: int,
        finished: Callable[[Run], str],
    ):
        """Looks whether all runs can be trained.

        Args:
          runs: that are not finished.
          workdir: of the sweep.
          processes: at a time; they share the processor's cores.
          finished: called after each run that ends well; returns what to say of it.

        Raises:
          ConfigError: folders hold other runs.
        """
        self.failed: list[Run] = []
        self._waiting = list(runs)
        self._workdir, self._processes, self._finished = workdir, processes, finished
        self._running: list[_Child] = []
        self._warned = False
        _check_folders(runs, workdir)
        self._runs = tuple(runs)
        self._begun_at = {run.name: _step(workdir / run.name) for run in runs}
        self._began = self._told = time.monotonic()

    def run(self) -> int | None:
        """Runs all; returns None, or the signal that stopped it, after all that ran have saved."""
        with StopSignal() as stop:
            told_to_stop = False
            try:
                while self._running or (self._waiting and stop.signum is None):
                    if stop.signum is None:
                        self._fill()
                    elif not told_to_stop:
                        told_to_stop = True
                        for child in self._running:
                            child.process.send_signal(stop.signum)
                    time.sleep(_POLL)
                    self._collect(stopping=told_to_stop)
            except BaseException:
                for child in self._running:
                    child.process.terminate()
                for child in self._running:
                    child.process.wait()
                raise
        return stop.signum

    def _fill(self) -> None:
        """Starts runs while there is room, beside those that a killed sweep has left training."""
        left_training = [run for run in self._waiting if is_held(self._workdir / run.name)]
        if left_training and not self._warned:
            names = ", ".join(run.name for run in left_training)
            print(f"waiting for runs that an earlier process of the sweep left training: {names}")
            self._warned = True
        free = [run for run in self._waiting if run not in left_training]
        while free and len(self._running) + len(left_training) < self._processes:
            run = free.pop(0)
            self._waiting.remove(run)
            folder = self._workdir / run.name
            if other := _other_run(run, folder):  # put there since the sweep began
                self.failed.append(run)
                append_line(folder / LOG, f"ConfigError: {other}")
                append_line(folder / LOG, f"{_FAILED}another run in its folder")
                print(f"{run.name}: failed: {other}", flush=True)
                continue
            folder.mkdir(parents=True, exist_ok=True)
            configs.save(run.config, folder / "config.json")
            command = [
                *(sys.executable, "-m", "pals_jax.main"),
                *(f"--config={FROM_WORKDIR}:{folder}", f"--workdir={folder}"),
            ]
            append_line(folder / LOG, f"$ {' '.join(command)}")
            with (folder / LOG).open("a") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=os.environ | {"PYTHONUNBUFFERED": "1"},
                    # A terminal's Ctrl-C reaches the sweep alone, which passes it on once.
                    start_new_session=True,
                )
            slot = min(set(range(self._processes)) - {child.slot for child in self._running})
            _pin(process.pid, slot, self._processes)
            self._running.append(_Child(run, process, slot, time.monotonic()))

    def _collect(self, *, stopping: bool) -> None:
        """Looks which runs have ended, and tells."""
        for child in list(self._running):
            if child.process.poll() is None:
                continue
            self._running.remove(child)
            said = self._outcome(child, stopping=stopping)
            took = format_duration(time.monotonic() - child.started)
            rest = "" if stopping else f"; {self._progress()}"
            print(f"{child.run.name}: {said} ({took}){rest}", flush=True)
            self._told = time.monotonic()
        if time.monotonic() - self._told > _TELL and self._running and not stopping:
            print(self._progress(), flush=True)
            self._told = time.monotonic()

    def _outcome(self, child: _Child, *, stopping: bool) -> str:
        """What to say of a run that has ended; how it ended becomes the last line of its log."""
        code = child.process.returncode
        log = self._workdir / child.run.name / LOG
        log.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
        if code == 0:
            try:
                said = self._finished(child.run)
            except ConfigError as error:
                append_line(log, f"ConfigError: {error}")
            else:
                append_line(log, "finished")
                return said
        elif stopping:
            append_line(log, "stopped")
            return "stopped, to be resumed"
        self.failed.append(child.run)
        reason = _reason(code, log)
        append_line(log, f"{_FAILED}exit code {code}" + f", {reason}" * (code < 0))
        return f"failed: {reason}\n  see {log}"

    def _progress(self) -> str:
        """How many runs are left, and for how long at the rate so far; failed ones do not count."""
        left = len(self._waiting) + len(self._running)
        if not left:
            return "none left"
        names = {run.name for run in self._runs} - {run.name for run in self.failed}
        steps = {name: _step(self._workdir / name) for name in names}
        taken = sum(steps[name] - self._begun_at[name] for name in names)
        total = sum(run.config.total_steps for run in self._runs if run.name in names)
        if sum(steps.values()) >= total:
            return f"{left} of {len(self._runs)} runs left, which evaluate"
        share = f"{100 * sum(steps.values()) / total:.0f} % of their steps done"
        if taken <= 0:  # also where a run went back to its last checkpoint
            return f"{left} of {len(self._runs)} runs left, {share}"
        seconds = (time.monotonic() - self._began) * (total - sum(steps.values())) / taken
        return f"{left} of {len(self._runs)} runs left, {share}, ETA {format_duration(seconds)}"


def _reason(code: int, log: Path) -> str:
    """Why a run failed, in a line: its last error, or the signal that ended it."""
    if code < 0:
        return f"ended by signal {-code}, perhaps for want of memory"
    text = "\n".join([*_last_attempt(log), ""])
    raised = re.sub(_IGNORED, "", text, flags=re.MULTILINE).splitlines()
    errors = [line for line in raised if re.match(r"[\w.]*(Error|Exception)(:|$)", line)]
    said = errors[-1] if errors else f"exit code {code}"
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]} …"


def _last_attempt(log: Path) -> list[str]:
    """The lines of a log behind the command that was started last."""
    if not log.exists():
        return []
    lines = log.read_text(errors="replace").splitlines()
    started = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    return lines[started[-1] + 1 :] if started else lines


def failure(folder: Path, lines: int) -> str | None:
    """The last lines of the log of a run that failed last; None for one that did not.

    Args:
      folder: of the run.
      lines: at most so many.
    """
    *shown, ended = _last_attempt(folder / LOG) or [""]
    if not ended.startswith(_FAILED):
        return None
    return "\n".join(line[:_LONGEST] for line in [*shown[-lines:], ended])


def _check_folders(runs: Sequence[Run], workdir: Path) -> None:
    """Refuses to go on with other fields than a run has trained with.

    Raises:
      ConfigError: naming all folders that hold other runs.
    """
    other = [said for run in runs if (said := _other_run(run, workdir / run.name))]
    if other:
        raise ConfigError(
            "folders hold other runs than those asked for (fields as saved, as asked for):\n  "
            + "\n  ".join(other)
            + "\nRemove a folder to train its run anew, or use another --workdir."
        )


def _other_run(run: Run, folder: Path) -> str | None:
    """What tells that a folder holds another run, or one of which nobody knows; None otherwise."""
    if not _has_begun(folder):
        return None
    path = folder / "config.json"
    if not path.exists():
        return f"{folder} lacks its config.json, which tells what it was trained with"
    try:
        saved = configs.load(path)
    except ConfigError as error:
        return str(error)
    if identity(saved) == identity(run.config):
        return None
    return f"{folder} differs in {configs.changes(saved, run.config)}"


def _has_begun(folder: Path) -> bool:
    """Whether a run has saved something, or is about to."""
    saved = any(path.name.isdecimal() for path in (folder / "checkpoints").glob("*"))
    return saved or (folder / "result.json").exists() or is_held(folder)


def _pin(process: int, slot: int, slots: int) -> None:
    """Gives a process its share of the cores, so that the runs do not slow each other."""
    if not hasattr(os, "sched_setaffinity") or slots == 1:  # not on a Mac
        return
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(process, set(cores[slot::slots]) or {cores[slot % len(cores)]})


def _step(folder: Path) -> int:
    """The last step that a run has logged."""
    path = folder / "metrics.jsonl"
    return (
        max((line.get("step", 0) for line in json_lines(path)), default=0) if path.exists() else 0
    )
