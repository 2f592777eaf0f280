"""The command line, as a user types it, in processes of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
SMALL = (
    "--config.total_steps=2",
    "--config.batch_size=2",
    "--config.data.crop_size=(32, 32)",
    "--config.model.width=8",
    "--config.model.decoder_channels=16",
    "--config.log.panels_every=1",
    "--config.eval.batch_size=1",
)


def start(*arguments, program=("-m", "pals_jax.main")):
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*arguments, **program):
    """Exit code and everything printed."""
    process = start(*arguments, **program)
    shown, _ = process.communicate(timeout=300)
    return process.returncode, shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three training images and one to report on, in the layout of CamVid."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1)):
        for sort in (split, f"{split}annot"):
            (root / sort).mkdir()
        for i in range(count):
            image = rng.integers(0, 256, (36, 48, 3)).astype(np.uint8)
            Image.fromarray(image).save(root / split / f"{i}.jpg")
            Image.fromarray(image[..., 0] % 12).save(root / f"{split}annot" / f"{i}.png")
    return root


def camvid(folder, workdir):
    return (
        "--config=configs/camvid.py",
        f"--config.data.root={folder}",
        f"--config.data.data_dir={folder.parent / 'prepared'}",
        f"--workdir={workdir}",
        *SMALL,
    )


def test_train_evaluate_and_predict(folder, tmp_path):
    with start(*camvid(folder, tmp_path)) as process:
        for line in process.stdout:
            if line.startswith("evaluating checkpoint"):
                process.send_signal(signal.SIGTERM)
                break
        assert "interrupted; the same command goes on from the last" in process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    code, shown = run(*camvid(folder, tmp_path))
    assert code == 0, shown
    assert "mIoU" in shown
    assert "bicyclist" in shown
    assert "--mode=predict" in shown  # the next command to try
    assert "INFO" not in shown
    code, shown = run("--mode=evaluate", f"--workdir={tmp_path}", "--config.eval.split=train")
    assert code == 0, shown
    assert "train: 3 images" in shown
    # With nothing but the work directory, also in two words.
    code, shown = run("--mode", "predict", "--workdir", tmp_path)
    assert code == 0, shown
    assert (tmp_path / "predictions/val/index/0.png").exists()
    code, shown = run(*camvid(folder, tmp_path))
    assert code == 0
    assert "is finished" in shown
    (tmp_path / "result.json").write_text("{")
    code, shown = run(*camvid(folder, tmp_path))
    assert code != 0
    assert f"{tmp_path / 'result.json'} is damaged" in shown


def test_sigterm_saves_and_exits_with_its_code(folder, tmp_path):
    long = ("--config.total_steps=100000", "--config.log.every=1")
    with start(*camvid(folder, tmp_path), *long) as process:
        for line in process.stdout:
            if line.startswith("step 2"):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped and saved at step" in rest
    assert any((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--config=configs/demo.py", "--config.optimiser.momentum=1"], "config.optimizer.mom"),
        (["--config=configs/demo.py", "--config.model.widht=8"], "did you mean config.model.width"),
        (["--config=configs/demo.py", "--config.steps", "8"], "did you mean config.total_steps"),
        (["--config=configs/demo.py", "--config.lr=8"], "stand in pals_jax/config.py"),
        (["--config=configs/demo.py", "--config.log=8"], "there are config.log.every"),
        (["--config=configs/demo.py", "--config.batch_size=many"], "batch_size"),
        (["--config=configs/demo.py", "--config.model.name=resnet"], "deeplabv3plus_resnet18"),
        (["--config=configs/camvid.py"], "config.data.root is empty"),
        (["--config=configs/camvid.py", "--config.data.root=/nowhere"], "no folder /nowhere"),
        (["--config=configs/none.py"], "configs/none.py"),
        ([], "--config is missing"),
        (["--mode=evaluate"], "config.json is missing"),
        (["--mode=predict"], "config.json is missing"),
        (["--mode=test"], "train"),
        (["--config=configs/demo.py", "stray"], "stray"),
        (["--config=configs/demo.py", "--workdir=README.md"], "README.md cannot be a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_commands_are_explained_without_a_traceback(arguments, told, tmp_path):
    code, shown = run(f"--workdir={tmp_path}", *arguments)
    assert code != 0
    assert told in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_file_system_that_refuses_is_told_in_a_line(tmp_path):
    program = """
import errno, runpy
from pals_jax import train

def refused(config, workdir):
    raise OSError(errno.EROFS, "Read-only file system", str(workdir))

train.train_and_evaluate = refused
runpy.run_module("pals_jax.main", run_name="__main__")
"""
    arguments = "--config=configs/demo.py", f"--workdir={tmp_path}"
    code, shown = run(*arguments, program=("-c", program))
    assert code == 1
    assert f"'{tmp_path}': let it be written to, or take another folder" in shown
    assert "Traceback" not in shown
