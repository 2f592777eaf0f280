"""CamVid itself, where a copy is at hand; it may not be shipped."""

import os

import numpy as np
import pytest

from pals_jax.data import CATALOG, open_split, scan, select, split_dev

ROOT = os.environ.get("PALS_CAMVID_ROOT", "")
pytestmark = pytest.mark.skipif(not ROOT, reason="set PALS_CAMVID_ROOT to a folder with CamVid")
INFO = CATALOG["camvid"]


def test_train_and_its_dev_part():
    ids = [pair.id for pair in scan(ROOT, INFO.images, INFO.masks, "train")]
    train, dev = split_dev(ids, "prefix:0006R0", seed=0)
    assert (len(ids), len(train), len(dev)) == (367, 266, 101)
    assert len(select(train, "0.1", seed=0)) == 27


def test_val_is_read_whole(config, tmp_path):
    fields = config(name="camvid", root=ROOT, classes=(), data_dir=str(tmp_path))
    source = open_split(fields, "val")
    assert len(source) == 101
    counts = np.zeros(INFO.num_classes + 1, int)
    for example in source:
        assert example["image"].shape == (360, 480, 3)
        counts += np.bincount(example["label"].ravel(), minlength=len(counts))
    bicyclist = counts[INFO.classes.index("bicyclist")] / counts[: INFO.num_classes].sum()
    assert bicyclist == pytest.approx(0.023, abs=0.002)
