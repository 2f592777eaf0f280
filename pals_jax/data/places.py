"""Where images lie, which tells whether two splits or data sets share some."""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from pals_jax.data.catalog import CATALOG
from pals_jax.data.folder import EXTENSIONS


def places(config: ConfigDict, split: str, ids: Sequence[str]) -> dict[str, str]:
    """The ids of a split by where their images lie, without extension, by whatever way folders and
    files are named. Those of a benchmark, which has ids of its own, need no folder; of a data set
    that is not in the catalogue nothing is known.

    Args:
      config: the section `data` of a configuration.
      split: in which the images are.
      ids: of the images.
    """
    if config.name not in CATALOG:
        return {}
    if not (pattern := CATALOG[config.name].images):
        benchmark = config.name.removesuffix("_coarse")  # whose images are those of the fine labels
        return {f"{benchmark}/{key}": key for key in ids}
    pattern = config.images or pattern
    # Where the pattern ends with the id, that holds the extension.
    has_extension = re.search(rf"(\{{id\}}|\.\*|\.(?i:{EXTENSIONS}))$", pattern)
    root, real = Path(config.root).expanduser(), functools.cache(os.path.realpath)

    def named(path: str) -> str:
        return re.sub(rf"\.(\*|(?i:{EXTENSIONS}))$", "", path) if has_extension else path

    @functools.cache
    def links(folder: str) -> dict[str, str]:
        """Where the files of a folder lie that are links."""
        entries = os.scandir(folder) if Path(folder).is_dir() else ()
        return {
            named(entry.path): named(os.path.realpath(entry.path))
            for entry in entries
            if entry.is_symlink() and not entry.is_dir()
        }

    found = {}
    for key in ids:
        path = root / pattern.replace("{split}", split).replace("{id}", key)
        folder = real(path.parent)
        place = named(f"{folder}/{path.name}")
        found[links(folder).get(place, place)] = key
    return found
