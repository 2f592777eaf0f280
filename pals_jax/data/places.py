"""What tells an image from all others, and so whether two splits or data sets share some."""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pals_jax.data.catalog import CATALOG, dataset_info
from pals_jax.data.folder import find_images, place


def places(config: Any, split: str, ids: Collection[str]) -> dict[str, set[tuple]]:
    """What tells the images of a split from others: of a folder, their files on the disk, by
    whatever names and links; of a benchmark, their ids there. A copy of a file is another.

    Args:
      config: the section `data` of a configuration.
      split: in which the images are.
      ids: of the images.

    Returns:
      What tells each image, by its id: several where several files have the id; nothing of files
      that are gone, or of data that are not in the catalogue.
    """
    if config.name not in CATALOG or not ids:
        return {}
    info = dataset_info(config)
    if not info.images:
        benchmark = info.name.removesuffix("_coarse")  # whose images are those of the fine labels
        return {key: {(benchmark, key)} for key in ids}
    files = find_images(Path(config.root).expanduser(), info.images, info.masks, split)
    found: dict[str, set[tuple]] = {key: set() for key in ids}
    for key in ids:
        for path in files.get(key, ()):
            with contextlib.suppress(OSError):
                found[key].add(place(path))
    return found


def shared(places: Mapping[str, set[tuple]], others: Mapping[str, set[tuple]]) -> list[str]:
    """The ids, sorted, whose images are among others; both as of `places`."""
    known = set().union(*others.values())
    return sorted(key for key, found in places.items() if found & known)
