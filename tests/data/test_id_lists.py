"""Which ids the lists of the field and of users select."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax.data import id_lists
from pals_jax.data.errors import DataError
from pals_jax.data.layout import Layout
from pals_jax.data.subsets import select

IDS = [f"drive{d}/{i:03d}" for d in "ab" for i in range(10)]


def test_a_list_may_hold_comments_and_masks_but_one_id_a_line(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# chosen\ndrivea/001 masks/drivea/001.png\n")
    assert select(IDS, str(path), 0) == ["drivea/001"]
    for mask in ("001_label.png", "m/001.png", "m/x_001.png", "m/001/mask.png"):
        path.write_text(f"drivea/001 {mask}\n")
        assert select(IDS, str(path), 0) == ["drivea/001"]
    for other in ("-1", "checked", "# J.Smith", "m/x.png", "m/1001.png", "drivea/002_label.png"):
        path.write_text(f"drivea/001 {other}\n")
        with pytest.raises(DataError, match="an image with the mask of another"):
            select(IDS, str(path), 0)
    path.write_text("drivea/001 drivea/002\n")
    with pytest.raises(DataError, match=r"several.*drivea/001 drivea/002"):
        select(IDS, str(path), 0)


def test_a_list_in_another_encoding_is_explained(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("drivea/001\n", encoding="utf-16")
    with pytest.raises(DataError, match=r"list\.txt is not text in UTF-8"):
        select(IDS, str(path), 0)


@pytest.mark.parametrize(
    "text",
    [
        "drivea/003\ndriveb/001",  # no newline at the end
        "\n  drivea/003 \n\ndriveb/001\n\n",
        "\ufeffdrivea/003\r\ndriveb/001\r\n",
        "drivea/003.jpg masks/drivea/003.png\ndriveb/001.jpg masks/driveb/001.png\n",
        "JPEGImages/drivea/003.jpg\n/data/JPEGImages/driveb/001.jpg\n",
        "drivea/003\ndriveb/001\ndriveb/001\n",
    ],
)
def test_lists_as_the_field_writes_them(tmp_path, text):
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    assert select(IDS, str(tmp_path / "list.txt"), 0) == ["drivea/003", "driveb/001"]


def test_a_bare_name_stands_for_the_one_id_that_ends_with_it(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("jena_1\n")
    assert select(["aachen/aachen_1", "jena/jena_1"], str(path), 0) == ["jena/jena_1"]
    with pytest.raises(
        DataError, match="1 of its lines name none of the 2 images to choose from, several"
    ):
        select(["x/jena_1", "y/jena_1"], str(path), 0)


def test_dots_and_spaces_in_ids(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("v1.2\nmy photo\n")
    assert select(["v1.2", "v1", "my photo"], str(path), 0) == ["my photo", "v1.2"]


@pytest.mark.parametrize(
    "line",
    ["scan 2", "scan 2.jpg", "x/scan 2.jpg", "images/scan 2.jpg masks/scan 2.png", "images/scan 2"],
)
def test_a_name_with_a_space_is_not_cut_at_it(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(line + "\n")
    assert select(["scan", "scan 2", "scan 3"], str(path), 0) == ["scan 2"]


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ("images/scan 2.jpg masks/scan 3.png", ["scan 2", "scan 3"]),
        ("x.jpg masks/scan 2.png", ["x", "scan 2"]),
        ("b.jpg m/a b.png", ["a b", "b", "a"]),
        ("images/2.jpg masks/scan 2.png", ["2", "scan 2"]),
        ("images/2 masks/scan 2", ["2", "scan 2"]),
        ("my photos/c.jpg", ["my", "x"]),
        ("d/my photo 1 d2/my photo 1", ["my"]),
        ("img/a.jpg masks/b_mask.png", ["a", "b"]),
        ("a.jpg masks/c.png", ["a", "b"]),
        ("v1.3", ["v1", "v1.2"]),
        ("2021.05.04", ["2021.05", "2021.05.03"]),
        ("scan copy", ["scan"]),
        ("scan (scan)", ["scan"]),
        ("train/a.jpg,train/b.jpg", ["a", "b"]),
        ("train/a;train/b", ["a", "b"]),
        ("train/a.jpg:train/b.jpg", ["a", "b"]),
        ("images/a.jpg,masks/b.png", ["a", "b"]),
        ("drive3/0001.jpg", ["0001", "drive2/0001"]),
        ("imgs/0009 masks/0001", ["0001", "0002"]),
        ("9 images/2", ["1", "2", "3"]),
        ("x/a " * 5000 + "x/a", ["x/a", "x/b"]),
        ("s1/1 s1/2 s2/1", ["s1/1", "s1/2", "s2/1"]),
        ("t/s1/1.jpg t/s1/2.jpg t/s2/1.jpg", ["s1/1", "s1/2", "s2/1"]),
    ],
)
def test_a_line_selects_no_other_image_than_it_names(tmp_path, line, ids):
    path = tmp_path / "list.txt"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match="1 of its lines name none of"):
        select(ids, str(path), 0)


@pytest.mark.parametrize(
    ("line", "ids", "found"),
    [
        ("a.1", ["a", "x/a.1"], "x/a.1"),
        ("x/1.jpg", ["1", "a/x/1"], "a/x/1"),
        ("my photos/c.jpg", ["c", "photos"], "c"),
        ("my photos/c.jpg my masks/c.png", ["c", "my"], "c"),
        ("x_leftImg8bit.png", ["x", "x_leftImg8bit"], "x_leftImg8bit"),
        (
            "leftImg8bit/train/a/a_0_leftImg8bit.png gtFine/train/a/a_0_gtFine_labelIds.png",
            ["a/a_0_leftImg8bit", "b/b_0_leftImg8bit"],
            "a/a_0_leftImg8bit",
        ),
        ("/home/me/My Data/images/a.jpg", ["a", "me"], "a"),
        ("a\u2028b", ["a", "b", "a\u2028b"], "a\u2028b"),
        ("./scan 2.jpg ./m/scan 2_mask.png", ["scan", "2", "scan 2"], "scan 2"),
    ],
)
def test_a_line_selects_what_it_names_most_exactly(tmp_path, line, ids, found):
    path = tmp_path / "list.txt"
    path.write_text(line + "\n", encoding="utf-8")
    assert select(ids, str(path), 0) == [found]


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ("{split}/{id}_sat.jpg", "100034_sat.jpg"),
        ("{split}/{id}_sat.jpg", "train/100034_sat.jpg train/100034_mask.png"),
        ("{split}/{id}_sat.*", "100034_sat"),
        ("{split}/img_{id}.*", "img_100034.jpg mask_100034.png"),
        ("{split}/img_{id}.*", "100034"),
    ],
)
def test_a_line_may_be_the_name_of_a_file_as_the_layout_has_it(tmp_path, layout, line):
    path = tmp_path / "list.txt"
    path.write_text(line + "\n")
    of_train = Layout(layout, "", "train")
    assert select(["100034", "34"], str(path), 0, layout=of_train) == ["100034"]
    with pytest.raises(DataError, match="1 of its lines"):
        select(["34", "1000"], str(path), 0, layout=of_train)


@pytest.mark.parametrize(
    ("layout", "line", "ids", "found"),
    [
        ("{split}/{id}/0.png", "2/0.png", "0 1 2", "2"),
        ("{split}/{id}/0.png", "train/2/0.png train/2/1.png", "0 1 2", "2"),
        ("{split}/{id}/0.*", "2/0", "0 1 2", "2"),
        ("{split}/{id}/0.*", "2", "0 1 2", "2"),
        ("{split}/{id}/image.png", "a/image.png", "a b image", "a"),
        ("{id}/1.png", "scene/0/1.png", "0 1 2", "0"),
        ("{id}_sat.jpg", "1_sat.jpg", "1 1_sat", "1"),
        ("{id}_sat.jpg", "1_sat_sat.jpg", "1 1_sat", "1_sat"),
        ("{id}_sat.jpg", "1_sat", "1 1_sat", "1_sat"),
        ("{id}_sat.jpg", "data/a/1_sat.jpg", "a/1 1_sat", "a/1"),
        ("img_{id}.jpg", "img_1.jpg", "1 img_1", "1"),
        ("img_{id}.jpg", "img_a/b.jpg", "a/b b", "a/b"),
        ("{split}_{id}.png", "train_1.png", "1 2", "1"),
        ("{id}_{split}.png", "x/1_train.png", "1 2", "1"),
        ("{id}_sat.jpg", "#1_sat.jpg", "#1 2", "#1"),
        ("{id}.jpg", "#1.jpg masks/#1.png", "#1 2", "#1"),
        ("img{id}.jpg", "img1.jpg mask1.png", "1 2", "1"),
        ("{id}img.jpg", "x/1img.jpg m/1gt.png", "1 2", "1"),
        ("P{id}.jpg", "P1.jpg P1_mask.png", "1 2", "1"),
        ("images/{split}/{id}", "images/train/1.png", "1.png 2.png", "1.png"),
        ("{split}/{id}.jpg", "x" * 300 + "/1.jpg", "1 2", "1"),
        ("{split}/{id}.jpg", "train//1.jpg", "1 2", "1"),
    ],
)
def test_the_name_of_a_file_is_that_of_the_image_of_the_layout(tmp_path, layout, line, ids, found):
    path = tmp_path / "list.txt"
    path.write_text(line + "\n")
    assert select(ids.split(), str(path), 0, layout=Layout(layout, "", "train")) == [found]


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        ("{id}/0.png", "3/0.png"),  # of an image 3, not 0
        ("{id}/0.png", "3/0"),
        ("{id}/0.png", "0.png"),  # of any
        ("{id}/0.png", "0/2.png"),
        ("{id}_0.png", "3_0.png"),
        ("{split}_{id}.png", "val_1.png"),
        ("{split}/{id}_sat.jpg", "val/1_sat.jpg"),
        ("{split}/{id}_sat.jpg", "/data/val/1_sat.jpg val/1_mask.png"),
        ("{split}/{id}_sat.jpg", "val/1.jpg"),
        ("{split}/{id}.jpg", "val/1"),
        ("{split}/{split}_{id}.jpg", "val/1.jpg"),
        ("{split}/{id}/0.png", "val/0/0.png"),
        ("images/{split}/{id}.*", "val/1.jpg"),
        ("images/{split}/{id}.*", "images/val/1.jpg"),
        ("images/{split}/{id}.*", "masks/val/1.png"),
        ("images/{split}/{id}", "images/val/1.png"),
        ("images/{split}/img/{id}.*", "val/img/1.jpg"),
        ("{split}/{id}.jpg", "val/night/1.jpg"),
        ("{split}/{id}.jpg", "/data/train/val//1.jpg"),
        ("{split}/{id}.jpg", "val/2.jpg"),  # not night/2 either
        ("{split}/{id}.jpg", "10 val/1.jpg"),
        ("{split}/{id}.jpg", "d41d8cd98f  val/1.jpg"),
        ("{split}/{id}.jpg", "path: val/1.jpg"),
        ("{split}/{id}.jpg", "x/my val/1.jpg"),
    ],
)
def test_a_file_that_is_of_no_image_to_choose_from_is_refused(tmp_path, layout, line):
    (tmp_path / "val").mkdir()
    (tmp_path / "my val").mkdir()
    (tmp_path / "images/val").mkdir(parents=True)
    path, ids = tmp_path / "list.txt", ["0", "1", "1.png", "2", "3_0", "night/2"]
    path.write_text(line + "\n")
    with pytest.raises(DataError, match="1 of its lines name none of"):
        select(ids, str(path), 0, layout=Layout(layout, "", "train", str(tmp_path)))


LAYOUTS = ("{split}/{id}.png", "{id}_0.png", "a_{id}.png", "{split}/a/{id}/0.png", "{id}_{split}.*")
IDS_ALIKE = st.lists(
    st.from_regex(r"(a_)?[0a](/[0a])?(_0)?", fullmatch=True), min_size=1, max_size=6, unique=True
)


@settings(max_examples=300, deadline=None)
@given(IDS_ALIKE, st.sampled_from(LAYOUTS))
def test_the_path_of_an_image_names_it_and_no_other(tmp_path_factory, ids, layout):
    path = tmp_path_factory.mktemp("list") / "list.txt"
    below = layout.replace("{split}", "train").replace(".*", ".png").replace("{id}", ids[0])
    path.write_text(below)
    assert select(ids, str(path), 0, layout=Layout(layout, "", "train")) == [ids[0]]
    path.write_text(f"/data/x/{below}")
    with contextlib.suppress(DataError):  # "/data/x/0" may be "0" or "x/0", so perhaps several
        assert select(ids, str(path), 0, layout=Layout(layout, "", "train")) == [ids[0]]


def test_the_folders_of_a_list_need_not_be_those_of_the_data(tmp_path):
    (tmp_path / "val").mkdir()
    path, layout = tmp_path / "list.txt", Layout("{split}/{id}.jpg", "", "train", str(tmp_path))
    path.write_text("JPEGImages/1.jpg SegmentationClass/1.png\n/data/val/train/2.jpg\nvalley/3")
    assert select(["1", "2", "3", "4"], str(path), 0, layout=layout) == ["1", "2", "3"]


def test_a_file_that_is_there_is_that_image_or_none(tmp_path):
    """Whatever its folders are called, and through links."""
    root = tmp_path / "2 val"
    for image in ("area1/images/1", "area1/images/a 1", "area2/images/1", "images/1", "pool/x"):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{image}.jpg").write_text(image)
    (root / "area1/images/7.jpg").symlink_to(root / "pool/x.jpg")
    path = tmp_path / "list.txt"
    layout = Layout("area1/{split}/{id}.jpg", "", "images", str(root))

    def chosen(line):
        path.write_text(line)
        return select(["1", "7", "a 1"], str(path), 0, layout=layout)

    for line, key in {
        "area1/images/1.jpg": "1",
        "images/1.jpg": "1",  # from the folder of the area
        f"{root}/area1/images/1.jpg": "1",
        "2 val/area1/images/a 1.jpg": "a 1",
        f"{root}/pool/x.jpg": "7",
        "pool/x.jpg masks/7.png": "7",
    }.items():
        assert chosen(line) == [key]
    (root / "area1/images/8.jpg").touch()  # not to choose from
    for line in (
        *("area1/images/8.jpg", "area2/images/1.jpg", f"{root}/images/1.jpg"),
        "2 val/area2/images/1.jpg m/1.png",
    ):
        with pytest.raises(DataError, match="1 of its lines name none of"):
            chosen(line)


def test_a_file_may_have_two_ids_and_lie_below_the_current_folder(tmp_path, monkeypatch):
    for file in ("mine/train/1.jpg", "mine/train/2.jpg", "here/other/train/1.jpg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "mine/train/1 copy.jpg").symlink_to(tmp_path / "mine/train/1.jpg")
    (tmp_path / "here/link").symlink_to(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "here")
    path, layout = tmp_path / "list.txt", Layout("{split}/{id}.jpg", "", "train", "link")
    for line, key in {
        f"{tmp_path}/mine/train/1.jpg": "1",
        "mine/train/1 copy.jpg": "1 copy",
        "../here/link/train/2.jpg": "2",
    }.items():
        path.write_text(line)
        assert select(["1", "1 copy", "2"], str(path), 0, layout=layout) == [key]
    for line in (
        *("other/train/1.jpg", "other/train/1.jpg other/masks/1.png"),
        *("file:///x/train/1.jpg", f"4 {tmp_path}/here/other/train/1.jpg", "4 ~/x/1.jpg"),
    ):
        path.write_text(line)
        with pytest.raises(DataError, match="1 of its lines name none of"):
            select(["1", "1 copy", "2"], str(path), 0, layout=layout)


def test_folders_and_files_without_extension_are_looked_for(tmp_path):
    for area in ("north", "south"):
        (tmp_path / area / "train/case_1").mkdir(parents=True)
        for file in ("1.jpg", "case_1/image.png"):
            (tmp_path / area / "train" / file).touch()
    path = tmp_path / "list.txt"
    root = str(tmp_path / "north")
    for images, key, forms in (
        ("{split}/{id}.*", "1", ["train/1"]),
        ("{split}/{id}/image.png", "case_1", ["train/case_1", "train/case_1/"]),
    ):
        layout = Layout(images, "", "train", root)
        for form in forms:
            for right in (form, f"north/{form}", f"{root}/{form}", f"north//{form}"):
                path.write_text(right)
                assert select([key, "another"], str(path), 0, layout=layout) == [key]
            for wrong in (f"south/{form}", f"{tmp_path}/south/{form}", f"../south/{form}"):
                path.write_text(wrong)
                with pytest.raises(DataError, match="1 of its lines name none of"):
                    select([key, "another"], str(path), 0, layout=layout)


def test_a_mask_that_is_there_is_that_of_the_image(tmp_path):
    for file in ("north/1", "south/1"):
        for kind in ("train", "trainannot", "valannot"):
            (tmp_path / kind / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / kind / f"{file}.png").touch()
    path = tmp_path / "list.txt"
    layout = Layout("{split}/{id}.png", "{split}annot/{id}.png", "train", str(tmp_path))
    path.write_text("train/south/1.png trainannot/south/1.png\n/x/train/north/1.png gt/1.png")
    assert select(["north/1", "south/1"], str(path), 0, layout=layout) == ["north/1", "south/1"]
    for mask in ("trainannot/north/1.png", "valannot/south/1.png", "/x/valannot/south/1.png"):
        path.write_text(f"train/south/1.png {mask}")
        with pytest.raises(DataError, match="an image with the mask of another"):
            select(["north/1", "south/1"], str(path), 0, layout=layout)


def test_a_split_may_lie_in_a_folder(tmp_path):
    (tmp_path / "2012/val").mkdir(parents=True)
    path, layout = (
        tmp_path / "list.txt",
        Layout("{split}/{id}.jpg", "", "2012/train", str(tmp_path)),
    )
    path.write_text("2012/train/1.jpg\ntrain/2.jpg")
    assert select(["1", "2", "3"], str(path), 0, layout=layout) == ["1", "2"]
    path.write_text("2012/val/1.jpg")
    with pytest.raises(DataError, match="1 of its lines name none of"):
        select(["1", "2", "3"], str(path), 0, layout=layout)


def test_the_path_of_an_image_may_hold_spaces(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("train/New folder (2)/image.png\n./train/New folder (2)/image.png")
    layout = Layout("{split}/{id}/image.png", "", "train")
    ids = ["New folder", "New folder (2)"]
    assert select(ids, str(path), 0, layout=layout) == ["New folder (2)"]


def test_a_line_that_is_switched_off_names_no_image(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("#1\n# images/1.jpg\n#images/1.jpg masks/1.png\n2\n")
    assert select(["1", "2"], str(path), 0) == ["2"]


@pytest.mark.parametrize(
    "line",
    [
        "scan 2",
        "scan 2.jpg",
        "scan (1).jpg",
        "1 (1).jpg",
        "a - Copy (2).jpg",
        "x/scan 2.jpg m/scan 2.png",
    ],
)
def test_the_beginning_of_a_name_that_is_unknown_is_not_taken_for_it(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match="1 of its lines name none of"):
        select(["1", "a", "scan", "scan 3"], str(path), 0)


def test_every_unknown_id_of_a_list_is_named(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("drivea/003\nnope\ndrivea/999\n")
    with pytest.raises(DataError, match=r"list\.txt: 2 of .* 20 images to.*are nope, drivea/999\."):
        select(IDS, str(path), 0)


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


def test_a_list_of_files_of_cityscapes(tmp_path):
    path = tmp_path / "labeled.txt"
    path.write_text(
        "leftImg8bit/train/jena/jena_000078_000019_leftImg8bit.png "
        "gtFine/train/jena/jena_000078_000019_gtFine_labelTrainIds.png"
    )
    ids = ["jena_000078_000018", "jena_000078_000019"]
    assert select(ids, str(path), 0) == ["jena_000078_000019"]


def test_the_folders_that_find_lists_are_unknown_ids(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(".\n/\n./drivea/003\n")
    with pytest.raises(DataError, match=r"list\.txt: .* They are \., /\."):
        select(IDS, str(path), 0)


def test_a_missing_and_an_empty_list(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        id_lists.require_list("x" * 300 + ".txt", "segmentation_folder")
    with pytest.raises(DataError, match=r"missing\.txt cannot be read"):
        select(IDS, str(tmp_path / "missing.txt"), 0)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="selects none"):
        select(IDS, str(tmp_path / "empty.txt"), 0)
