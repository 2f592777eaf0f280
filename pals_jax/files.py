"""Small text files that are never seen half-written."""

from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Writes a new file and renames it to `path`: a full disk costs nothing that was there.

    A file that holds the text already is left alone.
    """
    if path.exists() and path.read_text() == text:
        return
    replacement = path.with_name(path.name + ".tmp")
    try:
        replacement.write_text(text)
        replacement.replace(path)
    finally:
        replacement.unlink(missing_ok=True)
