"""How a folder names its image files, and which of its splits a path is of."""

import contextlib
import dataclasses
import functools
import itertools
import re
from collections import defaultdict
from pathlib import Path

from pals_jax.data.folder import EXTENSIONS, find_images, folder_of, place

_IMAGE = re.compile(rf"\.(?i:{EXTENSIONS})$")


def without_extension(path: str) -> str:
    """A path without the extension of an image, if it has one."""
    return _IMAGE.sub("", path)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layout patterns of images and masks, see `folder.scan`, for one split.

    Attributes:
      images: pattern of the images.
      masks: pattern of the masks.
      split: what `{split}` stands for.
      root: of the data set.
    """

    images: str = "{id}"
    masks: str = ""
    split: str = ""
    root: str = ""

    def ids_at(self, path: str) -> set[str] | None:
        """The ids of a file that is there, by whatever names and links; none of another file.

        Where several ids are of one file, the one whose name in whose folder the path gives.

        Args:
          path: absolute, or from the folder of all images, one that this lies in, as the root, or
            the current folder; with or without the extension, or a folder where an id is one.

        Returns:
          None if there is no such file, or the path is a bare name, or there is no root.
        """
        if "/" not in path or not self.root:
            return None
        real = self._folder.resolve()
        folders = (self._folder, *self._folder.parents, real, *real.parents, Path.cwd())
        endings = ("",) if without_extension(path) != path else self._endings
        for folder, ending in itertools.product(dict.fromkeys(folders), endings):
            # As a name that is too long, or the home folder of nobody.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                file = folder / Path(path + ending).expanduser()
                found = self._ids_by_place.get(place(file), set())
                entry = self._ids_by_place.get((*place(file.parent), file.name), set())
                return entry or found
        return None

    @functools.cached_property
    def of_masks(self) -> "Layout":
        """That of the masks."""
        return Layout(self.masks, "", self.split, self.root)

    def file_of(self, key: str) -> str:
        """The file of an image below the root, without extension: "train/img_7" or "train/7/0"."""
        return self._stem.replace("{split}", self.split).replace("{id}", key)

    def name_of(self, key: str) -> str:
        """The file of an image below the folder of all, without extension: "img_7" or "7/0"."""
        before, after = self._around
        return before + key + after

    def is_file(self, path: str) -> bool:
        """Whether a path has what the files have before and after the id. Any with the extension
        of an image has to, where an id is a folder.
        """
        before, after = self._around
        stem = without_extension(path)
        fits = re.search(rf"(^|/){re.escape(before)}.+{re.escape(after)}$", stem)
        return bool(fits) or (self._is_folder and stem != path)

    def is_of_another_split(self, path: str) -> bool:
        """Whether, of the folders of a path that have the names of splits, the last is another's;
        splits have the folders beside that of this one.
        """
        own, others = self._folders
        for folder in reversed(path.split("/")[:-1]):
            for name in (folder, re.split(r"[\s*:]", folder)[-1]):  # behind a number, perhaps
                if name == own or name in others:
                    return name != own
        return False

    @functools.cached_property
    def _folders(self) -> tuple[str, set[str]]:
        """The names of the folder of this split, and of those beside it."""
        above = self._stem.partition("{id}")[0].split("/")[:-1]
        depth = next((i for i, name in enumerate(above) if "{split}" in name), None)
        if depth is None:
            return "", set()
        own = Path(self.root, "/".join(above[: depth + 1]).replace("{split}", self.split))
        parent = own.expanduser().parent
        beside = parent.iterdir() if parent.is_dir() else ()
        return own.name, {path.name for path in beside if path.is_dir()} - {own.name}

    @functools.cached_property
    def _folder(self) -> Path:
        """Below which all images lie."""
        return folder_of(Path(self.root).expanduser().absolute(), self.images, self.split)

    @functools.cached_property
    def _ids_by_place(self) -> dict[tuple, set[str]]:
        """The ids by their files, and by their folders with the names in these."""
        found: dict[tuple, set[str]] = defaultdict(set)
        root = Path(self.root).expanduser()
        for key, paths in find_images(root, self.images, self.masks, self.split).items():
            for path in paths:
                with contextlib.suppress(OSError):  # a link to a file that is gone
                    found[place(path)].add(key)
                    found[(*place(path.parent), path.name)].add(key)
                    if self._is_folder:
                        found[place(self._folder / (self._around[0] + key))].add(key)
        return found

    @functools.cached_property
    def _endings(self) -> list[str]:
        """What paths without extension lack: those of the images, or nothing of a folder."""
        files = (key[2] for key in self._ids_by_place if len(key) == 3)
        return [""] * self._is_folder + sorted({Path(file).suffix for file in files})

    @property
    def _is_folder(self) -> bool:
        """Whether an id is a folder."""
        return "/" in self._around[1]

    @property
    def _stem(self) -> str:
        return without_extension(self.images.removesuffix(".*"))

    @property
    def _around(self) -> tuple[str, str]:
        """What the path of a file below the folder of all has before and after the id."""
        before, _, after = self._stem.replace("{split}", self.split).partition("{id}")
        return before.rpartition("/")[2], after
