"""How a folder names its image files, and which of its splits a path is of."""

import dataclasses
import re
from pathlib import Path

from pals_jax.data.folder import EXTENSIONS

_IMAGE = re.compile(rf"\.(?i:{EXTENSIONS})$")


def without_extension(path: str) -> str:
    """A path without the extension of an image, if it has one."""
    return _IMAGE.sub("", path)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout pattern of images, see `folder.scan`, for one split.

    Attributes:
      images: the pattern.
      split: what `{split}` stands for.
      root: of the data set.
    """

    images: str = "{id}"
    split: str = ""
    root: str = ""

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
        return bool(fits) or ("/" in after and stem != path)

    def is_of_another_split(self, path: str, key: str) -> bool:
        """Whether a path that ends with an image of this split lies in the folder of another."""
        stem = without_extension(path)
        file = self.name_of(key)
        folder = stem.removesuffix(file if stem.endswith(file) else key)
        above = self._stem.partition("{id}")[0].rpartition("/")[0]
        any_split = re.escape("{split}")
        expression = re.escape(above).replace(any_split, "(?P<split>[^/]+)", 1)
        expression = expression.replace(any_split, "(?P=split)")
        found = re.fullmatch(rf"(.*/)?{expression}/", folder)
        if "{split}" not in above or not found or found["split"] == self.split:
            return False
        return Path(self.root, above.replace("{split}", found["split"])).expanduser().is_dir()

    @property
    def _stem(self) -> str:
        return without_extension(self.images.removesuffix(".*"))

    @property
    def _around(self) -> tuple[str, str]:
        """What the path of a file below the folder of all has before and after the id."""
        before, _, after = self._stem.replace("{split}", self.split).partition("{id}")
        return before.rpartition("/")[2], after
