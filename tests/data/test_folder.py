"""Layouts, pairs, and what is said of a folder that does not fit."""

import os

import pytest

from pals_jax.data.errors import DataError
from pals_jax.data.folder import list_images, scan


@pytest.fixture
def tree(tmp_path):
    """Makes empty files and returns the root."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make


def found(root, images, masks, split="train"):
    return [
        (pair.id, pair.image.relative_to(root).as_posix(), pair.mask.relative_to(root).as_posix())
        for pair in scan(root, images, masks, split)
    ]


def test_pairs_are_sorted_by_id_and_other_splits_are_left_out(tree):
    root = tree("train/b.jpg", "train/a.jpg", "val/c.jpg", "trainannot/a.png", "trainannot/b.png")
    assert found(root, "{split}/{id}.jpg", "{split}annot/{id}.png") == [
        ("a", "train/a.jpg", "trainannot/a.png"),
        ("b", "train/b.jpg", "trainannot/b.png"),
    ]


def test_an_id_may_hold_folders_and_a_suffix(tree):
    root = tree("im/train/aachen/a_1_im.png", "gt/train/aachen/a_1_gt.png")
    pairs = found(root, "im/{split}/{id}_im.png", "gt/{split}/{id}_gt.png")
    assert [key for key, _, _ in pairs] == ["aachen/a_1"]


def test_any_extension_whatever_its_case(tree):
    root = tree("x/a.JPG", "x/b.tiff", "x/c.txt", "y/a.png", "y/b.png")
    assert [key for key, _, _ in found(root, "x/{id}.*", "y/{id}.png")] == ["a", "b"]


def test_a_file_that_both_layouts_match_is_a_mask(tree):
    root = tree("a.png", "a_mask.png", "b.jpg", "b_mask.png")
    assert found(root, "{id}.*", "{id}_mask.png") == [
        ("a", "a.png", "a_mask.png"),
        ("b", "b.jpg", "b_mask.png"),
    ]


def test_hidden_files_and_folders_do_not_count(tree):
    root = tree("x/a.png", "x/._a.png", "x/.cache/a.png", "y/a.png")
    assert len(found(root, "x/{id}.png", "y/{id}.png")) == 1


def test_letters_of_a_layout_are_meant_literally(tree):
    root = tree("x/a.png", "x/axpng", "y/a.png")
    assert len(found(root, "x/{id}.png", "y/{id}.png")) == 1


def test_a_home_folder_is_expanded(tree, monkeypatch):
    root = tree("x/a.png", "y/a.png")
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(scan(f"~/{root.name}", "x/{id}.png", "y/{id}.png", "train")) == 1


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(DataError, match=r"config\.data\.root: there is no folder .*nowhere"):
        scan(tmp_path / "nowhere", "{id}.jpg", "{id}.png", "train")
    with pytest.raises(DataError, match=r"config\.data\.root is empty"):
        scan("", "{id}.jpg", "{id}.png", "train")


def test_a_missing_split_says_what_is_there(tree):
    root = tree("train/a.jpg", "trainannot/a.png")
    with pytest.raises(DataError, match=r"'val'.*no folder .*valannot.*holds: train, trainannot"):
        scan(root, "{split}/{id}.jpg", "{split}annot/{id}.png", "val")


def test_unpaired_files_are_listed_ten_at_most(tree):
    root = tree(
        "y/lonely.png", "y/m.png", "x/m.jpg", *(f"x/{letter}.jpg" for letter in "abcdefghijkl")
    )
    with pytest.raises(DataError) as error:
        scan(root, "x/{id}.jpg", "y/{id}.png", "train")
    text = str(error.value)
    assert (
        "images without a mask ('y/{id}.png'): a, b, c, d, e, f, g, h, i, j, … (12 in all)" in text
    )
    assert "masks without an image ('x/{id}.jpg'): lonely" in text


def test_no_match_says_what_is_there(tree):
    root = tree("x/a.jpeg", "y/a.png")
    with pytest.raises(DataError, match=r"no file matches the layout 'x/\{id\}\.jpg'.*: x/a\.jpeg"):
        scan(root, "x/{id}.jpg", "y/{id}.png", "train")


def test_two_files_of_one_id_are_refused(tree):
    root = tree("x/a.jpg", "x/a.png", "y/a.png")
    with pytest.raises(DataError, match=r"share an id: .*x/a\.jpg, .*x/a\.png"):
        scan(root, "x/{id}.*", "y/{id}.png", "train")


def test_names_that_are_not_utf_8_are_refused(tree):
    latin = os.fsdecode(b"caf\xe9")
    root = tree("x/a.jpg", "y/a.png", f"x/{latin}.jpg", f"y/{latin}.png")
    with pytest.raises(DataError, match=r"not UTF-8.*rename") as error:
        scan(root, "x/{id}.jpg", "y/{id}.png", "train")
    shown = str(error.value).encode().decode()  # can be printed anywhere
    assert all(repr(f"{root}/{name}") in shown for name in (f"x/{latin}.jpg", f"y/{latin}.png"))


@pytest.mark.parametrize(
    "images", ["x/a.jpg", "{id}/{id}.jpg", "{name}/{id}.jpg", "/x/{id}.jpg", "../{id}.jpg"]
)
def test_a_layout_that_makes_no_sense_is_refused(tmp_path, images):
    with pytest.raises(DataError, match=r"config\.data\.images=.*a layout is a path"):
        scan(tmp_path, images, "{id}.png", "train")


def test_links_to_files_that_are_gone_are_named(tree):
    root = tree("img/a.png", "lab/a.png", "lab/b.png")
    (root / "img/b.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"links to files that are gone: .*img/b\.png"):
        scan(root, "img/{id}.png", "lab/{id}.png", "train")


def test_the_same_layout_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="are both"):
        scan(tmp_path, "{id}.png", "{id}.png", "train")


def test_images_of_a_folder_are_listed_with_its_subfolders(tree):
    root = tree("b.JPG", "a/c.png", "notes.txt", ".hidden.png", ".cache/d.png")
    images, others = list_images(root)
    assert images == [root / "a/c.png", root / "b.JPG"]
    assert others == [root / "notes.txt"]


def test_a_link_to_the_folder_itself_is_not_followed_for_ever(tree):
    root = tree("a.png")
    (root / "again").symlink_to(root)
    assert list_images(root) == ([root / "a.png"], [])


def test_a_folder_keeps_its_name_whatever_links_to_it(tree):
    """Also where the link comes first by its name, and by its place in the tree."""
    root = tree("c1/a.png", "b/c2/a.png")
    (root / "a").symlink_to(root / "c1")
    (root / "b/a").symlink_to(root / "c1")
    (root / "a2").symlink_to(root / "b/c2")
    assert list_images(root) == ([root / "b/c2/a.png", root / "c1/a.png"], [])


def test_a_folder_without_images_says_what_is_there(tree):
    with pytest.raises(DataError, match=r"holds no image; there is: notes\.txt"):
        list_images(tree("notes.txt"))
    with pytest.raises(DataError, match="nowhere does not exist"):
        list_images(tree() / "nowhere")
    with pytest.raises(DataError, match="is a file; give its folder"):
        list_images(tree("a.png") / "a.png")
