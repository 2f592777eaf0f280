"""What tells an image from all others, and so whether two splits or data sets share some."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pals_jax.data.catalog import CATALOG, dataset_info
from pals_jax.data.folder import find_images


def places(config: Any, split: str, ids: Iterable[str]) -> dict[tuple, str]:
    """What tells the images of a split from others: of a folder, their files on the disk, by
    whatever names and links; of a benchmark, their ids there. A copy of a file is another.

    Args:
      config: the section `data` of a configuration.
      split: in which the images are.
      ids: of the images.

    Returns:
      The id by what tells the image; nothing of files that are gone, or of data that are not in the
      catalogue.
    """
    if config.name not in CATALOG:
        return {}
    info = dataset_info(config)
    if not info.images:
        benchmark = info.name.removesuffix("_coarse")  # whose images are those of the fine labels
        return {(benchmark, key): key for key in ids}
    files = find_images(Path(config.root).expanduser(), info.images, info.masks, split)
    found = {}
    for key in ids:
        for path in files.get(key, ()):
            with contextlib.suppress(OSError):
                found[path.stat().st_dev, path.stat().st_ino] = key
    return found
