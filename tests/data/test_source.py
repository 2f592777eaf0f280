"""From a folder, through TFDS, back to exactly the pixels that were there."""

import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from pals_jax.data import streets
from pals_jax.data.builders import segmentation_folder, synthetic_streets
from pals_jax.data.errors import DataError
from pals_jax.data.folder import scan
from pals_jax.data.images import read_image, read_mask
from pals_jax.data.source import Source, open_split

LAYOUT = "images/{split}/{id}.*", "masks/{split}/{id}.png"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)

OPEN_WITHOUT_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "clu", "grain"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
from ml_collections import ConfigDict
from pals_jax.data import open_split

source = open_split(ConfigDict({config!r}), "train")
print(len(source), source[0]["id"], source[0]["image"].sum(), source[0]["label"].sum())
"""


def open_without_tensorflow(config):
    """Starts a process that opens the split and prints what it holds."""
    code = OPEN_WITHOUT_TENSORFLOW.format(config=config.to_dict())
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture
def folder(tmp_path, write_pair):
    """One file of each kind that must be handled, next to plain ones."""
    write_pair(tmp_path, "plain_png")
    write_pair(tmp_path, "plain_jpg", extension="jpg")
    write_pair(tmp_path, "grey", image=NOISE[..., 0])
    write_pair(tmp_path, "grey16", image=NOISE[..., 0].astype(np.uint16) * 200)
    write_pair(tmp_path, "alpha", image=np.dstack([NOISE, NOISE[..., :1]]))
    write_pair(tmp_path, "drive/large", image=np.tile(NOISE, (3, 4, 1)))
    turned, _ = write_pair(tmp_path, "turned", mask=np.full((8, 6), 2, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(turned, exif=exif)
    short, _ = write_pair(tmp_path, "without_end")  # Pillow reads it, OpenCV does not
    short.write_bytes(short.read_bytes()[:-12])
    return tmp_path


def complete(data_dir):
    """Data sets below a TFDS folder that look finished."""
    return list(data_dir.glob("**/dataset_info.json"))


def test_a_source_holds_exactly_what_the_files_hold(config, folder, data_dir):
    source = open_split(config(root=str(folder), data_dir=str(data_dir)), "train")
    pairs = scan(folder, *LAYOUT, "train")
    assert source.ids == tuple(pair.id for pair in pairs)
    assert source.ids[1] == "drive/large"
    assert len(source) == 8
    for index, pair in enumerate(pairs):
        example = source[index]
        np.testing.assert_array_equal(example["image"], read_image(pair.image))
        np.testing.assert_array_equal(example["label"], read_mask(pair.mask, 3, 255))
        assert example["id"] == pair.id
        assert example["label"].dtype == np.uint8
        assert source.sizes[index] == example["label"].shape


def test_files_pass_through_unless_they_need_work(config, folder, data_dir):
    source = open_split(config(root=str(folder), data_dir=str(data_dir)), "train")
    builder = tfds.builder_from_directory(complete(data_dir)[0].parent)
    records = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
    untouched = {
        pair.id
        for pair, record in zip(scan(folder, *LAYOUT, "train"), records, strict=True)
        if record["image"] == pair.image.read_bytes()
    }
    assert untouched == {"plain_png", "plain_jpg", "grey", "drive/large"}
    assert len(source) == len(records)


def test_the_hash_is_that_of_the_content(config, folder, data_dir, tmp_path):
    def opened(root):
        return open_split(config(root=str(root), data_dir=str(data_dir)), "train")

    first = opened(folder).data_hash
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "moved")
    assert opened(moved).data_hash == first
    assert opened(moved).select(["grey"]).data_hash == first
    mask = moved / "masks/train/grey.png"
    Image.fromarray((np.array(Image.open(mask)) + 1) % 3).save(mask)
    assert opened(moved).data_hash != first


def test_a_selection_keeps_the_given_order(config, folder, data_dir):
    source = open_split(config(root=str(folder), data_dir=str(data_dir)), "train")
    part = source.select(["turned", "alpha"])
    assert part.ids == ("turned", "alpha")
    assert part.sizes == ((8, 6), (6, 8))
    assert [part[i]["id"] for i in range(2)] == ["turned", "alpha"]
    assert [example["id"] for example in part] == ["turned", "alpha"]
    with pytest.raises(KeyError):
        source.select(["nobody"])


def test_wide_indices(config, tmp_path, write_pair):
    mask = np.array([[0, 299], [300, 5]], np.uint16)
    write_pair(tmp_path, "a", image=NOISE[:2, :2], mask=mask)
    names = tuple(f"class {i}" for i in range(300))
    fields = {"root": str(tmp_path), "data_dir": str(tmp_path / "tfds")}
    source = open_split(config(classes=names, ignore=300, **fields), "train")
    np.testing.assert_array_equal(source[0]["label"], mask)


def test_processes_may_prepare_at_once_and_without_tensorflow(config, folder, tmp_path):
    fields = config(root=str(folder), data_dir=str(tmp_path / "tfds"))
    processes = [open_without_tensorflow(fields) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    first = open_split(fields, "train")[0]
    expected = f"8 {first['id']} {first['image'].sum()} {first['label'].sum()}"
    assert [output.splitlines()[-1] for output in outputs] == [expected, expected]
    assert "".join(outputs).count("preparing") == 1
    assert [process.returncode for process in processes] == [0, 0]
    assert len(complete(tmp_path / "tfds")) == 1


def test_a_changed_folder_is_prepared_anew(config, folder, data_dir, write_pair):
    fields = config(root=str(folder), data_dir=str(data_dir))
    before = open_split(fields, "train").select(["grey"])[0]
    write_pair(folder, "grey", image=255 - NOISE[..., 0])
    write_pair(folder, "new")
    after = open_split(fields, "train")
    assert len(after) == 9
    np.testing.assert_array_equal(after.select(["grey"])[0]["image"], 255 - before["image"])


def test_a_touched_file_is_prepared_anew(folder, config):
    from pals_jax.data.catalog import dataset_info

    make = partial(
        segmentation_folder.FolderConfig,
        root=str(folder),
        info=dataset_info(config()),
        splits=("train",),
    )
    name = make().name
    assert make().name == name
    assert make(palette_masks=True).name != name
    assert make(info=dataset_info(config(ignore=7))).name != name
    os.utime(folder / "masks/train/grey.png", ns=(0, 0))
    assert make().name != name


# --- bad input -------------------------------------------------------------------------------


def test_all_problems_of_a_split_are_listed_and_nothing_is_left(config, tmp_path, write_pair):
    write_pair(tmp_path, "good")
    write_pair(tmp_path, "size", mask=np.zeros((6, 9), np.uint8))
    write_pair(tmp_path, "value", mask=np.full((6, 8), 7, np.uint8))
    write_pair(tmp_path, "colour", mask=NOISE)
    broken, _ = write_pair(tmp_path, "broken", image=np.tile(NOISE, (9, 9, 1)), extension="jpg")
    broken.write_bytes(broken.read_bytes()[:-400])
    fields = config(root=str(tmp_path), data_dir=str(tmp_path / "tfds"))
    with pytest.raises(DataError) as error:
        open_split(fields, "train")
    text = str(error.value)
    assert "split 'train'" in text
    assert "4 of 5 pairs cannot be used" in text
    assert "size.png has (6, 8) when upright, its mask" in text
    assert "size.png has (6, 9)" in text
    assert "value.png: label values outside the classes 0..2 and ignore=255: 7 (48 pixels)" in text
    assert "colour.png: mode RGB" in text
    assert "broken.jpg: unreadable or truncated" in text
    assert not complete(tmp_path / "tfds")
    assert not list((tmp_path / "tfds").glob("**/*incomplete*"))

    for key in ("size", "value", "colour", "broken"):
        for path in tmp_path.glob(f"*/train/{key}.*"):
            path.unlink()
    assert open_split(fields, "train").ids == ("good",)


def test_a_long_list_of_problems_is_cut(config, tmp_path, write_pair):
    for i in range(25):
        write_pair(tmp_path, f"bad{i:02d}", mask=np.full((6, 8), 9, np.uint8))
    with pytest.raises(DataError, match=r"25 of 25 pairs(?s:.*)bad19.*\n  … and 5 more\.$"):
        open_split(config(root=str(tmp_path), data_dir=str(tmp_path / "tfds")), "train")


def test_an_interrupted_preparation_leaves_nothing_that_looks_finished(
    config, folder, tmp_path, monkeypatch
):
    fields = config(root=str(folder), data_dir=str(tmp_path / "tfds"))

    def interrupt(path):
        if path.stem == "grey":
            raise KeyboardInterrupt
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(segmentation_folder, "read_image", interrupt)
        with pytest.raises(KeyboardInterrupt):
            open_split(fields, "train")
    assert not complete(tmp_path / "tfds")
    # What a killed process leaves behind is cleared away.
    (parent,) = (tmp_path / "tfds/segmentation_folder").iterdir()
    version = str(segmentation_folder.SegmentationFolder.VERSION)
    (parent / f"incomplete.ABC123_{version}").mkdir()
    assert len(open_split(fields, "train")) == 8
    assert [path.name for path in parent.iterdir() if path.is_dir()] == [version]


def test_a_training_split_of_binary_masks_is_refused(config, tmp_path, write_pair):
    border = np.zeros((6, 8), np.uint8)
    border[0] = 255
    write_pair(tmp_path, "a", mask=border)
    write_pair(tmp_path, "b", mask=border)
    fields = config(root=str(tmp_path), data_dir=str(tmp_path / "tfds"))
    with pytest.raises(DataError, match=r"split 'train' holds only 0 and 255.*Convert 255 to 1"):
        open_split(fields, "train")
    fields.train_split = "other"
    with pytest.warns(UserWarning, match="nothing but class 0 has labels"):
        assert len(open_split(fields, "train")) == 2  # to evaluate on, one class may be right
    fields.train_split = "train"
    write_pair(tmp_path, "c")  # one mask with a second class
    assert len(open_split(fields, "train")) == 3


def test_a_split_that_does_not_exist(config):
    with pytest.raises(DataError, match=r"synthetic_streets has no split 'test', only train, val"):
        open_split(config(name="synthetic_streets", classes=()), "test")


@pytest.mark.parametrize("split", ["all", "train-1"])
def test_a_split_name_that_tfds_cannot_take(config, folder, split):
    with pytest.raises(DataError, match="TFDS takes letters"):
        open_split(config(root=str(folder)), split)


def test_a_record_out_of_place_is_noticed():
    record = {"image": NOISE, "label": NOISE[..., :1], "id": b"b"}
    with pytest.raises(DataError, match=r"damaged: expected 'a', found 'b'"):
        Source(["a"], [(6, 8)], "0123", [record], [0])[0]


# --- synthetic streets -----------------------------------------------------------------------


def test_synthetic_streets(config, tmp_path, monkeypatch):
    small = partial(
        synthetic_streets.StreetsConfig, height=32, width=64, scenes={"train": 2, "val": 1}
    )
    monkeypatch.setattr(synthetic_streets, "StreetsConfig", small)
    fields = config(name="synthetic_streets", classes=(), data_dir=str(tmp_path))
    train, val = (open_split(fields, split) for split in ("train", "val"))
    assert train.ids == ("train_00000", "train_00001")
    assert val.ids == ("val_00002",)
    for seed, example in enumerate([*train, *val]):
        image, label = streets.render(seed, 32, 64)
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], label)
    assert train.sizes == ((32, 64), (32, 64))


def test_the_scenes_of_the_default_splits():
    assert synthetic_streets.StreetsConfig().scenes == {"train": 200, "val": 60}


def test_a_changed_renderer_is_prepared_anew(tmp_path, monkeypatch):
    for name in ("streets.py", "streets_other.py"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(streets, "__file__", str(tmp_path / "streets.py"))
    before = synthetic_streets.StreetsConfig().name
    assert synthetic_streets.StreetsConfig().name == before
    assert synthetic_streets.StreetsConfig(width=64).name != before
    (tmp_path / "streets_other.py").write_text("changed = True")
    assert synthetic_streets.StreetsConfig().name != before
