"""What the builders share: the features of a record, and preparing once, whole or not at all."""

import contextlib
import fcntl
import hashlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from PIL import Image

from pals_jax.data.errors import DataError
from pals_jax.data.images import index_dtype

Examples = Iterator[tuple[int, dict[str, Any]]]


def features(num_classes: int, ignore: int) -> tfds.features.FeaturesDict:
    """The features of a record: RGB image, single-channel label, id."""
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(
                shape=(None, None, 1),
                dtype=index_dtype(num_classes, ignore),
                encoding_format="png",
                use_colormap=True,
            ),
            "id": tfds.features.Text(),
        }
    )


def digest(record: dict[str, Any]) -> str:
    """16 hexadecimal digits that tell the bytes of one image and label from others."""
    content = hashlib.sha256(record["image"]).digest() + hashlib.sha256(record["label"]).digest()
    return hashlib.sha256(content).hexdigest()[:16]


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes [H, W] or [H, W, 3] pixels without loss; TFDS would import TensorFlow for it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def prepare(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    config: tfds.core.BuilderConfig | str,
    data_dir: str,
    generate: Callable[[Any], None] = lambda builder: builder.download_and_prepare(),
) -> Path:
    """Generates a builder's records unless they are on disk already.

    Records are written to a temporary folder that is renamed when complete, under a lock: several
    processes may ask at once, and an interrupted one leaves nothing that looks finished.

    Args:
      builder_class: the builder.
      config: its configuration.
      data_dir: where TFDS keeps data sets; "" for its own default.
      generate: has the builder write its records. Beside them it may have folders "incomplete.…",
          which are removed if it is killed.

    Returns:
      The folder of the records, for `tfds.builder_from_directory`.

    Raises:
      DataError: the disk is full.
    """
    with _quiet():
        where = Path(data_dir).expanduser() if data_dir else None
        builder = builder_class(config=config, data_dir=where, file_format="array_record")
    folder = Path(builder.data_dir)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent):
        if not folder.exists():  # another process may have been faster
            print(f"preparing {folder}", flush=True)
            for leftover in folder.parent.glob("incomplete.*"):  # of a process that was killed
                shutil.rmtree(leftover)
            try:
                with _quiet():
                    generate(builder)
            except (OSError, RuntimeError) as error:  # TFDS raises either, without an errno
                if "No space left" not in str(error):
                    raise
                raise DataError(
                    f"the disk of {folder.parent} is full: make room, or choose another "
                    "config.data.data_dir."
                ) from None
    return folder


def require_room(folder: Path, needed: int) -> None:
    """Looks whether the disk of a folder has so many bytes left.

    Raises:
      DataError: it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"preparing needs {needed / 1e9:.3g} GB in {folder}, whose disk has {free / 1e9:.3g} GB"
            " left: make room, or choose another config.data.data_dir."
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a file lock, which the system lets go of even if the process is killed."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's banners and warnings off the screen, and progress bars out of log files."""
    (tfds.enable_progress_bar if sys.stderr.isatty() else tfds.disable_progress_bar)()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
