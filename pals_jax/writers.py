"""Numbers and pictures of a run: metrics.jsonl and, where it is installed, TensorBoard."""

import importlib.util
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pals_jax.files import json_lines, write_atomically

PANELS = "panels"  # the folder of the training pictures
_FILE = "metrics.jsonl"


class JsonlWriter:
    """Appends JSON lines to `metrics.jsonl`; a value that is not finite becomes null."""

    def __init__(self, workdir: Path):
        """Opens the file for appending."""
        self._file = (workdir / _FILE).open("a")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes {"step": step, name: value, …} and flushes: a killed run keeps its lines."""
        values = {name: float(value) for name, value in scalars.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class Writer:
    """Scalars to metrics.jsonl and TensorBoard, images to TensorBoard; a context manager."""

    def __init__(self, workdir: Path):
        """Opens both; warns where TensorBoard's packages are missing, and goes on without it."""
        self._jsonl = JsonlWriter(workdir)
        self._tensorboard = _summary_writer(workdir)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception) -> None:
        self._jsonl.close()
        self._to_tensorboard("flush")
        self._to_tensorboard("close")

    def scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes scalars by name."""
        self._jsonl.write_scalars(step, scalars)
        self._to_tensorboard("write_scalars", step, dict(scalars))
        self._to_tensorboard("flush")

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 images [H,W,3] by name to TensorBoard."""
        self._to_tensorboard(
            "write_images", step, {name: image[None] for name, image in images.items()}
        )

    def _to_tensorboard(self, method: str, *arguments: Any) -> None:
        """Calls a method of its writer, if there is one; goes on without it where that fails, as on
        a full disk: its files are a copy for the eye.
        """
        if self._tensorboard is None:
            return
        from tensorflow.errors import OpError  # is loaded, as there is a writer

        try:
            getattr(self._tensorboard, method)(*arguments)
        except OpError as error:
            self._tensorboard = None
            warnings.warn(
                f"no more TensorBoard files, which could not be written ({error.message}); "
                "metrics.jsonl goes on",
                stacklevel=3,
            )


def _summary_writer(workdir: Path) -> Any:
    missing = [
        name
        for name in ("clu", "tensorflow", "tensorboard")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        warnings.warn(
            f"no TensorBoard files: {', '.join(missing)} not installed; metrics.jsonl is complete",
            stacklevel=3,
        )
        return None
    # Imported here, because TensorFlow takes seconds to load and would claim a GPU's memory.
    # These two spare the user its page of notices; it computes nothing here.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf
    from clu import metric_writers

    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:  # a notebook has used TensorFlow's GPU before
        warnings.warn("TensorFlow runs already and shares the GPU's memory", stacklevel=3)
    return metric_writers.SummaryWriter(str(workdir / "tensorboard"))


def drop_after(workdir: Path, step: int) -> None:
    """Drops half-written lines of metrics.jsonl, and lines and pictures beyond `step`, which come
    again.
    """
    path = workdir / _FILE
    if path.exists():
        kept = [json.dumps(line) + "\n" for line in json_lines(path) if line["step"] <= step]
        write_atomically(path, "".join(kept))
    for picture in (workdir / PANELS).glob("step_*.png"):
        drawn_at = picture.stem.removeprefix("step_")
        if drawn_at.isdecimal() and int(drawn_at) > step:
            picture.unlink()
