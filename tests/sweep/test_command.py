"""The command line of sweeps, as a user types it, in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

SWEEP = """
from pals_jax.sweep import Grid, Sweep

def get_sweep():
    variants = {
        "CE": {"target.name": "one_hot"},
        "lost": {"target.name": "one_hot", "data.subset": "nowhere.txt"},
        "PALS": {"target.name": "pals"},
    }
    return Sweep("Tiny", (Grid({"seed": (0,)}, variants),), "CE", conditions=(), bootstrap_block=1)
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "pals_jax.sweep", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments):
    """Exit code and everything printed."""
    process = start(*arguments)
    shown, _ = process.communicate(timeout=300)
    return process.returncode, shown


@pytest.fixture
def command(tmp_path):
    """Flags of a sweep over three runs of a few steps, of which one must fail."""
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        for sort in (split, f"{split}annot"):
            (root / sort).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (36, 48, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / split / f"{i}.jpg")
            Image.fromarray(image[..., 0] % 12).save(root / f"{split}annot" / f"{i}.png")
    (tmp_path / "sweep.py").write_text(SWEEP)
    return (
        "--config=configs/camvid.py",
        f"--sweep={tmp_path / 'sweep.py'}",
        f"--workdir={tmp_path / 'work'}",
        "--processes=2",
        f"--config.data.root={root}",
        f"--config.data.data_dir={tmp_path / 'prepared'}",
        "--config.total_steps=4",
        "--config.batch_size=2",
        "--config.data.crop_size=(32, 32)",
        "--config.model.width=8",
        "--config.model.decoder_channels=16",
        "--config.log.every=1",
        "--config.log.panels_every=0",
        "--config.eval.batch_size=1",
    )


def attempts(work, name):
    """How often a run was started."""
    return (work / name / "log.txt").read_text().count("$ ")


def test_a_failed_run_is_shown_and_the_rest_goes_on(command, tmp_path):
    work = tmp_path / "work"
    code, shown = run(*command)
    assert code == 1, shown
    assert "lost/seed=0: failed: DataError: config.data.subset: the list of ids" in shown
    assert "1 of 3 runs failed" in shown
    rows = [json.loads(line) for line in (work / "rows.jsonl").read_text().splitlines()]
    assert {row["name"] for row in rows} == {"CE/seed=0", "PALS/seed=0"}
    assert {len(row["block_areas"]) for row in rows} == {2}
    report = (work / "report.md").read_text()
    assert "nowhere.txt cannot be read" in report
    assert "2 of 3 runs are finished, 1 failed" in report

    code, shown = run(*command)  # only what failed is tried again
    assert code == 1, shown
    assert "2 of 3 runs are finished" in shown
    assert [attempts(work, f"{name}/seed=0") for name in ("CE", "PALS", "lost")] == [1, 1, 2]

    (work / "report.html").unlink()
    code, shown = run(*command, "--mode=report")
    assert code == 0, shown
    assert (work / "report.html").exists()
    assert attempts(work, "lost/seed=0") == 2

    # As a sweep that was killed while its runs went on.
    (work / "rows.jsonl").unlink()
    code, shown = run(*command, "--mode=report")
    assert code == 0, shown
    assert "2 of 3 runs are finished, 1 failed" in (work / "report.md").read_text()
    assert not (work / "rows.jsonl").exists()
    code, shown = run(*command)
    assert "2 of 3 runs are finished" in shown
    assert [attempts(work, f"{name}/seed=0") for name in ("CE", "PALS", "lost")] == [1, 1, 3]
    assert len((work / "rows.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("--sweep=nowhere.py",), "--sweep=nowhere.py: there is no such file"),
        (("--sweep=configs/camvid.py",), "must define get_sweep()"),
        (("--workdir=",), "--workdir is missing"),
        (("--processes=-1",), "--processes=-1"),
    ],
)
def test_wrong_arguments_are_explained(command, changed, message):
    code, shown = run(*command, *changed)
    assert code == 1
    assert message in shown
    assert "Traceback" not in shown
