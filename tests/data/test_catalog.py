"""Names, classes and colours."""

import pytest

from pals_jax.data.catalog import CATALOG, dataset_info, default_palette
from pals_jax.data.errors import DataError


def test_the_default_palette_is_that_of_pascal_voc():
    # The published colours of background, aeroplane, bicycle, bird, …, tv monitor.
    colours = default_palette(256)
    assert colours[:5] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128))
    assert colours[15] == (192, 128, 128)
    assert colours[20] == (0, 64, 128)
    assert colours[255] == (224, 224, 192)
    assert len(set(colours)) == 256


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("synthetic_streets", 11),
        ("camvid", 11),
        ("cityscapes", 19),
        ("cityscapes_coarse", 19),
        ("voc2012", 21),
    ],
)
def test_entries_are_complete(config, name, classes):
    info = dataset_info(config(name=name, classes=()))
    assert info == CATALOG[name]
    assert len(set(info.palette)) == info.num_classes == classes


def test_camvid_indices():
    info = CATALOG["camvid"]
    assert info.classes.index("bicyclist") == 10
    assert info.palette[info.classes.index("road")] == (128, 64, 128)
    assert info.ignore == 11


def test_what_the_configuration_says_replaces_the_entry(config):
    palette = ((1, 2, 3), (4, 5, 6))
    info = dataset_info(config(classes=("a", "b"), palette=palette, ignore=9, images="x/{id}.jpg"))
    assert (info.classes, info.palette, info.ignore) == (("a", "b"), palette, 9)
    assert (info.images, info.masks) == ("x/{id}.jpg", CATALOG["segmentation_folder"].masks)


def test_classes_without_colours_get_the_default_ones(config):
    assert dataset_info(config(name="camvid", classes=("a", "b"))).palette == default_palette(2)


def test_an_unknown_name_gets_a_suggestion(config):
    with pytest.raises(DataError, match=r"'camvit'.*camvid.*Did you mean 'camvid'"):
        dataset_info(config(name="camvit"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": ()}, r"config\.data\.classes=\(\)"),
        ({"classes": ("a",)}, r"config\.data\.classes"),
        ({"classes": ("a", "a")}, "distinct"),
        ({"palette": ((0, 0, 0),)}, "1 colours for 3 classes"),
        ({"palette": (1, 2, 3)}, r"1 is not \(R, G, B\)"),
        ({"palette": ((0, 0, 0), (1, 1, 1), (2, 2, 256))}, r"\(2, 2, 256\) is not \(R, G, B\)"),
        ({"palette": ((0, 0, 0), (1, 1, 1), (2, 2))}, r"\(2, 2\) is not"),
        ({"ignore": 2}, r"ignore=2: must be an index above the last class's, 2"),
        ({"ignore": 70000}, "below 65536"),
    ],
)
def test_what_does_not_fit_together_is_named(config, fields, message):
    with pytest.raises(DataError, match=message):
        dataset_info(config(**fields))
