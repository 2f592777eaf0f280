"""Files that are never seen half-written."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Writes a new file and renames it to `path`: a full disk costs nothing that was there.

    A file that holds the text already is left alone.
    """
    if path.exists() and path.read_bytes() == text.encode():
        return
    with replacing(path) as written:
        written.write_text(text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a file beside `path`, of this process alone, that becomes `path` once it is written."""
    # Short, since names may be as long as file systems take.
    written = path.with_name(f".incomplete-{os.getpid()}{path.suffix}")
    try:
        yield written
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Adds a line, below what an interruption has left half-written; on the disk on return."""
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * torn + line + "\n")
        file.flush()
        os.fsync(file.fileno())


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, one per line; other lines, as half-written ones, are left out."""
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
