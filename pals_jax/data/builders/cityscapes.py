"""Cityscapes by the builder of TFDS, whose records hold raw label ids, as the classes 0..18.

The records stay as that builder makes them, in a folder of our own, since one that TFDS has filled
may have records of another kind. Ids and digests, for which it has no place, are kept in a file
beside them.
"""

import collections
import io
import json
import re
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download.extractor import ExtractError

from pals_jax.data.archives import ARCHIVE_ERRORS
from pals_jax.data.builders.preparation import digest, locked, prepare, require_room
from pals_jax.data.catalog import CITYSCAPES_LABEL_IDS
from pals_jax.data.errors import DataError, some
from pals_jax.files import write_atomically

INSTRUCTIONS = """\
Put into config.data.root, as they come from https://www.cityscapes-dataset.com/downloads/ after a
registration, not unpacked:
  leftImg8bit_trainvaltest.zip (11 GB, MD5 0a6e97e94b616a514066c9e2adb0c97f) and
  gtFine_trainvaltest.zip (241 MB, MD5 4237c19de34c8a376e9ba46b495d6f66);
for cityscapes_coarse also
  leftImg8bit_trainextra.zip (44 GB, MD5 9167a331a158ce3e8989e166c95d56d4) and
  gtCoarse.zip (1.3 GB, MD5 1c7b95c84b1d36cc59a9194d8e5b989f);
its val has the fine labels, on which all report. To prepare them takes room in
config.data.data_dir for twice what they hold, 23 or 114 GB, half of it for good; then the archives
may go."""

# For each configuration of the builder: the archives of images, that of labels, and what its
# folders and files are called after.
_ARCHIVES = {
    "semantic_segmentation": (
        ("leftImg8bit_trainvaltest.zip",),
        "gtFine_trainvaltest.zip",
        "gtFine",
    ),
    "semantic_segmentation_extra": (
        ("leftImg8bit_trainvaltest.zip", "leftImg8bit_trainextra.zip"),
        "gtCoarse.zip",
        "gtCoarse",
    ),
}

# Images of each split.
COUNTS = {
    "semantic_segmentation": {"train": 2975, "val": 500, "test": 1525},
    "semantic_segmentation_extra": {"train": 2975, "train_extra": 19998, "val": 500},
}

SIZE = (1024, 2048)

# Of the classes that Cityscapes defines; license plates, whose id is -1, are not drawn.
LARGEST_LABEL_ID = 33

_INDEX = "pals_jax.json"

_GREY_BYTES = (8, 0)  # bits and colour type in the header of a PNG


def class_table(ignore: int) -> np.ndarray:
    """[256] class of each raw label id; `ignore` for those that do not count."""
    table = np.full(256, ignore, np.uint8 if ignore <= 255 else np.uint16)
    table[list(CITYSCAPES_LABEL_IDS)] = np.arange(len(CITYSCAPES_LABEL_IDS))
    return table


class Records:
    """Records of TFDS as {"image", "label", "id"}, labels as classes."""

    def __init__(self, records: Sequence[dict[str, Any]], ignore: int):
        self._records = records
        self._classes = class_table(ignore)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        return {
            "image": record["image_left"],
            "label": self._classes[record["segmentation_label"]],
            "id": record["image_id"],
        }


