"""Cityscapes by the builder of TFDS, whose records hold raw label ids, as the classes 0..18.

The records stay as that builder makes them; ids and digests, for which it has no place, are kept
in a file beside them.
"""

import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.extractor import ExtractError

from pals_jax.data.builders.preparation import digest, prepare
from pals_jax.data.catalog import CITYSCAPES_LABEL_IDS
from pals_jax.data.errors import DataError
from pals_jax.files import write_atomically

INSTRUCTIONS = """\
Put into config.data.root, as they come from https://www.cityscapes-dataset.com/downloads/ after a
registration, not unpacked:
  leftImg8bit_trainvaltest.zip (11 GB, MD5 0a6e97e94b616a514066c9e2adb0c97f) and
  gtFine_trainvaltest.zip (241 MB, MD5 4237c19de34c8a376e9ba46b495d6f66);
for cityscapes_coarse, in place of the latter,
  leftImg8bit_trainextra.zip (44 GB, MD5 9167a331a158ce3e8989e166c95d56d4) and
  gtCoarse.zip (1.3 GB, MD5 1c7b95c84b1d36cc59a9194d8e5b989f)."""

# For each configuration of the builder: its archives, and a path that each has inside.
_ARCHIVES = {
    "semantic_segmentation": {
        "leftImg8bit_trainvaltest.zip": "leftImg8bit/train/",
        "gtFine_trainvaltest.zip": "gtFine/train/",
    },
    "semantic_segmentation_extra": {
        "leftImg8bit_trainvaltest.zip": "leftImg8bit/train/",
        "leftImg8bit_trainextra.zip": "leftImg8bit/train_extra/",
        "gtCoarse.zip": "gtCoarse/train_extra/",
    },
}
CONFIGURATIONS = {
    "cityscapes": "semantic_segmentation",
    "cityscapes_coarse": "semantic_segmentation_extra",
}

SIZE = (1024, 2048)


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
      name: a key of CONFIGURATIONS.
      root: folder of the archives, see INSTRUCTIONS; not looked at where all is prepared.
      data_dir: where TFDS keeps data sets; "" for its own default.
      split: of the catalogue.
      ignore: class of what does not count.

    Returns:
      The records, and id and digest of each.

    Raises:
      DataError: an archive is missing, cut off or another one.
    """
    configuration = CONFIGURATIONS[name]
    folder = prepare(
        tfds.builder_cls("cityscapes"),
        configuration,
        data_dir,
        generate=lambda builder: _generate(builder, root, _ARCHIVES[configuration]),
    )
    builder = tfds.builder_from_directory(folder)
    of_tfds = {"val": "validation"}.get(split, split)
    index = folder / f"pals_jax_{split}.json"
    if not index.exists():
        write_atomically(index, json.dumps(_index(builder, of_tfds)))
    found = json.loads(index.read_text())
    return Records(builder.as_data_source(of_tfds), ignore), found["ids"], found["digests"]


def _index(builder: Any, split: str) -> dict[str, list[str]]:
    """Ids and digests of all records, in their order."""
    skip = tfds.decode.SkipDecoding()
    encoded = builder.as_data_source(
        split, decoders={"image_left": skip, "segmentation_label": skip}
    )
    ids, digests = [], []
    for record in encoded:
        ids.append(record["image_id"].decode())
        digests.append(
            digest({"image": record["image_left"], "label": record["segmentation_label"]})
        )
    return {"ids": ids, "digests": digests}


def _generate(builder: Any, root: str, archives: dict[str, str]) -> None:
    """Has TFDS write the records; what it unpacks for that is removed."""
    _check_archives(root, archives)
    beside = Path(builder.data_dir).parent
    with tempfile.TemporaryDirectory(prefix="incomplete.unpacked_", dir=beside) as unpacked:
        download = tfds.download.DownloadConfig(
            manual_dir=Path(root).expanduser(), extract_dir=unpacked
        )
        try:
            builder.download_and_prepare(download_config=download)
        except ExtractError as error:
            raise DataError(f"an archive is damaged ({error}): download it again.") from None


def _check_archives(root: str, archives: dict[str, str]) -> None:
    if not root:
        raise DataError(f"config.data.root is empty. {INSTRUCTIONS}")
    folder = Path(root).expanduser()
    for name, inside in archives.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing. {INSTRUCTIONS}")
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} ({path.stat().st_size} bytes) is cut off or no zip archive ({error}): "
                f"download it again. {INSTRUCTIONS}"
            ) from None
        if not any(entry.startswith(inside) for entry in names):
            raise DataError(
                f"{path} is another archive: it has no {inside}, but {', '.join(names[:3])}, …. "
                f"{INSTRUCTIONS}"
            )
