"""A work directory is held once, resumed on the same data, and left alone when finished."""

import dataclasses
import fcntl
import json

import pytest
from toy import CLASSES, draw_example

from pals_jax import data
from pals_jax.errors import ConfigError
from pals_jax.train import train_and_evaluate
from pals_jax.workdir import exclusive, is_held


class HeldOut(list):
    ids = ("c",)


def test_a_work_directory_is_trained_in_once_at_a_time(config, run_data, tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match=r"workdir=.*another process"):
            train_and_evaluate(config, tmp_path, run_data())


def test_a_held_work_directory_is_known(tmp_path):
    assert not is_held(tmp_path)
    with exclusive(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_a_finished_run_says_so_and_does_nothing(config, run_data, tmp_path, capsys):
    result = train_and_evaluate(config, tmp_path, run_data())
    capsys.readouterr()
    poisoned = run_data()._replace(batches=iter(()))
    assert train_and_evaluate(config, tmp_path, poisoned) == result
    assert "finished" in capsys.readouterr().out
    config.eval.split = "test"
    assert train_and_evaluate(config, tmp_path, poisoned) == result
    assert "config.eval.split = 'test' was not heeded" in capsys.readouterr().out
    for damaged in ("{", "{}", "[1]"):
        (tmp_path / "result.json").write_text(damaged)
        with pytest.raises(ConfigError, match=r"result\.json is damaged.*evaluates again"):
            train_and_evaluate(config, tmp_path, poisoned)


def test_resuming_on_other_data_is_refused_or_told(config, run_data, tmp_path):
    config.total_steps = 2
    train_and_evaluate(config, tmp_path, run_data())
    (tmp_path / "result.json").unlink()
    of_one_class = [example | {"label": 0 * example["label"]} for example in run_data().evaluation]
    good = run_data()._replace(evaluation=of_one_class)  # fits any index to ignore
    config.data.root = "elsewhere"
    dev = HeldOut([draw_example(9)])
    for other, told in (
        ({"ids": ("a", "b", "c")}, r"/ids\.txt lists 2 images.*3"),
        ({"dev": dev}, r"/dev_ids\.txt lists 0 images.*1"),
        ({"dataset": dataclasses.replace(good.dataset, classes=("a", "b", "c"))}, r"classes .*'c'"),
        ({"dataset": dataclasses.replace(good.dataset, ignore=254)}, r"ignore index .*254"),
    ):
        with pytest.raises(data.DataError, match=rf"cannot resume: .*{told}"):
            train_and_evaluate(config, tmp_path, good._replace(**other))
    # A refusal has changed nothing.
    assert json.loads((tmp_path / "config.json").read_text())["data"]["root"] == ""
    dataset = dataclasses.replace(good.dataset, classes=list(CLASSES))
    train_and_evaluate(config, tmp_path, good._replace(dataset=dataset))
