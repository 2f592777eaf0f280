"""TFDS builder of PASCAL VOC 2012 segmentation, and of trainaug, which adds the masks of SBD.

Both come from archives that are downloaded by hand and read as they are.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from pals_jax.data import id_lists
from pals_jax.data.archives import File, list_files
from pals_jax.data.builders.segmentation_folder import SegmentationFolder
from pals_jax.data.catalog import Dataset
from pals_jax.data.errors import DataError
from pals_jax.data.folder import Pair
from pals_jax.data.images import Mask

VOC, SBD, AUG = "VOCtrainval_11-May-2012.tar", "benchmark.tgz", "SegmentationClassAug.zip"

INSTRUCTIONS = f"""\
Put into config.data.root:
  {VOC} (1,999,639,040 bytes, MD5 6cd6e144f989b92b3379bac3b3de84fd), from
  https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/{VOC},
  or what it unpacks to, VOCdevkit/VOC2012;
for trainaug also one of
  {SBD} (MD5 82b4d87ceb2ed10f6038a1cba92111cb), from
  https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/{SBD},
  or what it unpacks to, benchmark_RELEASE;
  {AUG}, from https://www.dropbox.com/s/oeu149j8qtbs1x0/{AUG},
  or the folder SegmentationClassAug: the same masks as PNGs, as others packed them.
