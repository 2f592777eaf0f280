"""TFDS builder of the procedural street scenes."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from pals_jax.data import streets
from pals_jax.data.builders.preparation import Examples, digest, encode_png, features


def _default_scenes() -> dict[str, int]:
    return {"train": 200, "val": 60}


@dataclasses.dataclass(eq=False, kw_only=True)
class StreetsConfig(tfds.core.BuilderConfig):
    """How many scenes of which size.

    The name ends in a hash of the renderer's source, so that a changed renderer is prepared anew.

    Attributes:
      height: rows of each image.
      width: columns of each image.
      scenes: how many scenes each split has. Seeds count up across splits: none shares a scene.
    """

    name: str = ""
    height: int = 128
    width: int = 256
    scenes: dict[str, int] = dataclasses.field(default_factory=_default_scenes)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(str(self.scenes).encode())
        for source in sorted(Path(streets.__file__).parent.glob("*.py")):
            digest.update(source.read_bytes())
        self.name = f"{self.height}x{self.width}-{digest.hexdigest()[:16]}"


class SyntheticStreets(tfds.core.GeneratorBasedBuilder):
    """Street scenes with exact labels; `StreetsConfig` says how many."""

    VERSION = tfds.core.Version("1.1.0")
    url_infos = None  # nothing is downloaded; TFDS would look for a file of checksums

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Procedural street scenes with exact pixel labels.",
            features=features(len(streets.CLASSES), streets.IGNORE),
            metadata=tfds.core.MetadataDict(ids={}, sizes={}, digests={}, values={}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        generators, first = {}, 0
        for split, count in self.builder_config.scenes.items():
            generators[split] = self._generate_examples(split, range(first, first + count))
            first += count
        return generators

    def _generate_examples(self, split: str, seeds: range) -> Examples:
        ids = [f"{split}_{seed:05d}" for seed in seeds]
        config = self.builder_config
        self.info.metadata["ids"][split] = ids
        self.info.metadata["sizes"][split] = [(config.height, config.width)] * len(ids)
        digests = self.info.metadata["digests"][split] = []
        for index, seed in enumerate(seeds):
            image, label = streets.render(seed, config.height, config.width)
            record = {"image": encode_png(image), "label": encode_png(label)}
            digests.append(digest(record))
            yield index, record | {"id": ids[index]}
