"""What tells an image from all others, and so whether two splits or data sets share some."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pals_jax.data.catalog import CATALOG, dataset_info
from pals_jax.data.errors import DataError
from pals_jax.data.folder import find


def places(config: Any, split: str, ids: Iterable[str]) -> dict[str, tuple]:
    """What tells each image of a split from others: of a folder, its file on the disk, by whatever
    names and links; of a benchmark, its id there. A copy of a file is another.

    Args:
      config: the section `data` of a configuration.
      split: in which the images are.
      ids: of the images.

    Returns:
      The place of each id; without those whose files are gone, or of data that are not in the
      catalogue.
    """
    if config.name not in CATALOG:
        return {}
    info = dataset_info(config)
    if not info.images:
        benchmark = info.name.removesuffix("_coarse")  # whose images are those of the fine labels
        return {key: (benchmark, key) for key in ids}
    try:
        files, _ = find(Path(config.root).expanduser(), info.images, info.masks, split)
    except (DataError, OSError):
        return {}
    status = {key: files[key].stat() for key in ids if key in files}
    return {key: (found.st_dev, found.st_ino) for key, found in status.items()}
