"""Turns Ctrl-C and SIGTERM into a flag, so that a training step can finish and be saved."""

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """Training was stopped by a signal after its state was saved.

    Attributes:
      exit_code: 128 + the signal's number, as shells report it.
    """

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signum


def tell(message: object) -> None:
    """Prints at once. Where nobody reads any more, as `tee` after Ctrl-C, or the disk is full, this
    and all that is printed later goes nowhere, so that the state is saved all the same.
    """
    try:
        print(message, flush=True)
    except OSError:
        with contextlib.suppress(OSError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class StopSignal:
    """While entered, the first SIGINT or SIGTERM only sets `signum`; a second SIGINT raises
    KeyboardInterrupt.

    Outside the main thread, where Python does not allow handlers, it never sets anything.
    """

    def __init__(self):
        self.signum: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum
        tell(f"\n{signal.Signals(signum).name}: saving after this step; Ctrl-C again stops at once")
