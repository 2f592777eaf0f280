"""The folder of a prediction: what lay there before, and what is written, whole or not at all."""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from pals_jax.data import DataError
from pals_jax.errors import ConfigError
from pals_jax.files import replacing, write_atomically
from pals_jax.submissions import FORMATS

KINDS = ("index", "colour", "overlay")
LEGEND = "legend.png"

_TOLD = "predicted.txt"
_LONGEST_NAME = 255
_SUBMISSIONS = (*FORMATS, *(form.archive for form in FORMATS.values()))
_UNFINISHED = "unfinished: the other files here may be those of another checkpoint\n"


class PredictionFolder:
    """Where pictures, a legend, predicted.txt and submissions go.

    predicted.txt tells what was predicted and of which checkpoint, and that it is unfinished as
    long as it is.

    Attributes:
      path: of the folder.
      earlier: files that an earlier prediction left and this one has not replaced.
      replaced: how many of them it has.
    """

    def __init__(self, path: Path, predicted: str, step: int):
        """Makes the folder.

        Args:
          path: of the folder.
          predicted: a line that tells of what the predictions are.
          step: that of the checkpoint.

        Raises:
          ConfigError: it cannot be a folder, or holds files of these names that are not of an
            earlier prediction.
        """
        self.path = path
        self.replaced = 0
        self._text = f"{predicted}\ncheckpoint {step}\n"
        names = (_TOLD, LEGEND, *KINDS, *_SUBMISSIONS)
        foreign = [name for name in names if os.path.lexists(path / name)]
        if foreign and not re.match(r".*\ncheckpoint \d+\n", _told(path)):
            raise ConfigError(
                f"config.predict.output={path} holds {', '.join(foreign)}, which are not of an "
                "earlier prediction and would be replaced: choose another folder"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / _TOLD, self._text + _UNFINISHED)
        except OSError as error:
            raise ConfigError(
                f"config.predict.output={path} cannot be a folder: {error}"
            ) from error
        self.earlier = {
            file
            for name in (*KINDS, *_SUBMISSIONS)
            for file in (path / name, *(path / name).rglob("*"))
            if file.is_file()
        }

    def save(self, picture: Image.Image, name: str) -> None:
        """Writes a picture below the folder.

        Raises:
          ConfigError: an earlier prediction left a file for a folder, or a folder for a file.
        """
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as written:
                # An eighth of the time that overlays take by default, and a sixth more room.
                picture.save(written, compress_level=1)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise ConfigError(
                f"{path} cannot be written beside what lies in config.predict.output={self.path} "
                f"({error}): remove that, or choose another folder"
            ) from error
        if path in self.earlier:
            self.earlier.remove(path)
            self.replaced += 1

    def finish(self) -> None:
        """Has predicted.txt tell that all was predicted that could be."""
        write_atomically(self.path / _TOLD, self._text)


def holds_another(path: Path, predicted: str) -> bool:
    """Whether a folder has predictions of something else."""
    return (path / _TOLD).exists() and not _told(path).startswith(predicted + "\n")


def check_names(ids: Iterable[str]) -> None:
    """Looks whether the pictures of all images can be written.

    Raises:
      DataError: that of one image is the folder of another's, or has too long a name.
    """
    pictures = {f"{key}.png": key for key in ids}
    for picture in pictures:
        if len(os.fsencode(PurePosixPath(picture).name)) > _LONGEST_NAME:
            raise DataError(
                f"the picture of an image would be called {picture!r}, which is more than the "
                f"{_LONGEST_NAME} bytes that file systems take: rename the image"
            )
    for key in pictures.values():
        for parent in map(str, PurePosixPath(key).parents):
            if parent in pictures:
                raise DataError(
                    f"the picture of {pictures[parent]!r} would be {parent!r}, which is the folder "
                    f"of that of {key!r}: rename one of them"
                )


def _told(path: Path) -> str:
    told = path / _TOLD
    return told.read_text(errors="replace") if told.is_file() else ""
