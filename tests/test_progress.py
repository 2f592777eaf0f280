import pytest

from pals_jax.progress import Progress, format_duration


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")]
)
def test_format_duration(seconds, expected):
    assert format_duration(seconds) == expected


def test_rate_and_time_left(monkeypatch):
    clock = iter([0.0, 10.0, 14.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress(0, total_steps=100)
    progress.start(10)  # at 10 s: what came before does not count
    rate = progress.advance(30)  # at 14 s
    assert rate == 5
    assert progress.describe(30, rate) == "5.00 steps/s  ETA 0:14"


def test_no_step_gives_no_rate():
    progress = Progress(0, total_steps=100)
    progress.start(1)
    assert progress.describe(1, progress.advance(1)) == "compiled"
