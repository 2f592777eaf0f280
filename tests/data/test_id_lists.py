"""Which ids the lists of the field and of users select."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax.data import id_lists
from pals_jax.data.errors import DataError
from pals_jax.data.file_paths import FolderPaths
from pals_jax.data.folder import folder_of
from pals_jax.data.subsets import select

IDS = [f"drive{d}/{i:03d}" for d in "ab" for i in range(10)]


@pytest.fixture
def chosen(tmp_path):
    """What a list of some text selects."""

    def chosen(text: str, ids=IDS, **arguments) -> list[str]:
        path = tmp_path / "list.txt"
        path.write_text(text, encoding="utf-8")
        return select(ids, str(path), 0, **arguments)

    return chosen


@pytest.fixture
def folder(tmp_path):
    """A folder with these files, and what tells their ids."""

    def folder(files: str, images: str, masks: str = "masks/{split}/{id}.png") -> FolderPaths:
        for file in files.split():
            (tmp_path / "root" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "root" / file).touch()
        return FolderPaths(str(tmp_path / "root"), images, masks, "train")

    return folder


REFUSED = "1 of its lines name none of"


@pytest.mark.parametrize(
    "text",
    [
        "drivea/003\ndriveb/001",  # no newline at the end
        "\n  drivea/003 \n\ndriveb/001\n\n",
        "\ufeffdrivea/003\r\ndriveb/001\r\n",
        "# chosen\ndrivea/003\n#drivea/004\n# masks/x.png\ndriveb/001\ndriveb/001\n",
    ],
)
def test_a_list_has_one_id_a_line(chosen, text):
    assert chosen(text) == ["drivea/003", "driveb/001"]


def test_a_list_in_another_encoding_is_explained(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("drivea/001\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"list\.txt is not text in UTF-8"):
        select(IDS, str(path), 0)


def test_an_id_is_never_cut(chosen):
    ids = ["v1.2", "v1", "my photo", "my", "#1", "a\u2028b", "a", "x.png"]
    assert chosen("\n".join(ids), ids) == sorted(ids)
    for line in ("v1.3", "my picture", "a b", "v1,a", "my v1", "1", "x"):
        with pytest.raises(DataError, match=REFUSED):
            chosen(line, ids)


def test_the_last_part_stands_for_the_one_id_that_ends_with_it(chosen):
    assert chosen("jena_1", ["aachen/aachen_1", "jena/jena_1"]) == ["jena/jena_1"]
    assert chosen("1", ["1", "x/1"]) == ["1"]
    with pytest.raises(DataError, match="name none of the 2 images to choose from, several"):
        chosen("jena_1", ["x/jena_1", "y/jena_1"])
    with pytest.raises(DataError, match=REFUSED):
        chosen("y/jena_1", ["x/jena_1"])


@pytest.mark.parametrize(
    "line",
    [
        "2007_000032",
        "2007_000032.jpg",
        "JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png",
        "/data/VOC2012/JPEGImages/2007_000032.jpg\t/data/masks/2007_000032.png",
        "jena/jena_000078_000019_leftImg8bit.png",
        "leftImg8bit/train/jena/jena_000078_000019_leftImg8bit.png "
        "gtFine/train/jena/jena_000078_000019_gtFine_labelTrainIds.png",
    ],
)
def test_lists_of_files_of_the_benchmarks(chosen, line):
    ids = ["2007_000032", "2007_000033", "jena_000078_000018", "jena_000078_000019"]
    (name,) = chosen(line, ids)
    assert name in line
    unknown = line.replace("32", "34").replace("19", "20")
    path = line.split()[0]
    for other in (
        *(unknown, f"{line} {line}.txt", f"{line} masks/2007_000033.png", f"my data/{line}"),
        *(
            f"{path} masks/2007_000033.png",
            f"x.jpg,{path}",
            f"x.jpg;{path}",
            f"x.jpg:{path}",
            f"-{path}",
        ),
    ):
        with pytest.raises(DataError, match=REFUSED):
            chosen(other, ids)
    assert chosen(f"#{line}\n# {line}\n2007_000033", ids) == ["2007_000033"]


@pytest.mark.parametrize(
    ("images", "files", "lines"),
    [
        (
            "images/{split}/{id}.jpg",
            "images/train/7.jpg images/train/8.jpg masks/train/7.png",
            "7|7.jpg|images/train/7.jpg|images/train/7.jpg masks/train/7.png|7 masks/train/7.png"
            "|./7.jpg|images//train/7.jpg|images/train/../train/7.jpg 7.png"
            "|ROOT/images/train/7.jpg|ROOT/images/train/7.jpg ROOT/masks/train/7.png",
        ),
        (
            "{split}/{id}_sat.*",
            "train/7_sat.jpg train/7_sat_sat.jpg masks/train/7.png",
            "7|7_sat.jpg|train/7_sat.jpg|train/7_sat.jpg masks/train/7.png",
        ),
        (
            "{split}/{id}/0.png",
            "train/7/0.png train/0/0.png masks/train/7.png",
            "7|7/0.png|train/7/0.png 7.png",
        ),
    ],
)
def test_the_path_of_a_file_names_its_image(chosen, folder, images, files, lines):
    paths = folder(files, images)
    for line in lines.replace("ROOT", paths.root).split("|"):
        assert chosen(line, ["7", "8", "0", "7_sat"], paths=paths) == ["7"]


@pytest.mark.parametrize(
    "line",
    [
        "val/7.jpg",  # of another split, or area
        "../val/7.jpg",
        "south/train/7.jpg",
        "ROOT/south/train/7.jpg",
        "root/train/7.jpg",  # from the current folder
        "6.jpg",  # there, but not to choose from
        "train/9.jpg",  # not there
        "JPEGImages/7.jpg",
        "/7.jpg",
        "train/7",  # not a file
        "7.png",  # a mask
        "masks/train/7.png",
        "train/7.jpg masks/train/8.png",
        "train/7.jpg masks/val/7.png",
        "train/7.jpg masks/7.png",
        "train/7.jpg train/7.jpg",
        "7 8",
        "train/7.jpg train/8.jpg",
        "train/7.jpg,masks/train/7.png",
        "train/7.jpg masks/train/7.png 1",
        "train",
        ".",
        "/",
        "~nobody/7.jpg",
        "x" * 300 + "/7.jpg",
        "7.jpg\0",
        "7 " * 5000,
    ],
)
def test_every_other_path_is_refused(chosen, folder, tmp_path, monkeypatch, line):
    paths = folder(
        "train/6.jpg train/7.jpg train/8.jpg val/7.jpg south/train/7.jpg "
        "masks/train/7.png masks/train/8.png masks/val/7.png",
        "{split}/{id}.jpg",
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=REFUSED):
        chosen(line.replace("ROOT", paths.root), ["7", "8"], paths=paths)


def test_a_line_that_stands_for_two_images_is_refused(chosen, folder):
    paths = folder("train/7.jpg train/train/7.jpg train/8.jpg train/8.jpg.jpg", "{split}/{id}.jpg")
    ids = ["7", "8", "8.jpg", "train/7"]
    for line, named in (("train/7.jpg", "7 or train/7"), ("8.jpg", "8 or 8.jpg")):
        with pytest.raises(DataError, match=rf"mask: '{line}' \(which may be {named}\)"):
            chosen(line, ids, paths=paths)
    assert chosen("train/8.jpg\n8.jpg.jpg", ids, paths=paths) == ["8", "8.jpg"]


def test_the_path_of_a_file_may_hold_spaces(chosen, folder, tmp_path):
    paths = folder("", "{split}/{id}.jpg")
    for file in ("train/a b.jpg", "train/a.jpg", "masks/train/a b.png", "masks/train/a.png"):
        (tmp_path / "root" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / file).touch()
    for line in ("train/a b.jpg", "train/a b.jpg masks/train/a b.png", "a b a b.png"):
        assert chosen(line, ["a", "a b"], paths=paths) == ["a b"]
    for line in ("train/a b.jpg masks/train/a.png", "train/a.jpg masks/train/a b.png", "a c.jpg"):
        with pytest.raises(DataError, match=REFUSED):
            chosen(line, ["a", "a b"], paths=paths)


def test_spaces_around_an_id_are_its_own_where_one_has_them(chosen):
    assert chosen(" a\nb \r\n", [" a", "a", "b", "b "]) == [" a", "b "]
    assert chosen(" a\nb \r\n", ["a", "b"]) == ["a", "b"]


def test_links_lead_to_what_they_are_called(chosen, folder, tmp_path, monkeypatch):
    """Two ids of one file are two images; a folder may have several names."""
    paths = folder("train/7.jpg", "{split}/{id}.jpg")
    root = tmp_path / "root"
    (root / "train/8.jpg").symlink_to(root / "train/7.jpg")
    (root / "train/9.jpg").symlink_to(root / "gone.jpg")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(root)
    monkeypatch.chdir(tmp_path / "here")
    by_link = FolderPaths("link", "{split}/{id}.jpg", "m/{id}.png", "train")
    for key in "789":
        for line in (
            f"{key}.jpg",
            f"{tmp_path}/here/link/train/{key}.jpg",
            f"{root}/train/{key}.jpg",
        ):
            assert chosen(line, list("789"), paths=paths) == [key]
            assert chosen(line, list("789"), paths=by_link) == [key]


IDS_ALIKE = st.lists(
    st.from_regex(r"(a_)?[0a](/[0a])?(_0)?|0\.png", fullmatch=True),
    min_size=1,
    max_size=6,
    unique=True,
)
LAYOUTS = ("{split}/{id}.png", "{id}_0.png", "a_{id}.png", "{split}/a/{id}/0.png", "{id}_{split}.*")


@settings(max_examples=100, deadline=None)
@given(IDS_ALIKE, st.sampled_from(LAYOUTS))
def test_the_paths_of_all_images_name_them_and_no_others(tmp_path_factory, ids, layout):
    root = tmp_path_factory.mktemp("root")
    files = {}
    for key in ids:
        name = layout.replace("{split}", "train").replace(".*", ".png").replace("{id}", key)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        files[key] = name
    (root / "x").mkdir()
    paths, path = FolderPaths(str(root), layout, "x/{id}.png", "train"), root / "list.txt"
    for key, name in files.items():
        path.write_text(str(root / name))
        assert select(ids, str(path), 0, paths=paths) == [key]
        path.write_text(name)
        below = str(folder_of(Path(), layout, "train") / name)
        meant = {key} | {other for other in ids if below == files[other] or name == other}
        told = pytest.raises(DataError) if len(meant) > 1 else contextlib.nullcontext()
        with told:
            assert select(ids, str(path), 0, paths=paths) == [key]


def test_every_unknown_id_of_a_list_is_named(chosen):
    with pytest.raises(DataError, match=r"'x{300}/y', 'z{500}'…"):
        chosen("x" * 300 + "/y\n" + "z" * 900)
    with pytest.raises(
        DataError, match=r"list\.txt: 2 of .* 20 images to.*mask: 'nope', 'drivea/999'\."
    ):
        chosen("drivea/003\nnope\ndrivea/999\n")


SHIPPED = {
    "cityscapes/1_16": 186,
    "cityscapes/1_2": 1488,
    "cityscapes/1_30": 100,
    "cityscapes/1_4": 744,
    "cityscapes/1_8": 372,
    "voc/trainaug": 10582,
    "voc_blender/1_16": 662,
    "voc_blender/1_4": 2646,
    "voc_blender/1_8": 1323,
    "voc_classic/1464": 1464,
    "voc_classic/183": 183,
    "voc_classic/366": 366,
    "voc_classic/732": 732,
    "voc_classic/92": 92,
    "voc_u2pl/1_16": 662,
    "voc_u2pl/1_4": 2646,
    "voc_u2pl/1_8": 1323,
}


def ids_of(name: str) -> list[str]:
    return (Path(id_lists.__file__).parent / "lists" / f"{name}.txt").read_text().split()


def test_there_are_no_other_lists_than_these():
    folder = Path(id_lists.__file__).parent / "lists"
    found = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*")}
    assert found == SHIPPED.keys()


@pytest.mark.parametrize(("name", "count"), SHIPPED.items())
def test_the_lists_of_the_field(name, count):
    """By name, out of all ids of the split that they are drawn from."""
    of_voc = name.startswith("voc")
    all_ids = ids_of("voc/trainaug" if of_voc else "cityscapes/1_2")
    everything = sorted({*all_ids, *ids_of(name), "another"})
    chosen = select(everything, name, 0)
    assert len(chosen) == count
    assert chosen == sorted(ids_of(name))
    assert "another" not in chosen


def test_smaller_lists_lie_in_larger_ones_of_trainaug():
    for name in SHIPPED:
        if name.startswith("voc"):
            assert set(ids_of(name)) <= set(ids_of("voc/trainaug"))
    assert set(ids_of("voc_u2pl/1_16")) <= set(ids_of("voc_classic/1464"))


def test_a_list_that_does_not_exist_names_those_that_do():
    with pytest.raises(DataError, match=r"no list 'voc_classic/91'.*voc_classic/92.*ends in \.txt"):
        select(IDS, "voc_classic/91", 0)


def test_a_missing_and_an_empty_list(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        id_lists.require_list("x" * 300 + ".txt", "segmentation_folder")
    with pytest.raises(DataError, match=r"missing\.txt cannot be read"):
        select(IDS, str(tmp_path / "missing.txt"), 0)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="selects none"):
        select(IDS, str(tmp_path / "empty.txt"), 0)
