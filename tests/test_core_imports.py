"""The core works where TensorFlow, TFDS, clu and grain are not installed."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib.machinery
import sys

BLOCKED = {"tensorflow", "tensorflow_datasets", "clu", "grain", "tensorboard"}

find_spec = importlib.machinery.PathFinder.find_spec

def absent(name, *arguments):
    return None if name.split(".")[0] in BLOCKED else find_spec(name, *arguments)

importlib.machinery.PathFinder.find_spec = absent

import itertools, pathlib, tempfile, warnings
import numpy as np
from pals_jax import affinity, data, evaluate, losses, metrics, models, objectives, predict, targets
from pals_jax.config import default_config
from pals_jax.train import RunData, train_and_evaluate

config = default_config()
config.update(total_steps=2, batch_size=2, num_devices=1)
config.model.update(name="deeplabv3plus_resnet18", width=8, decoder_channels=16)
config.data.crop_size = (32, 32)
rng = np.random.default_rng(0)
stream = {
    "image": rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8),
    "label": rng.integers(0, 3, (2, 32, 32)).astype(np.int32),
}
example = {"image": stream["image"][0], "label": stream["label"][0], "id": "0"}
dataset = data.Dataset("noise", ("a", "b", "c"), data.default_palette(3), 255)
with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = train_and_evaluate(
        config, folder, RunData(dataset, itertools.repeat({"labeled": stream}), [example])
    )
    assert (pathlib.Path(folder) / "metrics.jsonl").read_text()
assert any("no TensorBoard files" in str(warning.message) for warning in caught)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"tensorflow", "tensorflow_datasets", "clu", "grain"}, loaded
print("steps", result["checkpoint_step"])
"""


def test_a_jitted_step_without_tensorflow_tfds_clu_and_grain():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "steps 2" in done.stdout
