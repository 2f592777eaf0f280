"""Which images a run trains on, chooses on and reports on."""

from typing import Any

from pals_jax.data.errors import DataError
from pals_jax.data.source import Source, open_split
from pals_jax.data.subsets import select, split_dev

DEV = "dev"


def open_training(config: Any) -> Source:
    """The labelled images to train on: the training split without its dev part, of it the subset.

    Args:
      config: `config.data`.

    Raises:
      DataError: see `open_split`, `select` and `split_dev`.
    """
    source = open_split(config, config.train_split)
    train, _ = split_dev(source.ids, config.dev, config.subset_seed)
    return source.select(select(train, config.subset, config.subset_seed))


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
            "config.eval.split is 'dev', but config.data.dev is empty: say what to hold out, as 0.2"
        )
    source = open_split(config, config.train_split)
    _, dev = split_dev(source.ids, config.dev, config.subset_seed)
    return source.select(dev)
