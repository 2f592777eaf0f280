"""VOC 2012 and trainaug out of archives as they are published."""

import gzip
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from voc_archives import (
    ADDED,
    TRAIN,
    VAL,
    expect_small,
    mask_of,
    palette_png,
    sbd_files,
    voc_files,
    write_archives,
    write_folder,
    write_tar,
)

from pals_jax.config import default_config, resolve
from pals_jax.data import id_lists
from pals_jax.data.builders import voc
from pals_jax.data.errors import DataError
from pals_jax.data.source import open_split
from pals_jax.run_data import open_data


@pytest.fixture
def small(monkeypatch):
    expect_small(monkeypatch)


@pytest.fixture
def archives(tmp_path):
    write_archives(tmp_path)
    return tmp_path


def opened(config, root, split):
    data_dir = root / "prepared"
    given = {"name": "voc2012", "classes": (), "root": str(root), "data_dir": str(data_dir)}
    return open_split(config(**given), split)


def test_published_numbers():
    assert voc.COUNTS == {"train": 1464, "val": 1449, "trainval": 2913, "trainaug": 10582}
    ids = id_lists.shipped("voc/trainaug")
    assert len(set(ids)) == 10582


@pytest.mark.parametrize(
    ("split", "ids"), [("train", TRAIN), ("val", VAL), ("trainval", {**TRAIN, **VAL})]
)
def test_the_splits_of_voc(config, archives, small, split, ids):
    source = opened(config, archives, split)
    assert source.ids == tuple(sorted(ids))
    for index, key in enumerate(source.ids):
        example = source[index]
        np.testing.assert_array_equal(example["label"], mask_of(ids[key]))  # 255 stays void
        assert example["image"].shape == (6, 8, 3)
        assert abs(int(example["image"].mean()) - 10 * ids[key]) <= 2


def without_void(mask):
    return np.where(mask == 255, 0, mask)


def test_trainaug_takes_the_masks_of_voc_train_and_those_of_sbd(config, archives, small):
    source = opened(config, archives, "trainaug")
    assert source.ids == tuple(sorted({**TRAIN, **ADDED}))
    labels = {example["id"]: example["label"] for example in map(source.__getitem__, range(5))}
    for key, shown in TRAIN.items():  # also where SBD has a mask of its own
        np.testing.assert_array_equal(labels[key], mask_of(shown))
    for key, shown in ADDED.items():
        np.testing.assert_array_equal(labels[key], without_void(mask_of(shown)))


def test_prepared_archives_are_not_read_again(config, archives, small, monkeypatch):
    expected = opened(config, archives, "trainaug")
    monkeypatch.setattr(tarfile, "open", None)
    assert opened(config, archives, "trainaug").data_hash == expected.data_hash


def test_two_masks_of_one_image_are_refused(config, archives, small):
    (archives / voc.SBD).unlink()
    with zipfile.ZipFile(archives / voc.AUG, "w") as archive:
        for folder in ("SegmentationClassAug", "edges/SegmentationClassAug"):
            archive.writestr(f"{folder}/2008_000003.png", palette_png(mask_of(19)))
    with pytest.raises(DataError, match=r"2008_000003 is there twice, as .* and as .*edges"):
        opened(config, archives, "trainaug")


@pytest.mark.parametrize("form", ["unpacked", "pngs", "zip"])
def test_other_forms_of_the_downloads(config, tmp_path, small, form):
    write_folder(tmp_path, voc_files())
    pngs = {
        f"SegmentationClassAug/{key}.png": palette_png(mask_of(shown))
        for key, shown in {**TRAIN, **VAL, **ADDED}.items()
    }
    if form == "unpacked":
        write_folder(tmp_path, sbd_files())
    elif form == "pngs":
        write_folder(tmp_path / "VOCdevkit/VOC2012", pngs)
    else:
        with zipfile.ZipFile(tmp_path / voc.AUG, "w") as archive:
            for name, content in pngs.items():
                archive.writestr(name.replace("/", "\\"), content)  # as tools of Windows do
                archive.writestr(f"__MACOSX/SegmentationClassAug/._{name[21:]}", b"of a Mac")
    source = opened(config, tmp_path, "trainaug")
    assert len(source) == 5
    expected = mask_of(7) if form != "unpacked" else without_void(mask_of(7))
    np.testing.assert_array_equal(source[4]["label"], expected)


def test_a_changed_file_of_unpacked_archives_is_prepared_anew(config, tmp_path, small):
    write_folder(tmp_path, voc_files())
    before = opened(config, tmp_path, "train")
    mask = tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"
    mask.write_bytes(palette_png(mask_of(3)))
    after = opened(config, tmp_path, "train")
    np.testing.assert_array_equal(after[0]["label"], mask_of(3))
    assert after.data_hash != before.data_hash


def test_images_that_are_trained_on_are_not_reported_on(archives, small):
    given = default_config()
    given.data.update(name="voc2012", root=str(archives), data_dir=str(archives / "prepared"))
    given.data.train_split = "trainval"
    expected = r"'val': 2 of its 2 images are in .*train_split = 'trainval', as '2007_0000"
    with pytest.raises(DataError, match=expected):
        open_data(resolve(given))
    given.data.train_split = "trainaug"
    assert len(open_data(resolve(given)).evaluation) == 2


