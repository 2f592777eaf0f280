"""Which image of a data set a file is of, by its path, as lists of images have them."""

import dataclasses
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pals_jax.data.folder import EXTENSIONS, find_images, find_masks, folder_of

_EXTENSION = re.compile(rf"\.(?i:{EXTENSIONS})$")

# What Cityscapes puts behind the id of a frame: "jena_000078_000019_gtFine_labelIds.png".
_KIND = re.compile(r"_(leftImg8bit|gt(Fine|Coarse)_[a-zA-Z]+)$")

# A path with more characters is none.
_LONGEST = 4096


class FilePaths(Protocol):
    """Tells the ids of images by the paths of files: those of no other file, none where it does not
    know.

    Attributes:
      wanted: which paths it knows, in the words of an error.
    """

    wanted: str

    def ids_of_image(self, path: str) -> set[str]:
        """The ids of what may be an image."""

    def ids_of_mask(self, path: str) -> set[str]:
        """The ids of the images of what may be a mask."""


class BenchmarkPaths:
    """Of Cityscapes, VOC and the synthetic streets, whose files are called as the ids, and an id is
    one image whatever the split: in whatever folder a file lies.
    """

    wanted = "given by a path of letters, digits, / . _ ~ and - alone"

    def ids_of_image(self, path: str) -> set[str]:
        """What the file is called, without what tells its kind."""
        if not re.fullmatch(r"(?!-)[\w./~-]+", path):  # perhaps two files, or not to be read
            return set()
        return {_KIND.sub("", _EXTENSION.sub("", path.rpartition("/")[2]))}

    ids_of_mask = ids_of_image


@dataclasses.dataclass(frozen=True)
class FolderPaths:
    """Of one split of a folder, see `folder.scan`: the files that are there. Names alone tell
    nothing, since all splits may have the same; and what a list selects does not depend on the
    current folder.

    Attributes:
      root: of the data set.
      images: pattern of the images.
      masks: pattern of the masks.
      split: what `{split}` stands for.
    """

    root: str
    images: str
    masks: str
    split: str
    wanted = (
        "that is there, given by a path from config.data.root, from the folder of the split, or "
        "absolute"
    )

    def ids_of_image(self, path: str) -> set[str]:
        """The id of an image that is there, or the two at a path from two folders."""
        return self._ids_at(path, self.images, self._image_ids)

    def ids_of_mask(self, path: str) -> set[str]:
        """As of an image, of its mask."""
        return self._ids_at(path, self.masks, self._mask_ids)

    def _ids_at(self, path: str, pattern: str, ids: Mapping[Path, str]) -> set[str]:
        """The ids of the files at a path; none if one of them is no file of the split."""
        if len(path) > _LONGEST:  # perhaps a whole list
            return set()
        files = (self._root / path, folder_of(self._root, pattern, self.split) / path)
        there = {_entry(file) for file in files if os.path.lexists(file)}
        return {ids[entry] for entry in there} if there <= ids.keys() else set()

    @property
    def _root(self) -> Path:
        return Path(self.root).expanduser()

    @functools.cached_property
    def _image_ids(self) -> dict[Path, str]:
        return _by_entry(find_images(self._root, self.images, self.masks, self.split))

    @functools.cached_property
    def _mask_ids(self) -> dict[Path, str]:
        return _by_entry(find_masks(self._root, self.masks, self.split))


def _by_entry(files: Mapping[str, list[Path]]) -> dict[Path, str]:
    return {_entry(path): key for key, paths in files.items() for path in paths}


def _entry(path: Path) -> Path:
    """The one path of a file or link: its name in its folder, without links on the way there."""
    return path.parent.resolve() / path.name
