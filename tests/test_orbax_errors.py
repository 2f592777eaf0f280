"""Of a failing action of Orbax, one message remains."""

import sys

import absl.logging
import pytest

from pals_jax import orbax_errors

# Raises when it is collected, from a file of that name.
PROGRAM = """
class Task:
    def __del__(self):
        raise ValueError("a task that nobody waits for")
"""


def lost_task(file):
    namespace = {}
    exec(compile(PROGRAM, file, "exec"), namespace)
    return namespace["Task"]()


@pytest.fixture
def unraisable(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: told.append(str(found.exc_value)))
    return told


def test_what_is_told():
    assert orbax_errors.run(lambda: 3) == 3

    def fails():
        try:
            raise OSError("the cause")
        except OSError as error:
            raise Exception("a page of settings") from error

    def fails_mutely():
        raise MemoryError

    with pytest.raises(orbax_errors.OrbaxError, match=r"^the cause$"):
        orbax_errors.run(fails)
    with pytest.raises(orbax_errors.OrbaxError, match=r"^MemoryError\(\)$"):
        orbax_errors.run(fails_mutely)


def test_only_what_others_than_orbax_lose_is_told(unraisable):
    def fails():
        lost_task("/site-packages/orbax/checkpoint/serialization.py")
        raise RuntimeError

    with pytest.raises(orbax_errors.OrbaxError):
        orbax_errors.run(fails)
    assert not unraisable
    orbax_errors.run(lambda: lost_task("/home/orbax/mine.py").__doc__)
    assert unraisable == ["a task that nobody waits for"]


def test_all_is_back_as_it_was_afterwards(unraisable):
    hook, filters = sys.unraisablehook, list(absl.logging.get_absl_logger().filters)
    settled = []
    with pytest.raises(orbax_errors.OrbaxError):
        orbax_errors.run(lambda: 1 / 0, settle=lambda: settled.append(sys.unraisablehook))
    assert settled != [hook]
    assert sys.unraisablehook is hook
    assert absl.logging.get_absl_logger().filters == filters
