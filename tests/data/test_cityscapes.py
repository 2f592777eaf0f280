"""Cityscapes by TFDS's builder out of archives in the published layout, and its label ids."""

import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from cityscapes_archives import (
    CITIES,
    expect_small,
    label_ids,
    png,
    write_cityscapes,
    write_coarse,
    write_images,
    write_labels,
)
from tensorflow_datasets.core.download.extractor import ExtractError

from pals_jax.data.builders import cityscapes, preparation
from pals_jax.data.catalog import CATALOG
from pals_jax.data.errors import DataError
from pals_jax.data.source import open_split

# (id, train id) of the 35 labels, as the Cityscapes scripts publish them.
TRAIN_IDS = {
    **{0: 255, 1: 255, 2: 255, 3: 255, 4: 255, 5: 255, 6: 255, 7: 0, 8: 1, 9: 255, 10: 255, 11: 2},
    **{12: 3, 13: 4, 14: 255, 15: 255, 16: 255, 17: 5, 18: 255, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10},
    **{24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 29: 255, 30: 255, 31: 16, 32: 17, 33: 18},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    expect_small(monkeypatch)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes(folder)
    write_coarse(folder)
    return folder


def opened(config, root, split, name="cityscapes", data_dir=None):
    given = {"name": name, "classes": (), "root": str(root)}
    return open_split(config(**given, data_dir=str(data_dir or root / "prepared")), split)


def test_label_ids_become_classes(config, archives):
    source = opened(config, archives, "train")
    assert source.ids == ("aachen_000000_000019", "bochum_000000_000019")
    assert source.sizes == ((1024, 2048),) * 2
    for index in range(2):
        example = source[index]
        assert example["image"].shape == (1024, 2048, 3)
        assert (example["image"] == 40 + index).all()
        expected = np.vectorize(TRAIN_IDS.get)(label_ids(index)[:1])
        np.testing.assert_array_equal(example["label"], np.repeat(expected, 1024, 0))
    assert len(opened(config, archives, "val")) == 1
    assert opened(config, archives, "test").ids == ("berlin_000000_000019",)


def test_what_was_unpacked_is_removed_and_the_archives_are_no_longer_needed(config, archives):
    source = opened(config, archives, "val")
    left = {
        path.name
        for path in (archives / "prepared/pals_jax/cityscapes/semantic_segmentation").iterdir()
    }
    assert left == {"1.0.0", ".lock"}
    again = opened(config, archives / "nowhere", "val", data_dir=archives / "prepared")
    assert again.data_hash == source.data_hash


def test_coarse_labels(config, archives):
    source = opened(config, archives, "train_extra", "cityscapes_coarse")
    assert source.ids == ("bad-honnef_000000_000019",)
    assert set(np.unique(source[0]["label"])) == {*range(19), 255}
    assert len(opened(config, archives, "train", "cityscapes_coarse")) == 2


def test_coarse_reports_on_fine_labels(config, archives):
    fine = opened(config, archives, "val")
    assert opened(config, archives, "val", "cityscapes_coarse").data_hash == fine.data_hash


def test_prepared_data_are_read_where_nothing_can_be_written(config, archives, monkeypatch):
    expected = opened(config, archives, "train").ids

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cityscapes, "write_atomically", refuse)
    monkeypatch.setattr(cityscapes, "locked", refuse)
    assert opened(config, archives, "train").ids == expected
    assert opened(config, archives, "val").ids == ("lindau_000000_000019",)


def test_other_archives_than_those_that_were_prepared(config, archives, tmp_path):
    opened(config, archives, "val")
    write_images(tmp_path / "leftImg8bit_trainvaltest.zip", CITIES, (512, 1024))
    with pytest.raises(
        DataError, match=r"trainvaltest\.zip has \d+ bytes, but .*remove that folder"
    ):
        opened(config, tmp_path, "val", data_dir=archives / "prepared")


def test_an_interruption_before_the_index(config, archives):
    before = opened(config, archives, "train")
    index = archives / "prepared/pals_jax/cityscapes/semantic_segmentation/1.0.0/pals_jax.json"
    index.unlink()
    assert opened(config, archives, "train").data_hash == before.data_hash
    assert index.exists()


def test_published_numbers(monkeypatch):
    monkeypatch.undo()
    fine = {"train": 2975, "val": 500, "test": 1525}
    coarse = {"train": 2975, "train_extra": 19998, "val": 500}
    found = {"semantic_segmentation": fine, "semantic_segmentation_extra": coarse}
    assert found == cityscapes.COUNTS


def test_archives_that_lack_images_or_labels(config, tmp_path):
    images = tmp_path / "leftImg8bit_trainvaltest.zip"
    labels = tmp_path / "gtFine_trainvaltest.zip"
    write_images(images, CITIES | {"train": ("aachen",)})
    write_labels(labels, CITIES | {"val": ()}, "gtFine")
    with pytest.raises(DataError, match=r"\.zip: train has 1 images .* Cityscapes has 2"):
        opened(config, tmp_path, "train")
    write_images(images, CITIES)
    expected = r"1 of the 1 images of val have no gtFine/val/.*Ids\.png: lindau_000000_000019\."
    with pytest.raises(DataError, match=expected):
        opened(config, tmp_path, "train")


def test_images_of_another_size(config, tmp_path):
    write_cityscapes(tmp_path)
    write_images(tmp_path / "leftImg8bit_trainvaltest.zip", CITIES, (512, 1024))
    with pytest.raises(DataError, match=r"19: its image is 512×1024, that of Cityscapes 1024×2"):
        opened(config, tmp_path, "train")


