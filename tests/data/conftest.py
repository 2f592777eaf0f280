"""Tiny data sets on disk and in memory."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from pals_jax.data.source import Source

CLASSES = ("ground", "wall", "sky")


@pytest.fixture
def config():
    """Makes `config.data` of a folder with three classes."""

    def make(**fields):
        return ConfigDict(
            {
                "name": "segmentation_folder",
                "root": "",
                "images": "",
                "masks": "",
                "classes": CLASSES,
                "palette": (),
                "ignore": -1,
                "palette_masks": False,
                "data_dir": "",
                "train_split": "train",
                **fields,
            }
        )

    return make


@pytest.fixture
def write_pair():
    """Writes one image and mask of the default layout; an array can be given for either."""

    def write(root, key, split="train", image=None, mask=None, extension="png"):
        rng = np.random.default_rng(list(key.encode()))
        if image is None:
            image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        if mask is None:
            mask = rng.integers(0, 3, image.shape[:2], dtype=np.uint8)
        paths = root / f"images/{split}/{key}.{extension}", root / f"masks/{split}/{key}.png"
        for path, pixels in zip(paths, (image, mask), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return paths

    return write


@pytest.fixture
def memory_source():
    """Makes a source of n noise images in memory; image channel 0 is 80 times the label."""

    def make(n, height=12, width=16):
        rng = np.random.default_rng(n)
        labels = rng.integers(0, 3, (n, height, width, 1), dtype=np.uint8)
        ids = [f"id{i}" for i in range(n)]
        records = [
            {"image": np.repeat(label * 80, 3, axis=-1), "label": label, "id": key.encode()}
            for label, key in zip(labels, ids, strict=True)
        ]
        return Source(ids, [(height, width)] * n, str(n), records, range(n))

    return make
