import json

import numpy as np
import pytest

from pals_jax import writers


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_scalars_and_images_are_written(tmp_path):
    with writers.Writer(tmp_path) as writer:
        writer.scalars(3, {"loss": np.float32(0.5), "rate": 2})
        writer.images(3, {"panel": np.zeros((4, 5, 3), np.uint8)})
    assert lines(tmp_path) == [{"step": 3, "loss": 0.5, "rate": 2.0}]
    assert any("tfevents" in path.name for path in (tmp_path / "tensorboard").iterdir())


def test_a_disk_without_room_for_tensorboard_ends_its_files_alone(tmp_path):
    errors = pytest.importorskip("tensorflow").errors

    def no_room(*_):
        raise errors.ResourceExhaustedError(None, None, "no space left")

    with writers.Writer(tmp_path) as writer:
        writer._tensorboard.write_scalars = no_room
        with pytest.warns(UserWarning, match=r"no more TensorBoard files.*\(no space left\)"):
            writer.scalars(1, {"loss": 1.0})
        writer.scalars(2, {"loss": 0.5})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_what_is_not_finite_is_null(tmp_path):
    with writers.Writer(tmp_path) as writer:
        writer.scalars(1, {"loss": float("nan"), "norm": float("inf")})
    assert lines(tmp_path) == [{"step": 1, "loss": None, "norm": None}]


def test_resuming_drops_later_and_half_written_lines(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    writers.drop_after(tmp_path, 2)
    assert lines(tmp_path) == [{"step": 1}, {"step": 2}]
    writers.drop_after(tmp_path / "missing", 2)


def test_pictures_beyond_a_step_are_dropped(tmp_path):
    folder = tmp_path / writers.PANELS
    folder.mkdir()
    for name in ("step_000002.png", "step_000004.png", "step_of_mine.png"):
        (folder / name).touch()
    writers.drop_after(tmp_path, 2)
    assert {path.name for path in folder.iterdir()} == {"step_000002.png", "step_of_mine.png"}


def test_without_tensorboard_the_jsonl_is_complete(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.warns(UserWarning, match=r"no TensorBoard files: clu.*metrics\.jsonl"):
        writer = writers.Writer(tmp_path)
    with writer:
        writer.scalars(1, {"loss": 1.0})
        writer.images(1, {"panel": np.zeros((4, 5, 3), np.uint8)})
    assert lines(tmp_path) == [{"step": 1, "loss": 1.0}]
    assert not (tmp_path / "tensorboard").exists()