def test_files_beside_the_images_are_named(config, archives, tmp_path):
    images = tmp_path / "leftImg8bit_trainvaltest.zip"
    shutil.copy(archives / images.name, images)
    shutil.copy(archives / "gtFine_trainvaltest.zip", tmp_path)
    with zipfile.ZipFile(images, "a") as archive:
        archive.writestr("leftImg8bit/train/aachen/Thumbs.db", b"")
    expected = (
        r"zip holds other files beside its images: leftImg8bit/train/aachen/Thumbs\.db\. Pack"
    )
    with pytest.raises(DataError, match=expected):
        opened(config, tmp_path, "train")


def test_an_image_that_is_cut_off_is_named(config, archives, tmp_path):
    shutil.copy(archives / "leftImg8bit_trainvaltest.zip", tmp_path)
    with (
        zipfile.ZipFile(archives / "gtFine_trainvaltest.zip") as whole,
        zipfile.ZipFile(tmp_path / "gtFine_trainvaltest.zip", "w") as archive,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            half = "bochum" in name and name.endswith("labelIds.png")
            archive.writestr(name, content[: len(content) // 2] if half else content)
    with pytest.raises(DataError, match="bochum_000000_000019: its label is cut off"):
        opened(config, tmp_path, "train")


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (lambda png: png.replace(b"IDAT", b"IDAT\0\0", 1), "is cut off or damaged"),
        (lambda png: png[:5000] + png[6000:], "is cut off or damaged"),
        (lambda png: b"", "is cut off or damaged"),
        (lambda _: png(np.zeros((1024, 2048, 3), np.uint8)), "is no PNG of gr"),
    ],
)
def test_labels_that_are_damaged_or_of_another_kind(damaged, problem):
    whole = png(label_ids())
    assert not cityscapes._problem(whole, "label")
    assert cityscapes._problem(damaged(whole), "label").startswith(problem)


def test_label_ids_that_do_not_exist_are_refused(config, archives, tmp_path):
    shutil.copy(archives / "leftImg8bit_trainvaltest.zip", tmp_path)
    with zipfile.ZipFile(tmp_path / "gtFine_trainvaltest.zip", "w") as archive:
        for split, names in CITIES.items():
            for city in names:
                stem = f"gtFine/{split}/{city}/{city}_000000_000019_gtFine_labelIds.png"
                archive.writestr(stem, png(np.full((1024, 2048), 255, np.uint8)))
    with pytest.raises(DataError, match=r"label has the values \[255\].*labelTrainIds\.png\?"):
        opened(config, tmp_path, "train")


def test_a_disk_without_room(config, archives, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"needs .* GB in .* has 1e-06 GB left: make room"):
        opened(config, archives, "train", data_dir=tmp_path)


def test_a_disk_that_is_full_while_unpacking_is_no_damaged_archive(
    config, archives, tmp_path, monkeypatch
):
    def fill(*_, **__):
        raise ExtractError("Error while extracting x.zip: No space left on device")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fill)
    with pytest.raises(DataError, match=r"the disk of .* is full: make room"):
        opened(config, archives, "train", data_dir=tmp_path)


def test_the_table_is_that_of_the_official_scripts():
    table = cityscapes.class_table(255)
    assert {label: int(table[label]) for label in TRAIN_IDS} == TRAIN_IDS
    assert (table[34:] == 255).all()
    assert cityscapes.class_table(300)[0] == 300


def test_the_official_scripts_agree():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    info, table = CATALOG["cityscapes"], cityscapes.class_table(255)
    for label in labels:
        if label.id >= 0:
            assert table[label.id] == label.trainId
        if label.trainId in range(19):
            assert info.classes[label.trainId] == label.name
            assert info.palette[label.trainId] == label.color


def test_bad_archives_are_explained(config, archives, tmp_path):
    with pytest.raises(DataError, match=r"(?s)root is empty\. Put into.*11 GB"):
        open_split(config(name="cityscapes", classes=(), data_dir=str(tmp_path / "d")), "train")
    images = tmp_path / "leftImg8bit_trainvaltest.zip"
    labels = tmp_path / "gtFine_trainvaltest.zip"
    content = (archives / images.name).read_bytes()
    images.write_bytes(content)
    with pytest.raises(DataError, match=r"(?s)gtFine_trainvaltest\.zip is missing\. Put into"):
        opened(config, tmp_path, "train")
    labels.write_bytes((archives / "gtCoarse.zip").read_bytes())
    expected = r"gtFine_trainvaltest\.zip: 2 of the 2 images of train have no gtF.*holds README,"
    with pytest.raises(DataError, match=expected):
        opened(config, tmp_path, "train")
    labels.write_bytes((archives / labels.name).read_bytes())
    images.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"leftImg8bit_trainvaltest\.zip \(\d+ bytes\) is cut off"):
        opened(config, tmp_path, "train")
    flipped = bytearray(content)
    flipped[content.index(b"IDAT") + 2000] ^= 0xFF
    images.write_bytes(flipped)
    with pytest.raises(DataError, match="is damaged"):
        opened(config, tmp_path, "train")
    assert not list((tmp_path / "prepared").glob("**/dataset_info.json"))
    images.write_bytes(content)
    assert len(opened(config, tmp_path, "train")) == 2
