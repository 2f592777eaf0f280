"""Predictions in the form in which the servers and the official scorers take them."""

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image

from pals_jax.data import CATALOG, DataError, default_palette
from pals_jax.data.catalog import CITYSCAPES_LABEL_IDS
from pals_jax.data.folder import EXTENSIONS
from pals_jax.errors import ConfigError
from pals_jax.files import replacing


class Format(NamedTuple):
    """How one benchmark takes predictions.

    Attributes:
      classes: that a network must have.
      name: pattern of the names of images.
      path: of the file of an image, by its name.
      encode: makes a picture of class indices [H,W].
      archive: what is uploaded, holding all files.
    """

    classes: tuple[str, ...]
    name: str
    path: Callable[[str], str]
    encode: Callable[[Int[np.ndarray, "h w"]], Image.Image]
    archive: str


def _label_ids(classes: Int[np.ndarray, "h w"]) -> Image.Image:
    """Raw label ids of Cityscapes in a single channel."""
    return Image.fromarray(np.array(CITYSCAPES_LABEL_IDS, np.uint8)[classes])


def _palette(classes: Int[np.ndarray, "h w"]) -> Image.Image:
    """Class indices with the colour map of VOC."""
    picture = Image.fromarray(classes.astype(np.uint8))
    picture.putpalette([channel for colour in default_palette(256) for channel in colour])
    return picture


# Cityscapes: <city>_<sequence>_<frame>*.png of label ids at full size. VOC: comp6 is the contest of
# segmentation with any training data.
FORMATS = {
    "cityscapes": Format(
        CATALOG["cityscapes"].classes,
        r"[a-z-]+_[0-9]{6}_[0-9]{6}",
        lambda name: f"{name}_pred_labelIds.png",
        _label_ids,
        "cityscapes.zip",
    ),
    "voc2012": Format(
        CATALOG["voc2012"].classes,
        r"[0-9]{4}_[0-9]{6}",
        lambda name: f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png",
        _palette,
        "voc2012.tar.gz",
    ),
}


class Submission:
    """Writes the predictions of one benchmark below a folder.

    Attributes:
      folder: of its pictures.
      archive: what is uploaded.
    """

    def __init__(self, name: str, folder: Path, classes: tuple[str, ...]):
        """Checks that a network can take part.

        Args:
          name: a key of FORMATS.
          folder: where to write.
          classes: of the network.

        Raises:
          ConfigError: the network has other classes.
        """
        self._format = FORMATS[name]
        if tuple(classes) != self._format.classes:
            raise ConfigError(
                f"config.predict.submission is {name!r}, whose classes are {self._format.classes}; "
                f"the network has {tuple(classes)}"
            )
        self.folder = folder / name
        self.archive = folder / self._format.archive
        self._added: set[Path] = set()

    def check(self, names: Iterable[str]) -> None:
        """Looks whether images of these names can be added, before hours of predictions.

        Raises:
          DataError: a name is none of the benchmark, or two images have the same.
        """
        claimed: set[Path] = set()
        for name in names:
            self._claim(name, claimed)

    def add(self, name: str, classes: Int[np.ndarray, "h w"]) -> None:
        """Writes the prediction of an image.

        Args:
          name: id of the image.
          classes: its class indices at its own size.

        Raises:
          DataError: the name is none of the benchmark, or an image before had the same.
        """
        path = self._claim(name, self._added)
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / path) as written:
            self._format.encode(classes).save(written)

    def _claim(self, name: str, claimed: set[Path]) -> Path:
        """The path of an image, which joins those that are claimed."""
        base = re.sub(rf"\.(?i:{EXTENSIONS})$", "", Path(name).name).removesuffix("_leftImg8bit")
        if not re.fullmatch(self._format.name, base):
            raise DataError(
                f"{name}: images of {self.folder.name} are named as {self._format.name}; predict a "
                "split or a folder of the benchmark"
            )
        path = Path(self._format.path(base))
        if path in claimed:
            raise DataError(
                f"{name}: another image has the same file name, {path.name} in "
                f"{self.archive.name}; predict one folder or split of the benchmark"
            )
        claimed.add(path)
        return path

    def close(self) -> set[Path]:
        """Packs what was added, and nothing that an earlier prediction left.

        Returns:
          The archive, and the files in it.
        """
        with replacing(self.archive) as written:
            if self.archive.suffix == ".zip":
                with zipfile.ZipFile(written, "w") as packed:
                    for path in sorted(self._added):
                        packed.write(self.folder / path, path)
            else:
                with tarfile.open(written, "w:gz") as tar:
                    for path in sorted(self._added):
                        tar.add(self.folder / path, path.as_posix())
        return {self.archive, *(self.folder / path for path in self._added)}
