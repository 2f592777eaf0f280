"""One checkpoint through Orbax, whole or not at all, and a failure told once."""

import contextlib
import gc
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import absl.logging
import orbax.checkpoint as ocp


def save(
    manager: ocp.CheckpointManager, folder: Path, step: int, items: Any, metrics: dict[str, Any]
) -> str | None:
    """Writes one checkpoint, and removes what there is of it if that fails.

    Args:
      manager: of `folder`, without asynchronous saving.
      folder: of the checkpoints.
      step: of the checkpoint.
      items: what to write, an `ocp.args.Composite`.
      metrics: what "best" is chosen by.

    Returns:
      None, or why it could not be written.
    """
    with _one_failure():
        try:
            manager.save(step, args=items, metrics=metrics)
            return None
        except Exception as error:
            # Orbax and tensorstore raise many types for one cause: the disk did not take the bytes.
            failure = str(error) or repr(error)
        calm, deadline = 0, time.monotonic() + 10
        while calm < 5 and time.monotonic() < deadline:
            # Threads that nobody can join may go on writing, and make the folder anew.
            calm = 0 if remove_unfinished(folder, f"{step}.") else calm + 1
            time.sleep(0.1)
        gc.collect()  # tasks that nobody waits for tell their failure when they are collected
    return failure


def remove_unfinished(folder: Path, prefix: str = "*") -> int:
    """Removes what interrupted saves left; returns how many there were.

    Orbax's own clean-up runs in a thread that it does not join, and which fails loudly in a process
    that ends at once.
    """
    found = list(folder.glob(f"{prefix}orbax-checkpoint-tmp*"))
    for unfinished in found:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(found)


@contextlib.contextmanager
def _one_failure() -> Iterator[None]:
    """Holds back all but the exception of a write that fails.

    Orbax writes arrays side by side and raises the first failure. The others are logged, and those
    that find its event loop closed are printed: a thousand lines that tell nothing new.
    """

    def is_news(record: logging.LogRecord) -> bool:
        of_orbax = record.name == "asyncio" or "orbax" in record.pathname
        return record.levelno < logging.ERROR or not of_orbax

    def tell(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            told(unraisable)

    told, sys.unraisablehook = sys.unraisablehook, tell
    loggers = absl.logging.get_absl_logger(), logging.getLogger("asyncio")
    for logger in loggers:
        logger.addFilter(is_news)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_news)
        sys.unraisablehook = told
