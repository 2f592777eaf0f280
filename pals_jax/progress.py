"""The line that tells how a run is going."""

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

    def advance(self, step: int) -> tuple[float, float]:
        """Steps per second since `start` or the last call, and the seconds left at that rate."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return rate, (self._total - step) / max(rate, 1e-9)
