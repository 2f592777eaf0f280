"""Small archives in the layout in which Cityscapes is published."""

import io
import zipfile

import numpy as np
from PIL import Image

from pals_jax.data.builders import cityscapes

CITIES = {"train": ("aachen", "bochum"), "val": ("lindau",), "test": ("berlin",)}
EXTRA = {"train_extra": ("bad-honnef",)}


def expect_small(monkeypatch):
    """The numbers of images of these archives become those that the builder expects."""
    fine = {split: len(names) for split, names in CITIES.items()}
    coarse = {"train": 2, "train_extra": 1, "val": 1}
    counts = {"semantic_segmentation": fine, "semantic_segmentation_extra": coarse}
    monkeypatch.setattr(cityscapes, "COUNTS", counts)


def write_cityscapes(folder):
    """Images and fine labels of one image a city."""
    write_images(folder / "leftImg8bit_trainvaltest.zip", CITIES)
    write_labels(folder / "gtFine_trainvaltest.zip", CITIES, "gtFine")


def write_coarse(folder):
    """The extra images and the coarse labels."""
    write_images(folder / "leftImg8bit_trainextra.zip", EXTRA)
    write_labels(folder / "gtCoarse.zip", CITIES | EXTRA, "gtCoarse")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def label_ids(shift=0):
    """Columns of all label ids."""
    columns = (np.arange(2048) // 61 + shift) % 34
    return np.repeat(columns[None].astype(np.uint8), 1024, 0)


def write_images(path, cities, size=(1024, 2048)):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "")
        for split, names in cities.items():
            for i, city in enumerate(names):
                pixels = np.full((*size, 3), 40 + i, np.uint8)
                name = f"leftImg8bit/{split}/{city}/{city}_000000_000019_leftImg8bit.png"
                archive.writestr(name, png(pixels))


def write_labels(path, cities, kind):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "")
        for split, names in cities.items():
            for i, city in enumerate(names):
                stem = f"{kind}/{split}/{city}/{city}_000000_000019_{kind}"
                archive.writestr(f"{stem}_labelIds.png", png(label_ids(i)))
                archive.writestr(f"{stem}_color.png", b"")
                archive.writestr(f"{stem}_polygons.json", "{}")