They stay there: what was prepared of them is found by their sizes and times."""

AUGMENTED = "trainaug"

_OF_VOC = re.compile(r"(?:^|/)(?:JPEGImages|SegmentationClass|ImageSets/Segmentation)/")

# Masks of SBD as published, and as PNGs in a folder or archive of their own.
_OF_SBD = re.compile(r"dataset/cls/(\w+)\.mat$|(?:^|/)(\w+)\.png$")

# Images of each split.
COUNTS = {"train": 1464, "val": 1449, "trainval": 2913, AUGMENTED: 10582}


@dataclasses.dataclass(eq=False, kw_only=True)
class VocConfig(tfds.core.BuilderConfig):
    """One split of the archives below a folder.

    The name ends in a hash of the size and the modification time of what is read, and of all that
    decides what becomes of it. Archives are opened only to prepare them: a .tgz takes a while.

    Attributes:
      root: where the archives lie.
      info: classes and ignore index.
      splits: the one split to prepare.
      palette_masks: masks are palette PNGs.
      sources: archives or folders of VOC and, for trainaug, of SBD.
    """

    name: str = ""
    root: str
    info: Dataset
    splits: Sequence[str]
    palette_masks: bool = True
    sources: list[Path] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if not self.root:
            raise DataError(f"config.data.root is empty. {INSTRUCTIONS}")
        root = Path(self.root).expanduser()
        (split,) = self.splits
        self.sources = [_find_voc(root)] + ([_find_sbd(root)] if split == AUGMENTED else [])
        # Of archives themselves, and of each file of a folder: that of the folder would not change.
        patterns = (_OF_VOC, _OF_SBD)[: len(self.sources)]
        files = itertools.chain(*map(_stamped, self.sources, patterns))
        stamps = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(files)]
        meaning = [self.info.classes, self.info.ignore, split, stamps]
        digest = hashlib.sha256(json.dumps(meaning).encode()).hexdigest()
        self.name = f"{split}-{digest[:16]}"

    @functools.cached_property
    def pairs(self) -> dict[str, list[Pair[File]]]:
        """The files of the split.

        Raises:
          DataError: an archive is cut off or another one, or lacks files.
        """
        (split,) = self.splits
        of_voc = _Voc(self.sources[0])
        if split == AUGMENTED:
            found = of_voc.with_sbd(self.sources[1], id_lists.shipped("voc/trainaug"))
        else:
            found = of_voc.split(split)
        if len(found) != COUNTS[split]:
            raise DataError(
                f"{self.sources[0]}: {split} has {len(found)} images; that of VOC 2012 has "
                f"{COUNTS[split]}. {INSTRUCTIONS}"
            )
        return {split: found}


class Voc(SegmentationFolder):
    """VOC 2012 segmentation; `VocConfig` says which split."""

    VERSION = tfds.core.Version("1.0.0")

    def _read_mask(self, file: File) -> Mask:
        return read_sbd(file) if file.suffix == ".mat" else super()._read_mask(file)


def read_sbd(file: File) -> Mask:
    """The class indices [H, W] of an image of SBD: GTcls.Segmentation of a .mat file.

    Raises:
      DataError: the file is damaged, or holds something else.
    """
    try:
        content = scipy.io.loadmat(io.BytesIO(file.read_bytes()))
        mask = content["GTcls"]["Segmentation"][0, 0]
        largest = mask.max()
    except Exception as error:  # SciPy raises a dozen kinds on broken files
        raise DataError(f"{file}: no GTcls.Segmentation of SBD ({error!r}).") from None
    if mask.dtype != np.uint8 or mask.ndim != 2 or largest > 20:
        raise DataError(
            f"{file}: GTcls.Segmentation is {mask.dtype} {mask.shape} up to {largest}; expected "
            "uint8 [H, W] up to 20."
        )
    return mask


def _find_voc(root: Path) -> Path:
    for source in (root / VOC, root / "VOCdevkit" / "VOC2012", root / "VOC2012", root):
        if source.is_file() or (source / "SegmentationClass").is_dir():
            return source
    raise DataError(f"{root} holds neither {VOC} nor VOCdevkit/VOC2012. {INSTRUCTIONS}")


def _find_sbd(root: Path) -> Path:
    inside = ("", "VOCdevkit/VOC2012", "VOC2012")
    folders = [root / place / "SegmentationClassAug" for place in inside]
    for source in (root / SBD, root / AUG, root / "benchmark_RELEASE", *folders):
        if source.exists():
            return source
    raise DataError(f"{root} holds none of the masks that trainaug adds to VOC. {INSTRUCTIONS}")


def _files(source: Path, pattern: re.Pattern[str]) -> dict[str, File]:
    """As `list_files`, whose error is followed by what to download."""
    try:
        return list_files(source, pattern)
    except DataError as error:
        raise DataError(f"{error} {INSTRUCTIONS}") from None


def _stamped(source: Path, pattern: re.Pattern[str]) -> Iterable[Path]:
    """The archive, or the files of a folder that may be read."""
    if source.is_file():
        return [source]
    return [path for path in list_files(source, pattern).values() if isinstance(path, Path)]


class _Voc:
    """The files of VOC by id."""

    def __init__(self, source: Path):
        self.source = source
        files = _files(source, _OF_VOC)
        self.images = _by_id(files, re.compile(r"(?:^|/)JPEGImages/(\w+)\.jpg$"))
        self.masks = _by_id(files, re.compile(r"(?:^|/)SegmentationClass/(\w+)\.png$"))
        lists = _by_id(files, re.compile(r"ImageSets/Segmentation/(\w+)\.txt$"))
        if missing := sorted({"train", "val", "trainval"} - lists.keys()):
            names = ", ".join(f"{name}.txt" for name in missing)
            raise DataError(f"{source} lacks {names} of ImageSets/Segmentation. {INSTRUCTIONS}")
        self.ids = {name: _words(file) for name, file in lists.items()}

    def split(self, name: str) -> list[Pair[File]]:
        """The pairs of a split of VOC, sorted by id."""
        return self._pairs(self.ids[name], self.masks, self.source, INSTRUCTIONS)

    def with_sbd(self, source: Path, ids: Sequence[str]) -> list[Pair[File]]:
        """The pairs of trainaug: the masks of VOC train, and those of SBD for the others."""
        if shared := sorted(set(ids) & set(self.ids["val"])):
            raise DataError(f"{len(shared)} ids of trainaug are in VOC val: {', '.join(shared)}.")
        files = _files(source, _OF_SBD)
        if any("SegmentationObject/" in name for name in files):
            raise DataError(
                f"{source} holds SegmentationObject, as VOC 2012 itself: it must hold the masks of "
                f"SBD and no others. {INSTRUCTIONS}"
            )
        masks = _by_id(files, _OF_SBD)
        masks |= {pair.id: pair.mask for pair in self.split("train")}
        hint = (
            "It needs those of train.txt and val.txt of SBD; train_noval.txt is half of them. Or "
            "it is damaged: download it again."
        )
        return self._pairs(ids, masks, source, hint)

    def _pairs(
        self, ids: Sequence[str], masks: Mapping[str, File], of_masks: Path, hint: str
    ) -> list[Pair[File]]:
        for what, found, source, advice in (
            ("image", self.images, self.source, INSTRUCTIONS),
            ("mask", masks, of_masks, hint),
        ):
            if missing := sorted(set(ids) - found.keys()):
                raise DataError(
                    f"{source}: {len(missing)} of {len(ids)} ids have no {what}. {advice} They are "
                    f"{', '.join(missing)}."
                )
        return [Pair(key, self.images[key], masks[key]) for key in sorted(ids)]


def _words(file: File) -> list[str]:
    try:
        return file.read_bytes().decode("utf-8-sig").split()
    except UnicodeDecodeError:
        raise DataError(f"{file} is not text in UTF-8. {INSTRUCTIONS}") from None


def _by_id(files: Mapping[str, File], pattern: re.Pattern[str]) -> dict[str, File]:
    """Files in whose path a pattern is found, by the group that it matched.

    Raises:
      DataError: two have the same id.
    """
    found: dict[str, File] = {}
    for name, file in files.items():
        if match := pattern.search(name):
            key = next(filter(None, match.groups()))
            if key in found:
                raise DataError(f"{key} is there twice, as {found[key]} and as {file}: remove one.")
            found[key] = file
    return found
