"""Runs before any import of JAX: four fake CPU devices and one compilation cache a session."""

import itertools
import os
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
_cache = tempfile.TemporaryDirectory(prefix="pals_jax_tests_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import pytest  # noqa: E402
from toy import CLASSES, SIZE, ToyNetwork, draw_batch, draw_example  # noqa: E402

from pals_jax import data, models  # noqa: E402
from pals_jax.config import default_config  # noqa: E402
from pals_jax.train import RunData  # noqa: E402

models.MODELS["toy"] = ToyNetwork


@pytest.fixture
def config():
    """The smallest run that still has every part; its network is a toy."""
    config = default_config()
    config.total_steps = 4
    config.batch_size = 4
    config.num_devices = 1
    config.model.name = "toy"
    config.model.width = 8
    config.model.decoder_channels = 16
    config.data.crop_size = SIZE
    config.log.every = 2
    config.log.panels_every = 0
    config.checkpoint.every = 2
    config.eval.batch_size = 2
    return config


@pytest.fixture
def run_data():
    """Makes data in memory: deterministic batches and three images to evaluate."""

    def make(batch_size=4, dev=0):
        dataset = data.Dataset("bands", CLASSES, data.default_palette(3), ignore=255)
        batches = (draw_batch(seed, batch_size) for seed in itertools.count())
        evaluation = [draw_example(seed) for seed in range(3)]
        held_out = [draw_example(seed) for seed in range(100, 100 + dev)]
        return RunData(dataset, batches, evaluation, held_out, ids=("a", "b"))

    return make