def open_records(
    name: str, root: str, data_dir: str, split: str, ignore: int
) -> tuple[Records, list[str], list[str]]:
    """The records of a split, prepared from the archives where that was not done yet.

    Args:
      name: "cityscapes" or "cityscapes_coarse"; val has fine labels in both.
      root: folder of the archives, see INSTRUCTIONS. Once all is prepared they may be gone; where
        they are there, they must be the same.
      data_dir: where TFDS keeps data sets, in which these go to pals_jax/cityscapes; "" for its own
        default.
      split: of the catalogue.
      ignore: class of what does not count.

    Returns:
      The records, and id and digest of each.

    Raises:
      DataError: an archive is missing, cut off or another one, or not the one that was prepared; or
        the disk has too little room.
    """
    coarse = name == "cityscapes_coarse" and split != "val"
    configuration = "semantic_segmentation" + "_extra" * coarse
    where = Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    folder = prepare(
        tfds.builder_cls("cityscapes"),
        configuration,
        str(where / "pals_jax"),
        generate=lambda builder: _generate(builder, root, configuration),
    )
    builder = tfds.builder_from_directory(folder)
    if not (folder / _INDEX).exists():
        with locked(folder.parent):
            if not (folder / _INDEX).exists():
                index = {
                    "archives": _sizes(root, configuration),
                    "splits": _index(builder, configuration),
                }
                write_atomically(folder / _INDEX, json.dumps(index))
    index = json.loads((folder / _INDEX).read_text())
    for path, size in _sizes(root, configuration).items():
        if size != index["archives"].get(path, size):
            raise DataError(
                f"{Path(root) / path} has {size} bytes, but {folder} was prepared of one of "
                f"{index['archives'][path]}: remove that folder, or choose another "
                "config.data.data_dir."
            )
    found = index["splits"][split]
    records = builder.as_data_source(_of_tfds(split))
    return Records(records, ignore), found["ids"], found["digests"]


def _sizes(root: str, configuration: str) -> dict[str, int]:
    """The size of each archive that is there, by its name."""
    there = [path for path in _paths(root, configuration) if root and path.is_file()]
    return {path.name: path.stat().st_size for path in there}


def _paths(root: str, configuration: str) -> list[Path]:
    """Of the archives, that of labels last."""
    of_images, of_labels, _ = _ARCHIVES[configuration]
    return [Path(root).expanduser() / name for name in (*of_images, of_labels)]


def _of_tfds(split: str) -> str:
    return {"val": "validation"}.get(split, split)


def _index(builder: Any, configuration: str) -> dict[str, dict[str, list[str]]]:
    """Ids and digests of all records of each split, in their order."""
    skip = tfds.decode.SkipDecoding()
    decoders = {"image_left": skip, "segmentation_label": skip}
    index = {}
    for split in COUNTS[configuration]:
        ids, digests = [], []
        for record in builder.as_data_source(_of_tfds(split), decoders=decoders):
            encoded = {"image": record["image_left"], "label": record["segmentation_label"]}
            ids.append(record["image_id"].decode())
            digests.append(digest(encoded))
            for what, png in encoded.items():
                problem = _problem(png, what)
                if not problem and what == "label":
                    problem = _wrong_values(png)
                if problem:
                    raise DataError(
                        f"{ids[-1]}: its {what} {problem}. Remove {builder.data_dir} and download "
                        f"the archive of {what}s again."
                    )
        index[split] = {"ids": ids, "digests": digests}
    return index


def _problem(png: bytes, what: str) -> str:
    """What is wrong with the "image" or "label" of a frame, as far as its chunks tell; or ""."""
    chunks = dict(_whole_chunks(png))
    if not {b"IHDR", b"IDAT", b"IEND"} <= chunks.keys() or len(chunks[b"IHDR"]) != 13:
        return "is cut off or damaged"
    width, height, *kind = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    if (height, width) != SIZE:
        return f"is {height}×{width}, that of Cityscapes {SIZE[0]}×{SIZE[1]}"
    if what == "label" and tuple(kind) != _GREY_BYTES:
        return "is no PNG of grey bytes, as those of label ids are"
    return ""


def _wrong_values(label: bytes) -> str:
    """Which values of a label image are no label ids; or ""."""
    with Image.open(io.BytesIO(label)) as image:
        found = np.unique(np.asarray(image))
    if not (others := found[found > LARGEST_LABEL_ID].tolist()):
        return ""
    return f"has the values {others}, where label ids end at {LARGEST_LABEL_ID}" + (
        ": are they classes for training, as of *_labelTrainIds.png?" if others == [255] else ""
    )


