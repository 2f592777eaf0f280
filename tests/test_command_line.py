"""What is said of a field that does not exist."""

import pytest
from absl import flags

from pals_jax import command_line


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("batchsize", "did you mean config.batch_size?"),
        ("data.image", "did you mean config.data.images?"),
        ("model.nam", "did you mean config.model.name?"),
        ("checkpoint.evry", "did you mean config.checkpoint.every?"),
        ("optim.learning_rate", "did you mean config.optimizer.learning_rate?"),
        ("dev", "did you mean config.data.dev?"),
        ("temprature", "did you mean config.target.options.temperature?"),
        ("optimizer", "there are config.optimizer.end_learning_rate"),
        ("optimizer.lr", "there are config.optimizer.end_learning_rate"),
        ("data.crop_size[0]", "did you mean config.data.crop_size?"),
        ("xyzzy", "all fields stand in pals_jax/config.py"),
    ],
)
def test_the_field_that_is_meant_is_suggested(typed, told):
    with pytest.raises(SystemExit) as raised:
        command_line.parse(["main", f"--config.{typed}=1", "--config=configs/demo.py"])
    assert str(raised.value).startswith(f"ConfigError: unknown field config.{typed}; {told}")
    assert not flags.FLAGS.is_parsed()


def test_a_tuple_given_twice_is_refused():
    twice = ["--config.data.classes=('a',)", "--config.seed=1", "--config.data.classes=('b',)"]
    with pytest.raises(SystemExit, match=r"config\.data\.classes is given 2 times: give it once"):
        command_line.parse(["main", *twice, "--config=configs/demo.py"])
    assert not flags.FLAGS.is_parsed()


def test_a_mistyped_negation_is_refused():
    with pytest.raises(SystemExit, match=r"config\.data\.flipp; did you mean config\.data\.flip"):
        command_line.parse(["main", "--noconfig.data.flipp", "--config=configs/demo.py"])
    assert not flags.FLAGS.is_parsed()


def test_a_file_of_flags_is_checked_too(tmp_path):
    (tmp_path / "flags.txt").write_text("--config=configs/demo.py\n--config.batchsize=2\n")
    with pytest.raises(SystemExit, match=r"config\.batchsize; did you mean config\.batch_size"):
        command_line.parse(["main", f"--flagfile={tmp_path}/flags.txt"])
    assert not flags.FLAGS.is_parsed()
