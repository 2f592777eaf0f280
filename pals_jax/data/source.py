"""Random access to the decoded images of one split, kept by TFDS as array_record files."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pals_jax.data.catalog import Dataset, dataset_info
from pals_jax.data.errors import DataError, some
from pals_jax.data.subsets import ids_hash

Example = dict[str, Any]


class Examples(Protocol):
    """Random access to images, with or without labels."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


class Source:
    """Random access to `{"image": uint8 [H, W, 3], "label": uint8 or uint16 [H, W], "id": str}`.

    Attributes:
      ids: ids of the images, in the order of access.
      sizes: (height, width) of each image.
      data_hash: 16 hexadecimal digits that tell the ids, and the stored bytes of all images and
          labels, of the split that these are of from others, wherever they lie.
    """

    def __init__(
        self,
        ids: Iterable[str],
        sizes: Iterable[Sequence[int]],
        data_hash: str,
        records: Examples,
        where: Iterable[int],
    ):
        """Use `open_split`.

        Args:
          ids: ids of the images.
          sizes: (height, width) of each.
          data_hash: of the whole split, see `split_hash`.
          records: TFDS's data source.
          where: position of each among the records.
        """
        self.ids = tuple(ids)
        self.sizes = tuple((height, width) for height, width in sizes)
        self.data_hash = data_hash
        self._records = records
        self._where = tuple(where)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        record = self._records[self._where[index]]
        found = record["id"].decode()
        if found != self.ids[index]:
            raise DataError(
                f"the prepared data are damaged: expected {self.ids[index]!r}, found {found!r}. "
                "Delete them, to have them prepared anew."
            )
        return {"image": record["image"], "label": record["label"][..., 0], "id": found}

    def select(self, ids: Iterable[str]) -> "Source":
        """The source of some of these images, in the given order."""
        place = {key: i for i, key in enumerate(self.ids)}
        ids = tuple(ids)
        chosen = [place[key] for key in ids]
        sizes, where = [self.sizes[i] for i in chosen], [self._where[i] for i in chosen]
        return Source(ids, sizes, self.data_hash, self._records, where)


def split_hash(ids: Sequence[str], digests: Sequence[str]) -> str:
    """The `data_hash` of a split, whatever the order; digests are those of `preparation.digest`."""
    return ids_hash([f"{key} {digest}" for key, digest in zip(ids, digests, strict=True)])


def open_split(config: Any, split: str) -> Source:
    """Opens one split of a data set, preparing it first where that was not done yet.

    Neither needs TensorFlow.

    Args:
      config: `config.data`: the fields of `dataset_info`, and `root`, `data_dir` ("" for TFDS's
        own), `palette_masks` and `train_split`.
      split: name of the split.

    Returns:
      All images of the split, sorted by id.

    Raises:
      DataError: files are missing, unpaired, unreadable or not what the configuration says; all
        problems of the split are listed.
    """
    info = dataset_info(config)
    if info.splits and split not in info.splits:
        raise DataError(f"{info.name} has no split {split!r}, only {some(info.splits)}.")
    if info.name in ("cityscapes", "cityscapes_coarse"):
        return _open_cityscapes(config, info, split)
    import tensorflow_datasets as tfds

    # Not the builder that prepares: this one is light and pickles, for worker processes.
    builder = tfds.builder_from_directory(_prepare(config, info, split))
    metadata = builder.info.metadata
    _check_for_binary_masks(metadata["values"].get(split, []), info, split, config.train_split)
    ids, sizes, digests = (metadata[name][split] for name in ("ids", "sizes", "digests"))
    records = builder.as_data_source(split)
    return Source(ids, sizes, split_hash(ids, digests), records, range(len(ids)))


def _open_cityscapes(config: Any, info: Dataset, split: str) -> Source:
    from pals_jax.data.builders import cityscapes

    records, ids, digests = cityscapes.open_records(
        info.name, config.root, config.data_dir, split, info.ignore
    )
    order = sorted(range(len(ids)), key=ids.__getitem__)
    sizes = [cityscapes.SIZE] * len(ids)
    return Source([ids[i] for i in order], sizes, split_hash(ids, digests), records, order)


def _prepare(config: Any, info: Dataset, split: str) -> Path:
    """Has the data set's builder generate the split if need be; returns the folder of records."""
    from pals_jax.data.builders.preparation import prepare

    if info.name == "synthetic_streets":
        from pals_jax.data.builders.synthetic_streets import StreetsConfig, SyntheticStreets

        return prepare(SyntheticStreets, StreetsConfig(), config.data_dir)
    if info.name == "voc2012":
        from pals_jax.data.builders.voc import Voc, VocConfig

        voc = VocConfig(root=config.root, info=info, splits=(split,))
        return prepare(Voc, voc, config.data_dir)
    from pals_jax.data.builders.segmentation_folder import FolderConfig, SegmentationFolder

    folder = FolderConfig(
        root=config.root, info=info, splits=(split,), palette_masks=config.palette_masks
    )
    return prepare(SegmentationFolder, folder, config.data_dir)


def _check_for_binary_masks(
    values: Sequence[int], info: Dataset, split: str, train_split: str
) -> None:
    """Refuses to train where every mask holds 0 and 255 only and 255 is ignored; elsewhere warns.

    These are two-class masks as image editors write them: every pixel of the second class would be
    ignored, and one class that is everywhere teaches nothing. A single such mask may be real
    (background, and a border without label), and so may be a small split to evaluate on; a whole
    training split cannot be of use.
    """
    if info.ignore != 255 or 255 not in values or not set(values) <= {0, 255}:
        return
    found = f"every mask of split {split!r} holds only 0 and 255, and config.data.ignore is 255: "
    if split == train_split:
        raise DataError(
            f"{found}nothing but class 0 would be learnt. Convert 255 to 1 in the masks; or, if "
            "255 does mean unlabelled, the split shows one class only and cannot be trained on."
        )
    warnings.warn(
        f"{found}nothing but class 0 has labels. If 255 means class 1, convert it to 1.",
        stacklevel=3,
    )
