"""How runs are started, awaited and judged, with a script in the place of training."""

import fcntl
import os
import signal
import threading
import time

import pytest
from ml_collections import ConfigDict

from pals_jax.config import default_config, load, save
from pals_jax.errors import ConfigError
from pals_jax.sweep import Grid, Sweep, expand, runner

IGNORED = """Exception ignored in: <function A.__del__ at 0x7f>
Traceback (most recent call last):
  File a.py, line 3, in __del__
AttributeError: no attribute"""


@pytest.fixture
def runs():
    return expand(Sweep("t", (Grid({"seed": (0, 1, 2)}),), "base"), default_config())


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Says what a run does, as lines of a shell script; $NAME is its folder."""

    def does(lines):
        script = tmp_path / "program"
        # The last argument is --workdir=….
        script.write_text(f'#!/bin/sh\nfor NAME; do :; done\nNAME="${{NAME#*=}}"\n{lines}\n')
        script.chmod(0o700)
        monkeypatch.setattr(runner.sys, "executable", str(script))

    return does


def test_runs_end_well_or_not(runs, program, tmp_path, capsys):
    program(
        'case "$NAME" in *seed=1) echo "ValueError: no luck"; exit 3;; *seed=2) kill -9 $$;; esac'
    )
    finished = []
    waiting = runner.Runner(runs, tmp_path, 2, lambda run: finished.append(run.seed) or "well")
    assert waiting.run() is None
    assert finished == [0]
    assert {run.seed for run in waiting.failed} == {1, 2}
    log = runner.failure(tmp_path / "base/seed=1", lines=20)
    assert log.splitlines() == ["ValueError: no luck", "failed with exit code 3"]
    assert runner.failure(tmp_path / "base/seed=0", lines=20) is None
    killed = runner.failure(tmp_path / "base/seed=2", lines=20)
    assert killed == "failed with exit code -9, ended by signal 9, perhaps for want of memory"
    said = capsys.readouterr().out
    assert "base/seed=1: failed: ValueError: no luck\n  see /" in said
    assert "base/seed=2: failed: ended by signal 9, perhaps for want of memory" in said


def test_a_damaged_run_fails_and_the_others_go_on(runs, program, tmp_path):
    program("exit 0")

    def finished(run):
        if run.seed == 0:
            raise ConfigError("result.json is damaged")
        return "well"

    waiting = runner.Runner(runs, tmp_path, 1, finished)
    assert waiting.run() is None
    assert [run.seed for run in waiting.failed] == [0]
    assert "result.json is damaged" in runner.failure(tmp_path / "base/seed=0", lines=20)


def test_the_reason_of_a_failure_is_of_the_last_attempt(runs, program, tmp_path, capsys):
    for line, reason in (
        ("DataError: lost", "DataError: lost"),
        ("jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED", "jax.errors.JaxRuntimeError: RES"),
        ("DataError: lost\nException ignored in: <function>", "DataError: lost"),
        (f"DataError: lost\n{IGNORED}", "DataError: lost"),
        ("DataError: lost\nException ignored in: <file>\nOSError: full", "DataError: lost"),
        (f"{IGNORED}\nDataError: lost", "DataError: lost"),
        ("no word", "exit code 3"),
    ):
        program(f'echo "{line}"; exit 3')
        runner.Runner(runs[:1], tmp_path, 1, lambda run: "well").run()
        assert f"base/seed=0: failed: {reason}" in capsys.readouterr().out


def test_a_log_that_ends_within_a_line_tells_the_failure(runs, program, tmp_path):
    folder = tmp_path / runs[0].name
    folder.mkdir(parents=True)
    (folder / runner.LOG).write_text("step 10")  # the process was killed here
    program('printf "Killed while printing"; exit 3')
    runner.Runner(runs[:1], tmp_path, 1, lambda run: "well").run()
    log = runner.failure(folder, lines=20)
    assert log.splitlines() == ["Killed while printing", "failed with exit code 3"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_run_whose_folder_is_removed_fails_and_the_others_go_on(runs, program, tmp_path, code):
    program(f'case "$NAME" in *seed=0) rm -r "$NAME"; exit {code};; esac')

    def finished(run):
        load(tmp_path / run.name / "config.json")
        return "well"

    waiting = runner.Runner(runs, tmp_path, 1, finished)
    assert waiting.run() is None
    assert [run.seed for run in waiting.failed] == [0]
    assert runner.failure(tmp_path / "base/seed=0", lines=20)


def test_a_run_stopped_while_it_starts_has_not_failed(runs, program, tmp_path):
    program("exec sleep 60")  # no handler yet: the signal kills it
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    waiting = runner.Runner(runs, tmp_path, 2, lambda run: "well")
    assert waiting.run() == signal.SIGTERM
    assert not waiting.failed
    assert runner.failure(tmp_path / "base/seed=0", lines=20) is None
    assert not (tmp_path / "base/seed=2" / runner.LOG).exists()


def test_the_folder_of_another_run_is_refused(runs, program, tmp_path):
    for run in runs[:2]:
        (tmp_path / run.name).mkdir(parents=True)
        save(run.config, tmp_path / run.name / "config.json")
    (tmp_path / "base/seed=0/checkpoints/100").mkdir(parents=True)
    (tmp_path / "base/seed=1/result.json").touch()  # its checkpoints were removed
    config = default_config()
    config.total_steps = 5
    others = expand(Sweep("t", (Grid({"seed": (0, 1, 2)}),), "base"), config)
    differs = r"base/seed=%d differs in \{'total_steps': \(1000, 5\)\}\n"
    with pytest.raises(ConfigError, match=f"{differs % 0}.*{differs % 1}Remove a folder"):
        runner.Runner(others, tmp_path, 1, lambda run: "well")
    assert not (tmp_path / "base/seed=2").exists()  # nothing was begun


def test_a_begun_folder_of_an_unknown_run_is_refused(runs, program, tmp_path):
    folder = tmp_path / runs[0].name
    (folder / "checkpoints/100").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"base/seed=0 lacks its config\.json"):
        runner.Runner(runs, tmp_path, 1, lambda run: "well")
    assert not (folder / "config.json").exists()


def test_another_run_put_there_after_the_start_is_left_alone(runs, program, tmp_path, capsys):
    program("exit 0")
    waiting = runner.Runner(runs, tmp_path, 1, lambda run: "well")
    folder = tmp_path / runs[0].name
    (folder / "checkpoints/100").mkdir(parents=True)
    other = ConfigDict(runs[0].config.to_dict())
    other.total_steps = 5
    save(other, folder / "config.json")
    assert waiting.run() is None
    assert [run.seed for run in waiting.failed] == [0]
    assert load(folder / "config.json").total_steps == 5
    assert "seed=0 differs in {'total_steps': (5, 1000)}" in capsys.readouterr().out
    log = runner.failure(folder, lines=20)
    assert log.splitlines()[0].endswith("seed=0 differs in {'total_steps': (5, 1000)}")
    (folder / "config.json").write_text('{"seed": ')
    waiting = runner.Runner(runs[1:], tmp_path, 1, lambda run: "well")
    (tmp_path / runs[1].name / "config.json").write_text('{"seed": ')
    (tmp_path / runs[1].name / "result.json").touch()
    assert waiting.run() is None
    assert [run.seed for run in waiting.failed] == [1]
    assert "seed=1/config.json is not valid JSON" in capsys.readouterr().out


def test_a_run_that_failed_before_it_saved_may_get_other_fields(runs, program, tmp_path):
    program('mkdir -p "$NAME/checkpoints"; exit 1')
    runner.Runner(runs[:1], tmp_path, 1, lambda run: "well").run()
    assert load(tmp_path / "base/seed=0/config.json").total_steps == 1000
    config = default_config()
    config.total_steps = 5
    others = expand(Sweep("t", (Grid({"seed": (0,)}),), "base"), config)
    runner.Runner(others, tmp_path, 1, lambda run: "well").run()
    assert load(tmp_path / "base/seed=0/config.json").total_steps == 5


def test_the_folder_of_a_waiting_run_may_be_removed(runs, program, tmp_path):
    program("exit 0")
    (tmp_path / runs[0].name).mkdir(parents=True)
    waiting = runner.Runner(runs[:1], tmp_path, 1, lambda run: "well")
    (tmp_path / runs[0].name).rmdir()
    waiting.run()
    assert waiting.failed == []
    assert load(tmp_path / "base/seed=0/config.json").total_steps == 1000


@pytest.mark.parametrize(("processes", "order"), [(1, (0, 1, 2)), (2, (1, 2, 0))])
def test_what_an_earlier_process_left_training_is_awaited(
    runs, program, tmp_path, capsys, processes, order
):
    program("exit 0")
    waiting = runner.Runner(runs, tmp_path, processes, lambda run: "well")
    (tmp_path / "base/seed=0").mkdir(parents=True)
    lock = (tmp_path / "base/seed=0/.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(4, lock.close).start()
    start = time.monotonic()
    assert waiting.run() is None
    assert time.monotonic() - start > 3.5
    assert not waiting.failed
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in shown if line.startswith("base")] == [
        f"base/seed={seed}" for seed in order
    ]
    assert any(line.startswith("waiting for runs") for line in shown)


def test_the_time_left_is_told_of_the_steps_taken(runs, program, tmp_path):
    waiting = runner.Runner(runs, tmp_path, 1, lambda run: "well")
    assert waiting._progress() == "3 of 3 runs left, 0 % of their steps done"
    (tmp_path / "base/seed=0").mkdir(parents=True)
    (tmp_path / "base/seed=0/metrics.jsonl").write_text('{"step": 300}\n')
    assert "3 of 3 runs left, 10 % of their steps done, ETA" in waiting._progress()
