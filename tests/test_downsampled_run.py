"""A run on down-sampled crops from end to end: training, resuming, evaluating, predicting."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image
from toy import CLASSES, draw_example

from pals_jax import config as configs
from pals_jax import evaluate, networks, predict, sharding
from pals_jax.checkpoints import Checkpoints, Meta
from pals_jax.errors import ConfigError
from pals_jax.interrupt import Interrupted
from pals_jax.run_data import open_data
from pals_jax.train import train_and_evaluate

SIZE = (37, 50)  # neither divides by 2 · 4


@pytest.fixture
def folder(config, tmp_path):
    """A data set on disk; the configuration trains on it at half its resolution."""
    for split, seeds in (("train", range(5)), ("val", range(5, 7))):
        for sort, entry in (("images", "image"), ("masks", "label")):
            (tmp_path / "data" / sort / split).mkdir(parents=True)
            for seed in seeds:
                pixels = draw_example(seed, SIZE)[entry].astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / sort / split / f"{seed}.png")
    config.data.update(name="segmentation_folder", root=str(tmp_path / "data"), classes=CLASSES)
    config.data.update(data_dir=str(tmp_path / "prepared"), downsample=2)
    config.log.panels_every = 4
    return tmp_path


class Stopping:
    """A pipeline during whose third batch this process gets a signal."""

    def __init__(self, batches):
        self.batches, self.count = batches, 0

    def __next__(self):
        self.count += 1
        if self.count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return next(self.batches)

    def __getattr__(self, name):
        return getattr(self.batches, name)


def stored(workdir):
    with Checkpoints(workdir, read_only=True) as checkpoints:
        _, network, meta = networks.restore(checkpoints, 4, sharding.data_mesh(1))
    return jax.device_get(network), meta


def test_train_resume_evaluate_and_predict(config, folder):
    whole = train_and_evaluate(config, folder / "whole")
    labels = [draw_example(seed, SIZE)["label"] for seed in (5, 6)]
    counts = np.bincount(np.ravel(labels), minlength=256)
    assert np.sum(whole["confusion"], axis=1).tolist() == counts[:3].tolist()  # full resolution
    with Image.open(folder / "whole/panels/step_000004.png") as picture:
        assert picture.height == 14 + 3 * 32 * 6  # of crops of 32, enlarged to 192

    parts = open_data(configs.resolve(config))
    with pytest.raises(Interrupted, match="step 3"):
        train_and_evaluate(
            config, folder / "parts", parts._replace(batches=Stopping(parts.batches))
        )
    assert train_and_evaluate(config, folder / "parts") == whole
    (network, meta), (resumed, _) = stored(folder / "whole"), stored(folder / "parts")
    jax.tree.map(np.testing.assert_array_equal, network, resumed)
    assert meta.downsample == 2

    # The work directory is enough.
    saved = configs.resolve(configs.load(folder / "whole/config.json"))
    found = evaluate.evaluate(saved, folder / "whole")
    assert {key: found[key] for key in whole if key in found} == {
        key: whole[key] for key in whole if key in found
    }
    output = predict.predict(saved, folder / "whole")
    for seed, label in zip((5, 6), labels, strict=True):
        index = np.asarray(Image.open(output / f"index/{seed}.png"))
        assert index.shape == label.shape
    read = [np.asarray(Image.open(output / f"index/{seed}.png")) for seed in (5, 6)]
    confusion = np.zeros((256, 3), int)
    np.add.at(confusion, (np.ravel(labels), np.ravel(read)), 1)
    assert confusion[:3].tolist() == found["confusion"]

    with saved.unlocked():
        saved.data.downsample = 1
    for mode in (evaluate.evaluate, predict.predict):
        with pytest.raises(ConfigError, match=r"config\.data\.downsample is 1, but .* has 2"):
            mode(saved, folder / "whole")


def test_a_run_is_not_resumed_at_another_factor(config, run_data, tmp_path):
    train_and_evaluate(config, tmp_path, run_data())
    config.data.downsample = 2
    with pytest.raises(ConfigError, match=r"config\.data\.downsample: .* with 1, now 2"):
        train_and_evaluate(config, tmp_path, run_data())


def test_checkpoints_of_older_versions_were_not_down_sampled():
    meta = Meta({}, "bands", CLASSES, ((0, 0, 0),) * 3, 255, downsample=2)
    fields = dataclasses.asdict(meta)
    assert Meta.from_json(fields) == meta
    del fields["downsample"]
    assert Meta.from_json(fields) == dataclasses.replace(meta, downsample=1)
