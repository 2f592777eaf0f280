"""TFDS builder of any folder with images and single-channel masks of class indices."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pals_jax.data.archives import File
from pals_jax.data.builders.preparation import Examples, digest, encode_png, features
from pals_jax.data.catalog import Dataset
from pals_jax.data.errors import DataError
from pals_jax.data.folder import Pair, scan
from pals_jax.data.images import Mask, read_image, read_mask

_PROBLEMS_SHOWN = 20
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"


@dataclasses.dataclass(eq=False, kw_only=True)
class FolderConfig(tfds.core.BuilderConfig):
    """The files of some splits, found by `folder.scan`.

    The name ends in a hash of every file's path, size and modification time and of all that decides
    what becomes of them, so that a changed folder is prepared anew and never read stale.

    Attributes:
      root: the data set's folder.
      info: classes, ignore index and layout.
      splits: which splits to prepare.
      palette_masks: read the indices of palette masks.
      pairs: the files found, by split.
    """

    name: str = ""
    root: str
    info: Dataset
    splits: Sequence[str]
    palette_masks: bool = False
    pairs: dict[str, list[Pair[Path]]] = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        for split in self.splits:
            if not re.fullmatch(r"\w+", split) or split == "all":
                raise DataError(
                    f"split {split!r}: TFDS takes letters, digits and underscores, and not 'all'."
                )
        root, info = Path(self.root).expanduser(), self.info
        self.pairs = {
            split: scan(self.root, info.images, info.masks, split) for split in self.splits
        }
        stamps = [
            (path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for pairs in self.pairs.values()
            for pair in pairs
            for path in (pair.image, pair.mask)
        ]
        meaning = [info.classes, info.ignore, info.images, info.masks, self.palette_masks]
        digest = hashlib.sha256(json.dumps([*meaning, *self.splits, stamps]).encode()).hexdigest()
        label = re.sub(r"\W+", "_", "-".join([root.resolve().name, *self.splits]), flags=re.ASCII)
        self.name = f"{label}-{digest[:16]}"


class SegmentationFolder(tfds.core.GeneratorBasedBuilder):
    """Images and index masks of a folder; `FolderConfig` says which."""

    VERSION = tfds.core.Version("1.3.0")  # to be raised with every change of what files mean
    url_infos = None  # nothing is downloaded; TFDS would look for a file of checksums

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.builder_config.info
        return tfds.core.DatasetInfo(
            builder=self,
            description="Images and single-channel masks of class indices from a folder.",
            features=features(info.num_classes, info.ignore),
            metadata=tfds.core.MetadataDict(ids={}, sizes={}, digests={}, values={}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        pairs = self.builder_config.pairs
        return {split: self._generate_examples(split, pairs[split]) for split in pairs}

    def _generate_examples(self, split: str, pairs: Sequence[Pair[File]]) -> Examples:
        """Yields the records of one split; reads all of it before it complains, of everything."""
        sizes, digests, values, problems = [], [], set(), []
        for index, pair in enumerate(pairs):
            try:
                image = read_image(pair.image)
                mask = self._read_mask(pair.mask)
                if image.shape[:2] != mask.shape:
                    raise DataError(
                        f"sizes differ (height, width): {pair.image} has {image.shape[:2]} when "
                        f"upright, its mask {pair.mask} has {mask.shape}."
                    )
            except DataError as problem:
                problems.append(str(problem))
                continue
            sizes.append(mask.shape)
            values.update(np.unique(mask).tolist())
            record = {"image": self._encode(pair.image, image), "label": encode_png(mask)}
            digests.append(digest(record))
            yield index, record | {"id": pair.id}
        if problems:
            shown = "\n  ".join(problems[:_PROBLEMS_SHOWN])
            more = len(problems) - _PROBLEMS_SHOWN
            tail = f"\n  … and {more} more." if more > 0 else ""
            raise DataError(
                f"split {split!r} of {self.builder_config.root}: {len(problems)} of {len(pairs)} "
                f"pairs cannot be used:\n  {shown}{tail}"
            )
        self.info.metadata["ids"][split] = [pair.id for pair in pairs]
        self.info.metadata["sizes"][split] = sizes
        self.info.metadata["digests"][split] = digests
        self.info.metadata["values"][split] = sorted(values)

    def _read_mask(self, file: File) -> Mask:
        config = self.builder_config
        info = config.info
        return read_mask(file, info.num_classes, info.ignore, palette_masks=config.palette_masks)

    def _encode(self, file: File, image: np.ndarray) -> bytes:
        """The file's own bytes where the reader sees `image` in them, a lossless PNG elsewhere.

        So a JPEG keeps its size, and whatever needed work (orientation, 16 bits, alpha, CMYK …) is
        stored as the result of that work.
        """
        encoded = file.read_bytes()
        if encoded.startswith((_JPEG, _PNG)):
            try:
                seen = self.info.features["image"].decode_example_np(encoded)
            except Exception:  # OpenCV, the reader, knows fewer files than Pillow
                return encode_png(image)
            if np.array_equal(seen, image):
                return encoded
        return encode_png(image)