def test_missing_downloads_are_explained(config, tmp_path):
    with pytest.raises(DataError, match=r"(?s)root is empty\. Put into.*1,999,639,040"):
        open_split(config(name="voc2012", classes=(), root=""), "train")
    with pytest.raises(DataError, match=r"holds neither VOCtrainval_11-May-2012\.tar nor"):
        opened(config, tmp_path, "train")
    write_tar(tmp_path / voc.VOC, voc_files())
    with pytest.raises(
        DataError, match=r"(?s)none of the masks that trainaug adds.*benchmark\.tgz"
    ):
        opened(config, tmp_path, "trainaug")


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("name", [voc.VOC, voc.SBD])
def test_archives_that_are_cut_off(config, archives, small, name, share):
    path = archives / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"{name} \(\d+ bytes\) is cut off"):
        opened(config, archives, "trainaug")


def test_another_archive_under_the_name(config, archives, small):
    write_tar(archives / voc.VOC, {"VOCdevkit/VOC2007/JPEGImages/000001.jpg": b""})
    with pytest.raises(
        DataError, match=r"(?s)lacks .*train\.txt.* of ImageSets/Segmentation.*Put into"
    ):
        opened(config, archives, "train")
    (archives / voc.VOC).write_text("<html>moved</html>")
    with pytest.raises(DataError, match=r"is cut off or no \.tar archive"):
        opened(config, archives, "train")


def test_an_sbd_of_another_split_lists_every_id_without_a_mask(config, archives, small):
    files = {
        name: content
        for name, content in sbd_files().items()
        if "2008_000003" not in name and "2011" not in name
    }
    write_tar(archives / voc.SBD, files)
    expected = r"benchmark\.tgz: 2 of 5 ids have no mask\. .*noval.* 2008_000003, 2011_003276\."
    with pytest.raises(DataError, match=expected):
        opened(config, archives, "trainaug")


def test_a_mask_of_voc_is_not_replaced_by_one_of_sbd(config, archives, small):
    files = voc_files()
    del files["VOCdevkit/VOC2012/SegmentationClass/2007_000032.png"]
    write_tar(archives / voc.VOC, files)
    with pytest.raises(DataError, match=r"(?s)tar: 1 of 2 ids have no mask\..*2007_000032\."):
        opened(config, archives, "trainaug")


def test_a_compressed_archive_under_the_name_of_a_plain_one(config, archives, small):
    (archives / voc.VOC).write_bytes(gzip.compress((archives / voc.VOC).read_bytes()))
    with pytest.raises(DataError, match=r"is cut off or no \.tar archive .* or pack it anew"):
        opened(config, archives, "train")


def test_a_zip_that_is_compressed_in_an_unknown_way(config, archives, small):
    (archives / voc.SBD).unlink()
    with zipfile.ZipFile(archives / voc.AUG, "w") as archive:
        archive.writestr("SegmentationClassAug/2008_000003.png", b"")
    content = (archives / voc.AUG).read_bytes()
    deflate64 = struct.pack("<H", 9)
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = content.index(signature) + place
        content = content[:start] + deflate64 + content[start + 2 :]
    (archives / voc.AUG).write_bytes(content)
    with pytest.raises(DataError, match=r"no \.zip archive \(.*compression.*pack it anew"):
        opened(config, archives, "trainaug")


def test_a_full_disk_is_told(config, archives, small, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("Failed to finalize writing: No space left on device")

    monkeypatch.setattr(voc.Voc, "download_and_prepare", full)
    with pytest.raises(DataError, match=r"the disk of .* is full: make room, or choose"):
        opened(config, archives, "train")


def test_an_image_that_is_missing_is_named(config, archives, small):
    files = voc_files()
    del files["VOCdevkit/VOC2012/JPEGImages/2007_000039.jpg"]
    write_tar(archives / voc.VOC, files)
    with pytest.raises(
        DataError, match=r"(?s)tar: 1 of 2 ids have no image\..*They are 2007_000039\."
    ):
        opened(config, archives, "train")


def test_trainaug_has_no_image_of_val(config, archives, small, monkeypatch):
    monkeypatch.setattr(id_lists, "shipped", lambda name: [*TRAIN, *ADDED, "2007_000042"])
    with pytest.raises(DataError, match="1 ids of trainaug are in VOC val: 2007_000042"):
        opened(config, archives, "trainaug")


def test_another_number_of_images_is_refused(config, archives, monkeypatch):
    with pytest.raises(DataError, match=r"train has 2 images; that of VOC 2012 has 1464"):
        opened(config, archives, "train")


@pytest.mark.parametrize("content", [b"no mat", None])
def test_a_damaged_mask_of_sbd_is_named(config, archives, small, content):
    files = sbd_files()
    name = "benchmark_RELEASE/dataset/cls/2008_000003.mat"
    files[name] = content or files[name][:-20]
    write_tar(archives / voc.SBD, files)
    with pytest.raises(DataError, match=r"2008_000003\.mat: no GTcls\.Segmentation"):
        opened(config, archives, "trainaug")