def _whole_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the chunks of a PNG, up to the first whose checksum is not right."""
    at = 8  # behind the signature
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8].ljust(8, b"\0"))
        content, checksum = png[at + 8 : at + 8 + length], png[at + 8 + length : at + 12 + length]
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum):
            return
        yield kind, content
        at += 12 + length


def _generate(builder: Any, root: str, configuration: str) -> None:
    """Has TFDS write the records; what it unpacks for that is removed."""
    unpacked_bytes = _check_archives(root, configuration)
    beside = Path(builder.data_dir).parent
    require_room(beside, 2 * unpacked_bytes)  # unpacked, and as records
    with tempfile.TemporaryDirectory(prefix="incomplete.unpacked_", dir=beside) as unpacked:
        download = tfds.download.DownloadConfig(
            manual_dir=Path(root).expanduser(), extract_dir=unpacked
        )
        try:
            builder.download_and_prepare(download_config=download)
        except ExtractError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            if "No space left" in str(error):  # told by TensorFlow; `prepare` explains it
                raise OSError(str(error)) from None
            raise DataError(
                f"an archive is damaged, encrypted, or compressed in a way that Python does not "
                f"know ({error}): download it again."
            ) from None


def _check_archives(root: str, configuration: str) -> int:
    """Compares the names in the archives with each other and with the published numbers.

    Returns:
      How many bytes the archives hold.
    """
    if not root:
        raise DataError(f"config.data.root is empty. {INSTRUCTIONS}")
    paths, (*_, kind) = _paths(root, configuration), _ARCHIVES[configuration]
    entries = {path: _entries(path) for path in paths}
    # TFDS takes whatever lies beside the images for one.
    image = re.compile(r"leftImg8bit/[^/]+/[^/]+/[^/]+?_\d{6}_\d{6}_leftImg8bit\.png")
    for path in paths[:-1]:
        of_images = [name for name in entries[path] if re.fullmatch(r"leftImg8bit/.+[^/]", name)]
        if stray := [name for name in of_images if not image.fullmatch(name)]:
            raise DataError(
                f"{path} holds other files beside its images: {some(stray)}. Pack it anew without "
                f"them, or download it again. {INSTRUCTIONS}"
            )
    frames = r"([^/]+)/[^/]+/([^/]+?_\d{6}_\d{6})_"  # cities as bad-honnef
    images = [_frames(entries[path], rf"leftImg8bit/{frames}leftImg8bit\.png") for path in paths]
    labels = _frames(entries[paths[-1]], rf"{kind}/{frames}{kind}_labelIds\.png")
    for split, count in COUNTS[configuration].items():
        found = set().union(*(frames[split] for frames in images))
        path = paths[1] if split == "train_extra" else paths[0]
        if len(found) != count:
            raise DataError(
                f"{path}: {split} has {len(found)} images leftImg8bit/{split}/CITY/"
                f"FRAME_leftImg8bit.png; that of Cityscapes has {count}. It holds "
                f"{some(entries[path])}. {INSTRUCTIONS}"
            )
        if missing := found - labels[split]:
            raise DataError(
                f"{paths[-1]}: {len(missing)} of the {count} images of {split} have no {kind}/"
                f"{split}/CITY/FRAME_{kind}_labelIds.png: {some(sorted(missing))}. It holds "
                f"{some(entries[paths[-1]])}. {INSTRUCTIONS}"
            )
    return sum(sum(sizes.values()) for sizes in entries.values())


def _entries(path: Path) -> dict[str, int]:
    """The size of each file in a zip archive by its name."""
    if not path.is_file():
        raise DataError(f"{path} is missing. {INSTRUCTIONS}")
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.filename: entry.file_size for entry in archive.infolist()}
    except ARCHIVE_ERRORS as error:
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) is cut off or no zip archive ({error}): "
            f"download it again. {INSTRUCTIONS}"
        ) from None


def _frames(names: Iterable[str], pattern: str) -> dict[str, set[str]]:
    """The frames of each split whose names match."""
    found: dict[str, set[str]] = collections.defaultdict(set)
    for match in filter(None, (re.fullmatch(pattern, name) for name in names)):
        found[match[1]].add(match[2])
    return found
