"""Small archives in the layout in which VOC 2012 and SBD are published."""

import io
import tarfile

import numpy as np
import scipy.io
from PIL import Image

from pals_jax.data import id_lists
from pals_jax.data.builders import voc
from pals_jax.data.catalog import default_palette

# By id: the class that each image shows.
TRAIN = {"2007_000032": 1, "2007_000039": 20}
VAL = {"2007_000033": 1, "2007_000042": 19}
ADDED = {"2008_000002": 20, "2008_000003": 19, "2011_003276": 7}  # by SBD
SIZE = (6, 8)


def mask_of(shown):
    """The class, a border of void and a corner of background."""
    mask = np.full(SIZE, shown, np.uint8)
    mask[2] = 255
    mask[:2, :2] = 0
    return mask


def jpeg(shown):
    buffer = io.BytesIO()
    Image.fromarray(np.full((*SIZE, 3), 10 * shown, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def palette_png(mask):
    picture = Image.fromarray(mask)
    picture.putpalette([c for colour in default_palette(256) for c in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def mat(shown):
    """As SBD's: a struct with Segmentation, Boundaries and CategoriesPresent, without void."""
    mask = np.where(mask_of(shown) == 255, 0, mask_of(shown))
    buffer = io.BytesIO()
    content = {
        "Segmentation": mask,
        "Boundaries": np.zeros((20, 1)),
        "CategoriesPresent": shown,
    }
    scipy.io.savemat(buffer, {"GTcls": content}, do_compression=True)
    return buffer.getvalue()


def voc_files():
    root = "VOCdevkit/VOC2012"
    files = {}
    for key, shown in {**TRAIN, **VAL, **ADDED}.items():
        files[f"{root}/Annotations/{key}.xml"] = b"<annotation/>"
        files[f"{root}/JPEGImages/{key}.jpg"] = jpeg(shown)
    for key, shown in {**TRAIN, **VAL}.items():
        files[f"{root}/SegmentationClass/{key}.png"] = palette_png(mask_of(shown))
        files[f"{root}/SegmentationObject/{key}.png"] = palette_png(mask_of(1))
    lists = {"train": TRAIN, "val": VAL, "trainval": sorted([*TRAIN, *VAL])}
    for name, ids in lists.items():
        files[f"{root}/ImageSets/Segmentation/{name}.txt"] = "\n".join(ids).encode() + b"\n"
        files[f"{root}/ImageSets/Main/{name}.txt"] = b"2008_000002\n"
    return files


def sbd_files():
    """SBD has images of VOC train and val of its own split, too."""
    root = "benchmark_RELEASE/dataset"
    files = {f"{root}/train.txt": "\n".join(ADDED).encode(), f"{root}/val.txt": b"2007_000033\n"}
    for key, shown in {**ADDED, "2007_000032": 5, "2007_000033": 5}.items():
        files[f"{root}/cls/{key}.mat"] = mat(shown)
        files[f"{root}/inst/{key}.mat"] = mat(1)
        files[f"{root}/img/{key}.jpg"] = jpeg(shown)
    return files


def write_archives(folder):
    write_tar(folder / voc.VOC, voc_files())
    write_tar(folder / voc.SBD, sbd_files())


def expect_small(monkeypatch):
    """The numbers of images and the ids of these archives become those that the builder expects."""
    monkeypatch.setattr(voc, "COUNTS", {"train": 2, "val": 2, "trainval": 4, "trainaug": 5})
    monkeypatch.setattr(id_lists, "shipped", lambda name: [*TRAIN, *ADDED])


def write_tar(path, files):
    mode = "w:gz" if path.suffix == ".tgz" else "w"
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_folder(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
