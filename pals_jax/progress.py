"""The line that tells how a run is going."""

import math
import time


def format_duration(seconds: float) -> str:
    """1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Measures steps per second since the line before, and from it the time left.

    The first step compiles, so the clock starts after it.
    """

    def __init__(self, step: int, total_steps: int):
        """Starts at a step, the first one of this process."""
        self._total = total_steps
        self._step = step
        self._time = time.monotonic()

    def start(self, step: int) -> None:
        """Restarts the clock, after a pause that is not training."""
        self._step, self._time = step, time.monotonic()

    def advance(self, step: int) -> float:
        """Steps per second since `start` or the last call; NaN if none was taken since."""
        now = time.monotonic()
        steps, seconds = step - self._step, max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return steps / seconds if steps else math.nan

    def describe(self, step: int, rate: float) -> str:
        """The rate and the time left at it; after the first step, which gives no rate, neither."""
        if math.isnan(rate):
            return "compiled"
        return f"{rate:.2f} steps/s  ETA {format_duration((self._total - step) / rate)}"
