"""A failure of Orbax, told once."""

import contextlib
import gc
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TypeVar

import absl.logging

T = TypeVar("T")

_PACKAGE = "orbax/checkpoint"  # in the path of each of its files


class OrbaxError(RuntimeError):
    """A checkpoint could not be written or read: the first failure of all that Orbax met."""


def run(action: Callable[[], T], settle: Callable[[], object] = lambda: time.sleep(0.5)) -> T:
    """Runs what writes or reads a checkpoint.

    Args:
      action: a call of Orbax.
      settle: waits, after a failure, for threads of Orbax that nobody can join.

    Returns:
      What the action returns.

    Raises:
      OrbaxError: the action raised. Orbax and tensorstore raise many types for one cause, plain
        `Exception` among them.
    """
    with _quiet():
        try:
            return action()
        except Exception as error:
            absl.logging.debug("Orbax failed", exc_info=True)  # all of it, with --verbosity=1
            failure = str(error.__cause__ or error) or repr(error)
            failure = failure.partition(" [tensorstore_spec=")[0]  # a page of settings
        settle()
        gc.collect()  # tasks that nobody waits for tell their failure when they are collected
    raise OrbaxError(failure)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back all but the exception.

    Orbax handles arrays side by side and raises the first failure. The others are logged, and those
    that find its event loop closed are printed: a thousand lines that tell nothing new.
    """

    def is_news(record: logging.LogRecord) -> bool:
        of_orbax = record.name == "asyncio" or _PACKAGE in record.pathname
        return record.levelno < logging.ERROR or not of_orbax

    def tell(unraisable: Any) -> None:
        closed = str(unraisable.exc_value) == "Event loop is closed"
        if not closed and not _raised_by_orbax(unraisable.exc_traceback):
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


def _raised_by_orbax(frames: TracebackType | None) -> bool:
    return any(_PACKAGE in frame.f_code.co_filename for frame, _ in traceback.walk_tb(frames))
