"""Runs before any import of JAX: four fake CPU devices and one compilation cache a session."""

import itertools
import os
import tempfile

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers share the cache of the process above them
    _cache = tempfile.TemporaryDirectory(prefix="pals_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax
import pytest
from toy import CLASSES, SIZE, ToyNetwork, draw_batch, draw_example

from pals_jax import data, models
from pals_jax.config import default_config
from pals_jax.train import RunData

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
    config.target.name = "pals"
    config.data.crop_size = SIZE
    config.log.every = 2
    config.log.panels_every = 0
    config.checkpoint.every = 2
    config.eval.batch_size = 2
    return config


@pytest.fixture
def compilations():
    """Grows by a name whenever JAX compiles something during the test."""
    names = []

    def listen(name, *_, **__):
        if "backend_compile" in name:
            names.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


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
