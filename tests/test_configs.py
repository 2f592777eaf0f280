"""Every file in configs/ loads and resolves, and every network and recipe takes training steps."""

import contextlib
import importlib.util
import itertools
from pathlib import Path

import cityscapes_archives
import numpy as np
import pytest
import voc_archives

from pals_jax import config as configs
from pals_jax import data
from pals_jax.run_data import RunData, open_data
from pals_jax.train import train_and_evaluate

FILES = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
OF_CE = [path for path in FILES if path.stem.endswith("_ce")]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """Archives in the published layouts."""
    folder = tmp_path_factory.mktemp("downloads")
    cityscapes_archives.write_cityscapes(folder)
    voc_archives.write_archives(folder)
    return folder


@pytest.mark.parametrize("path", OF_CE, ids=lambda path: path.stem)
def test_pals_differs_from_cross_entropy_in_the_target_alone(path):
    cross_entropy = configs.resolve(load(path).get_config())
    pals = configs.resolve(load(path.with_stem(path.stem.replace("_ce", "_pals"))).get_config())
    assert cross_entropy.target.name == "one_hot"
    assert pals.target.name == "pals"
    pals.target = cross_entropy.target
    assert not configs.changes(cross_entropy, pals)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_names_the_file(path):
    assert f"--config=configs/{path.name}" in load(path).__doc__


# Those of cross-entropy are, but for the target, those of PALS, and take as long to compile.
@pytest.mark.parametrize("path", [p for p in FILES if p not in OF_CE], ids=lambda path: path.stem)
def test_config_takes_steps(path, tmp_path, downloads, monkeypatch):
    cityscapes_archives.expect_small(monkeypatch)
    voc_archives.expect_small(monkeypatch)
    config = configs.resolve(load(path).get_config())
    with config.unlocked():
        # Only smaller: the network, the target and the optimiser stay what the file says.
        config.update(total_steps=2, batch_size=2, accumulation=1, num_devices=1)
        config.model.update(width=8, decoder_channels=16)
        config.log.panels_every = 0
        config.data.update(crop_size=(32, 32), dev="", classes=(), workers=0)
        config.data.update(root=str(downloads), data_dir=str(downloads / "prepared"))
    published = config.data.name in ("cityscapes", "voc2012")
    run_data = open_data(config) if published else made_up(config.data.name)
    with contextlib.closing(run_data):
        result = train_and_evaluate(config, tmp_path, run_data)
    assert result["checkpoint_step"] == 2
    assert set(result["iou"]) == set(run_data.dataset.classes)


def made_up(name):
    """Noise, with the classes of a data set."""
    dataset = data.CATALOG[name]
    if not dataset.classes:
        dataset = data.Dataset(name, ("a", "b"), data.default_palette(2), 255)
    rng = np.random.default_rng(0)
    stream = {
        "image": rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8),
        "label": rng.integers(0, dataset.num_classes, (2, 32, 32)).astype(np.int32),
    }
    example = {"image": stream["image"][0], "label": stream["label"][0], "id": "0"}
    return RunData(dataset, itertools.repeat({"labeled": stream}), [example])
