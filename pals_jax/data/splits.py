"""Which images a run trains on, chooses on and reports on."""

import contextlib
from collections.abc import Iterator
from typing import Any

from pals_jax.data.catalog import dataset_info
from pals_jax.data.errors import DataError
from pals_jax.data.file_paths import BenchmarkPaths, FilePaths, FolderPaths
from pals_jax.data.id_lists import names_ids, require_list
from pals_jax.data.source import Source, open_split
from pals_jax.data.subsets import is_drawn, select, split_dev

DEV = "dev"


def open_training(config: Any) -> Source:
    """The labelled images to train on: the training split without its dev part, of it the subset.

    Args:
      config: `config.data`.

    Raises:
      DataError: see `open_split`, `select` and `split_dev`.
    """
    for field in ("subset", "dev"):  # before archives are asked for and read
        with _naming(f"config.data.{field}"):
            require_list(config[field], config.name)
    source = open_split(config, config.train_split)
    paths = _paths(config)
    train, dev = _split_dev(source, config, paths)
    with _naming("config.data.subset"):
        chosen = select(train, config.subset, config.subset_seed, held_out=dev, paths=paths)
    return source.select(chosen)


def open_evaluation(config: Any, split: str) -> Source:
    """All images of a split; the split "dev" is the dev part of the training split.

    Args:
      config: `config.data`.
      split: its name.

    Raises:
      DataError: see `open_split`; or there is no dev part.
    """
    if split != DEV:
        return open_split(config, split)
    if not config.dev:
        raise DataError(
            "config.eval.split is 'dev', the part held out of the training split, but "
            "config.data.dev is empty: say what to hold out, as 0.2; a folder of that name needs "
            "another"
        )
    source = open_split(config, config.train_split)
    _, dev = _split_dev(source, config, _paths(config))
    return source.select(dev)


def require_held_out(config: Any, split: str) -> None:
    """Refuses another split of a layout that has one folder for all of them.

    Args:
      config: `config.data` of the training.
      split: to evaluate on.

    Raises:
      DataError: it would be the images that are trained on.
    """
    images = dataset_info(config).images
    if images and "{split}" not in images and split not in (config.train_split, DEV):
        raise DataError(
            f"config.eval.split = {split!r} would be the images that are trained on, since "
            f"config.data.images = {images!r} has no {{split}}: hold a part out with "
            "--config.data.dev=0.2 --config.eval.split=dev"
        )


def _split_dev(source: Source, config: Any, paths: FilePaths) -> tuple[list[str], list[str]]:
    listed: list[str] = []
    if names_ids(config.subset) and is_drawn(config.dev):
        with _naming("config.data.subset"):
            listed = select(source.ids, config.subset, config.subset_seed, paths=paths)
    with _naming("config.data.dev"):
        return split_dev(source.ids, config.dev, config.subset_seed, listed, paths)


def _paths(config: Any) -> FilePaths:
    """What tells the images of the training split by their files."""
    info = dataset_info(config)
    if not info.images:
        return BenchmarkPaths()
    return FolderPaths(config.root, info.images, info.masks, config.train_split)


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    """Puts the name of a field before an error about its value."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{field}: {error}") from None
