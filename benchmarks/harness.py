"""Interleaved timing: all cases in turn, again and again, so that a slow minute hits all alike.

Each round has an order of its own: what a case leaves in the caches does not always serve the same.

A row of the output is one case with its median and its ratio to the reference of the same run; on a
machine whose speed varies only the ratio means something.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Case(NamedTuple):
    """Something to time.

    Attributes:
      name: unique within a group.
      run: does it once and waits for the result.
      temp_bytes: temporary memory of the compiled program, None where unknown.
    """

    name: str
    run: Callable[[], Any]
    temp_bytes: int | None = None


def compiled(name: str, function: Callable, *arguments) -> tuple[Case, Any]:
    """A case that runs a function compiled for these arguments, and its result."""
    program = jax.jit(function).lower(*arguments).compile()
    result = jax.block_until_ready(program(*arguments))
    memory = program.memory_analysis()
    temp = None if memory is None else memory.temp_size_in_bytes
    return Case(name, lambda: jax.block_until_ready(program(*arguments)), temp), result


def measure(cases: Sequence[Case], repeats: int) -> dict[str, list[float]]:
    """Seconds of each case in each of so many rounds; one more round warms up."""
    seconds: dict[str, list[float]] = {case.name: [] for case in cases}
    orders = random.Random(0)
    for number in range(repeats + 1):
        for case in orders.sample(cases, len(cases)):
            start = time.perf_counter()
            case.run()
            if number > 0:
                seconds[case.name].append(time.perf_counter() - start)
    return seconds


def row(group: dict[str, Any], case: Case, reference: str, seconds: dict[str, list[float]]):
    """A line of the results.

    Args:
      group: what the cases of a group have in common, as {"n": 9216}.
      case: that is reported.
      reference: name of the case that the ratio refers to.
      seconds: from `measure`.
    """
    # The ratio round by round: what slows the machine for a while cancels.
    pairs = zip(seconds[case.name], seconds[reference], strict=True)
    return {
        **group,
        "case": case.name,
        "median_s": statistics.median(seconds[case.name]),
        "ratio": statistics.median(ours / theirs for ours, theirs in pairs),
        "to": reference,
        "temp_mib": None if case.temp_bytes is None else case.temp_bytes / 2**20,
        "repeats": len(seconds[case.name]),
    }


def write(benchmark: str, rows: Sequence[dict[str, Any]], path: Path | None) -> None:
    """Prints a table; appends the rows as JSON lines to `path`, with where they were measured."""
    where = {
        "benchmark": benchmark,
        "commit": _commit(),
        "device": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
        "processor": f"{processors()} × {_processor()}",
        "jax": jax.__version__,
        "python": platform.python_version(),
    }
    keys = list(rows[0])
    table = [keys, *([_text(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(keys))]
    for line in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(", ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    if path is not None:
        with path.open("a") as file:
            file.writelines(json.dumps({**where, **row}) + "\n" for row in rows)


def _commit() -> str:
    """The commit that is measured, with a + where files differ from it."""
    command = ("git", "describe", "--always", "--exclude=*", "--dirty=+")
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def arguments(description: str, quick: str) -> argparse.ArgumentParser:
    """What all benchmarks are told: --quick, --repeats, --output."""
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 0.5 * processors():
        print(f"load {load:.1f} on {processors()} processors in the last minute: ratios may suffer")
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{quick}, under a minute")
    parser.add_argument(
        "--repeats", type=_at_least_one, help="rounds; 10 by default, 3 with --quick"
    )
    parser.add_argument("--output", type=_appendable, help="JSON lines to append to")
    return parser


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, found {text!r}")
    return int(text)


def _appendable(text: str) -> Path:
    """A path that can be written to: told before measuring, not after."""
    try:
        Path(text).open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot append to {text!r}: {error.strerror}") from None
    return Path(text)


def _processor() -> str:
    """The name of the processor, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
