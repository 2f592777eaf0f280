import pytest

from pals_jax import config as configs
from pals_jax import data


@pytest.fixture
def places(tmp_path):
    """What tells images apart; those of a folder lie below tmp_path, with one mask for all."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/0.png").touch()

    def of(ids, split="train", **fields):
        config = configs.default_config().data
        config.update({"name": "segmentation_folder", "root": str(tmp_path), **fields})
        config.update({"classes": ("a", "b"), "masks": "masks/{id}.png"})
        return data.places(config, split, ids)

    return of


def test_a_benchmark_has_ids_of_its_own(places):
    assert places(["a"], name="cityscapes") == places(["a"], name="cityscapes_coarse", root="b")
    assert places(["a"], name="cityscapes") != places(["a"], name="voc2012")
    assert places(["a"], name="of iterators") == {}


@pytest.mark.parametrize("images", ["{split}/{id}.png", "{split}/{id}.*", "{split}/{id}"])
def test_a_file_is_the_same_by_whatever_name(places, tmp_path, images):
    for name in ("pool/a.png", "pool/a.jpg", "pool/b.png", "train/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "val").mkdir()
    (tmp_path / "train/0.png").symlink_to(tmp_path / "pool/a.png")
    (tmp_path / "train/1.png").symlink_to("0.png")
    (tmp_path / "val/0.png").symlink_to(tmp_path / "pool/b.png")
    (tmp_path / "val/x.png").hardlink_to(tmp_path / "pool/a.png")
    (tmp_path / "val/y.png").symlink_to(tmp_path / "pool/a.jpg")
    end = ".png" * images.endswith("{id}")

    def place(split, name):
        (found,) = places([name + end], split, images=images)[name + end]
        return found

    assert place("train", "0") == place("train", "1") == place("val", "x")
    assert (
        len({place("train", "0"), place("train", "2"), place("val", "0"), place("val", "y")}) == 4
    )


def test_beside_its_mask_an_image_is_told_from_it(tmp_path):
    """One mask for two images, each in another folder beside them."""
    for name in ("train/0.jpg", "val/1.jpg", "empty.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("train/0.png", "val/1.png"):
        (tmp_path / name).symlink_to(tmp_path / "empty.png")
    config = configs.default_config().data
    config.update({"name": "segmentation_folder", "root": str(tmp_path)})
    config.update({"classes": ("a", "b"), "masks": "{split}/{id}.png"})
    config.update({"images": "{split}/{id}.*"})
    train, val = data.places(config, "train", ["0"]), data.places(config, "val", ["1"])
    assert len(train["0"]) == len(val["1"]) == 1
    assert data.shared(val, train) == []


def test_files_that_are_gone_have_no_place(places, tmp_path):
    assert places(["0"], images="gone/{id}.png") == {"0": set()}
    (tmp_path / "x").mkdir()
    (tmp_path / "x/0.png").symlink_to("gone.png")
    (tmp_path / "x/1.png").touch()
    found = places(["0", "1", "2"], images="x/{id}.*")
    assert [len(found[key]) for key in "012"] == [0, 1, 0]


def test_images_are_known_without_masks_and_beside_others_of_their_id(places, tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("x/1.png", "x/1.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "masks/0.png").unlink()
    (tmp_path / "masks").rmdir()
    assert len(places(["1"], images="x/{id}.*")["1"]) == 2


def test_all_images_that_share_a_file_are_counted(places, tmp_path):
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    (tmp_path / "train/a.png").touch()
    for name in ("x", "y"):
        (tmp_path / f"val/{name}.png").hardlink_to(tmp_path / "train/a.png")
    (tmp_path / "val/z.png").touch()
    train = places(["a"], images="{split}/{id}.png")
    val = places(["x", "y", "z"], split="val", images="{split}/{id}.png")
    assert data.shared(val, train) == ["x", "y"]
