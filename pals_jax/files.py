"""Files that are never seen half-written."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Writes a new file and renames it to `path`: a full disk costs nothing that was there.

    A file that holds the text already is left alone.
    """
    if path.exists() and path.read_text() == text:
        return
    with replacing(path, path.name + ".tmp") as replacement:
        replacement.write_text(text)


@contextlib.contextmanager
def replacing(path: Path, name: str) -> Iterator[Path]:
    """Gives a file beside `path`, of another name, which becomes `path` once it is written."""
    replacement = path.with_name(name)
    try:
        yield replacement
        replacement.replace(path)
    finally:
        replacement.unlink(missing_ok=True)


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
