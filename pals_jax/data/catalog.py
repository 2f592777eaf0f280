"""Data sets by name: classes, colours, ignore index, folder layout."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from pals_jax.data import streets
from pals_jax.data.errors import DataError, some

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Dataset:
    """What a data set's files mean.

    Attributes:
      name: the key in CATALOG.
      classes: names in the order of their indices.
      palette: one RGB colour a class.
      ignore: the index of pixels that do not count; never a class's.
      splits: names of the splits; empty where any folder may be one.
      images: layout of the image files (see `folder.scan`); empty for generated data.
      masks: layout of the mask files.
    """

    name: str
    classes: tuple[str, ...] = ()
    palette: tuple[Colour, ...] = ()
    ignore: int = 255
    splits: tuple[str, ...] = ()
    images: str = ""
    masks: str = ""

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)


def default_palette(num_classes: int) -> tuple[Colour, ...]:
    """The colour map of PASCAL VOC, for data without colours of their own.

    The bits of the index are dealt to R, G, B in turn, from each channel's highest bit downwards:
    bit 3j + c of the index becomes bit 7 − j of channel c.

    Args:
      num_classes: how many colours; they are distinct up to 2^24.

    Returns:
      RGB colours; the first is black.
    """

    def channel(index: int, c: int) -> int:
        return sum((index >> (3 * j + c) & 1) << (7 - j) for j in range(8))

    return tuple((channel(i, 0), channel(i, 1), channel(i, 2)) for i in range(num_classes))


_VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

# Name, raw label id and colour of each class.
_CITYSCAPES: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)

# The raw label id of each class, as files of Cityscapes have it.
CITYSCAPES_LABEL_IDS = tuple(label_id for _, label_id, _ in _CITYSCAPES)

CATALOG: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="synthetic_streets",
            classes=streets.CLASSES,
            palette=streets.PALETTE,
            ignore=streets.IGNORE,
            splits=("train", "val"),
        ),
        # CamVid as published with the SegNet tutorial: 367 / 101 frames of 480×360, 11 classes.
        Dataset(
            name="camvid",
            classes=(
                "sky",
                "building",
                "pole",
                "road",
                "pavement",
                "tree",
                "sign symbol",
                "fence",
                "car",
                "pedestrian",
                "bicyclist",
            ),
            palette=(
                (128, 128, 128),
                (128, 0, 0),
                (192, 192, 128),
                (128, 64, 128),
                (60, 40, 222),
                (128, 128, 0),
                (192, 128, 128),
                (64, 64, 128),
                (64, 0, 128),
                (64, 64, 0),
                (0, 128, 192),
            ),
            ignore=11,
            splits=("train", "val", "test"),
            images="{split}/{id}.jpg",
            masks="{split}annot/{id}.png",
        ),
        # With fine labels, and with coarse ones of 20,000 more images: see builders/cityscapes.py.
        Dataset(
            name="cityscapes",
            classes=tuple(name for name, _, _ in _CITYSCAPES),
            palette=tuple(colour for _, _, colour in _CITYSCAPES),
            splits=("train", "val", "test"),
        ),
        Dataset(
            name="cityscapes_coarse",
            classes=tuple(name for name, _, _ in _CITYSCAPES),
            palette=tuple(colour for _, _, colour in _CITYSCAPES),
            splits=("train", "val", "train_extra"),
        ),
        # PASCAL VOC 2012 segmentation; trainaug adds the masks of SBD, see builders/voc.py.
        Dataset(
            name="voc2012",
            classes=_VOC_CLASSES,
            palette=default_palette(len(_VOC_CLASSES)),
            splits=("train", "trainaug", "val", "trainval"),
        ),
        # Anyone's folder: the configuration brings the classes, and the layout where it differs.
        Dataset(
            name="segmentation_folder",
            images="images/{split}/{id}.*",
            masks="masks/{split}/{id}.png",
        ),
    )
}


def dataset_info(config: Any) -> Dataset:
    """The catalogue's entry with what `config.data` says put in its place.

    Args:
      config: `config.data`, with the fields `name`; `classes, palette, images, masks`, where empty
        means the catalogue's, or `default_palette` where classes are given without colours; and
        `ignore`, where -1 means the catalogue's.

    Returns:
      A complete description.

    Raises:
      DataError: the name is unknown (with a suggestion), or classes, palette and ignore do not fit
        together; the text names the field.
    """
    if config.name not in CATALOG:
        close = get_close_matches(config.name, CATALOG, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"config.data.name={config.name!r}: choose from {some(CATALOG)}.{hint}")
    entry = CATALOG[config.name]
    given = {
        "classes": tuple(config.classes),
        "palette": tuple(
            tuple(colour) if isinstance(colour, list) else colour for colour in config.palette
        ),
        "images": config.images,
        "masks": config.masks,
    }
    changes = {field: value for field, value in given.items() if value}
    if config.ignore != -1:
        changes["ignore"] = config.ignore
    dataset = replace(entry, **changes)
    if "classes" in changes and "palette" not in changes and changes["classes"] != entry.classes:
        dataset = replace(dataset, palette=default_palette(dataset.num_classes))
    _check(dataset)
    return dataset


def _check(dataset: Dataset) -> None:
    """Raises a DataError unless classes, palette and ignore index fit together."""
    classes, palette, ignore = dataset.classes, dataset.palette, dataset.ignore
    named = all(isinstance(name, str) and name for name in classes)
    if len(classes) < 2 or len(set(classes)) != len(classes) or not named:
        raise DataError(
            f"config.data.classes={classes!r}: give at least two distinct class names, in the "
            "order of their indices in the masks, as --config.data.classes=\"('a', 'b')\"."
        )
    if len(palette) != len(classes):
        raise DataError(
            f"config.data.palette has {len(palette)} colours for {len(classes)} classes."
        )
    for colour in palette:
        fits = isinstance(colour, tuple) and len(colour) == 3
        if not fits or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
            raise DataError(f"config.data.palette: {colour!r} is not (R, G, B) in 0..255.")
    if not len(classes) <= ignore <= 65535:
        raise DataError(
            f"config.data.ignore={ignore}: must be an index above the last class's, "
            f"{len(classes) - 1}, and below 65536."
        )
