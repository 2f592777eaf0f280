"""What a run reads: from the configuration's data set, or from anybody's iterators."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from pals_jax import data
from pals_jax.class_indices import require_classes
from pals_jax.errors import ConfigError
from pals_jax.step import Batch


class RunData(NamedTuple):
    """What a run reads.

    Attributes:
      dataset: classes, palette, ignore index.
      batches: endless {"labeled": {"image", "label", "id"}} batches of NumPy arrays: images
        [B,H,W,3] in uint8 or in [0, 1], labels [B,H,W] of class indices or the ignore index, ids
        [B] if there are any. With `get_state`, which gives JSON values, and `set_state` its
        position is kept in the checkpoints; without, a resumed run skips the batches that were used
        before.
      evaluation: examples to report on.
      dev: examples to choose on; empty without a dev part. Their `ids`, if they have any, are
        compared when the run is resumed, as those that are trained on.
      ids: of the images that are trained on; empty where they are not known.
      data_hash: of the training split, see `data.Source`; None where it is not known.
    """

    dataset: data.Dataset
    batches: Iterator[Batch]
    evaluation: data.Examples
    dev: data.Examples = ()
    ids: Sequence[str] = ()
    data_hash: str | None = None

    def close(self) -> None:
        """Ends what reads ahead for the batches, if anything does."""
        if hasattr(self.batches, "close"):
            self.batches.close()


def open_data(config: ConfigDict) -> RunData:
    """Opens what the configuration names, preparing it first if need be; checks all files.

    Raises:
      DataError: the data is not what the configuration says.
      ConfigError: more workers than the machine bears.
    """
    most = 4 * (os.cpu_count() or 1)  # each worker is a process with libraries of its own
    if config.data.workers > most:
        raise ConfigError(
            f"config.data.workers must be at most {most} on this machine, four for each processor, "
            f"found {config.data.workers}"
        )
    dataset = data.dataset_info(config.data)
    data.require_held_out(config.data, config.eval.split)
    train = data.open_training(config.data)  # first, since it may need more archives
    evaluation = data.open_evaluation(config.data, config.eval.split)
    dev = data.open_evaluation(config.data, data.DEV) if config.data.dev else ()
    _check_apart(train, dev, evaluation, config)
    require_labels(f"config.data.train_split = {config.data.train_split!r}", train, dataset.ignore)
    _tell_padding(train.sizes, tuple(config.data.crop_size))
    augmentation = data.Augmentation(
        crop=tuple(config.data.crop_size),
        ignore=dataset.ignore,
        scale=tuple(config.data.scale),
        flip=config.data.flip,
        photometric=config.data.photometric,
        fill=tuple(round(255 * mean) for mean in config.model.mean),
    )
    batches = data.TrainBatches(
        train,
        batch_size=config.batch_size,
        augmentation=augmentation,
        seed=config.seed,
        workers=config.data.workers,
    )
    return RunData(dataset, batches, evaluation, dev, train.ids, train.data_hash)


def _check_apart(
    train: data.Source, dev: data.Examples, evaluation: data.Source, config: ConfigDict
) -> None:
    """Refuses images to report or to choose on that are trained on, as val of VOC with trainval, or
    a folder with another that is a link to it; and a choice on what is reported.

    Raises:
      DataError: images are in both.
    """
    split, train_split = config.eval.split, config.data.train_split
    trained = data.places(config.data, train_split, train.ids)
    held_out = data.places(config.data, train_split, getattr(dev, "ids", ()))
    what = f"config.data.dev = {config.data.dev!r}"
    _check_no_shared(what, held_out, trained, f"config.data.train_split = {train_split!r}")
    if split in (train_split, data.DEV):  # said by its name
        return
    reported = data.places(config.data, split, evaluation.ids)
    what = f"config.eval.split = {split!r}"
    _check_no_shared(what, reported, trained, f"config.data.train_split = {train_split!r}")
    if config.eval.checkpoint == "best":
        others = f"config.data.dev = {config.data.dev!r}, on which the best checkpoint is chosen"
        _check_no_shared(what, reported, held_out, others)


def _check_no_shared(
    what: str,
    places: Mapping[str, set[tuple]],
    others: Mapping[str, set[tuple]],
    of_others: str,
) -> None:
    if both := data.shared(places, others):
        raise data.DataError(
            f"{what}: {len(both)} of its {len(places)} images are in {of_others}, as "
            f"{both[0]!r}: choose others. Of a folder, they are the same files, perhaps through "
            "links"
        )


def _tell_padding(sizes: Sequence[tuple[int, int]], crop: tuple[int, int]) -> None:
    """Tells where crops reach beyond all images, which is allowed and seldom meant."""
    largest = (max(height for height, _ in sizes), max(width for _, width in sizes))
    if crop[0] > largest[0] or crop[1] > largest[1]:
        print(
            f"crops of {crop[0]}×{crop[1]} (config.data.crop_size) reach beyond the images, which "
            f"are at most {largest[0]} high and {largest[1]} wide: what these, as scaled by "
            "config.data.scale, do not fill has no label",
            flush=True,
        )


def check_evaluated(run_data: RunData, split: str) -> None:
    """Looks at what is evaluated, so that a long training does not end on it.

    Raises:
      DataError: there is nothing to evaluate, its first example does not fit, or none has a label.
    """
    if not len(run_data.evaluation):
        raise data.DataError(f"config.eval.split = {split!r} holds no example to evaluate")
    dataset = run_data.dataset
    for where, examples in (("evaluation", run_data.evaluation), ("dev", run_data.dev)):
        if len(examples):
            check_example(where, examples[0], dataset.num_classes, dataset.ignore)
            require_labels(where, examples, dataset.ignore)


def require_labels(where: str, examples: data.Examples, ignore: int) -> None:
    """Refuses a split without labels, as those that benchmarks keep to themselves.

    Raises:
      DataError: no image has a labelled pixel.
    """
    every = (np.asarray(examples[index]["label"]) for index in range(len(examples)))
    if not any((label != ignore).any() for label in every):  # mostly ends with the first
        raise data.DataError(
            f"{where}: none of the {len(examples)} images has a label, so that there is nothing to "
            "learn or to report on. Choose another split; --mode=predict needs no labels"
        )


def check_example(where: str, example: data.Example, num_classes: int, ignore: int) -> data.Example:
    """Checks one {"image": [H,W,3], "label": [H,W], "id"} and returns it.

    Raises:
      DataError: see `check_stream`; or the id is missing.
    """
    if "id" not in example:
        raise data.DataError(f"{where}: an example lacks its id; it has {sorted(example)}")
    stream = {key: np.asarray(example[key])[None] for key in example if key != "id"}
    check_stream(f"{where}, {example['id']}", stream, num_classes, ignore)
    return example


def check_iterator(batches: Any) -> None:
    """Checks that batches can be drawn, and that their position can be kept in a checkpoint.

    Raises:
      DataError: they are no iterator, or `get_state` gives other than JSON values.
    """
    if not hasattr(batches, "__next__"):
        raise data.DataError(
            f"run_data.batches must be an iterator, as iter(…), found {type(batches).__name__}"
        )
    if hasattr(batches, "get_state"):
        try:
            json.dumps(batches.get_state())
        except TypeError as error:
            raise data.DataError(f"batches.get_state() must give JSON values: {error}") from None


def check_streams(where: str, streams: Any) -> None:
    """Checks that a batch is {"labeled": {…}}, a mapping of streams.

    Raises:
      DataError: it is something else.
    """
    found: Any = type(streams).__name__
    if isinstance(streams, Mapping):
        found = {name: type(stream).__name__ for name, stream in streams.items()}
        if "labeled" in streams and all(isinstance(part, Mapping) for part in streams.values()):
            return
    raise data.DataError(
        f'{where}: expected {{"labeled": {{"image": …, "label": …}}}}, found {found}'
    )


def check_stream(where: str, stream: Mapping[str, Any], num_classes: int, ignore: int) -> None:
    """Checks one stream of a batch, as {"image": [B,H,W,3], "label": [B,H,W]}.

    NaN in an image passes: the training step notices it and tells the image.

    Args:
      where: what an error names.
      stream: of NumPy arrays.
      num_classes: K.
      ignore: index of pixels without a label.

    Raises:
      DataError: an entry is missing, or has a type, shape or value that does not fit.
    """
    for key in ("image", "label"):
        if key not in stream:
            raise data.DataError(f"{where}: {key} is missing; there is {sorted(stream)}")
    image, label = np.asarray(stream["image"]), np.asarray(stream["label"])
    floats = np.issubdtype(image.dtype, np.floating)
    if image.ndim != 4 or image.shape[-1] != 3 or not (floats or image.dtype == np.uint8):
        raise data.DataError(
            f"{where}: images are {image.dtype} {image.shape}, expected uint8, or floats in [0, 1],"
            " of shape [B,H,W,3]"
        )
    if floats and ((image < 0) | (image > 1)).any():  # false for NaN
        raise data.DataError(
            f"{where}: images lie in [{np.nanmin(image):.4g}, {np.nanmax(image):.4g}], expected "
            f"[0, 1] for {image.dtype}; they are normalised by config.model.mean and std later"
        )
    if label.shape != image.shape[:3] or not np.issubdtype(label.dtype, np.integer):
        raise data.DataError(
            f"{where}: labels are {label.dtype} {label.shape}, expected integers {image.shape[:3]}"
        )
    try:
        require_classes(where, label, num_classes, ignore)
    except ValueError as error:
        raise data.DataError(str(error)) from None
