"""The files of a folder or of an archive, by their path inside, without unpacking."""

import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pals_jax.data.errors import DataError

# What reading a damaged archive raises; the last three where a .zip is compressed in a way that
# Python does not know, is encrypted, or has names that are not the UTF-8 that they are said to be.
ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
)


class Member(NamedTuple):
    """A file inside an archive; reads like a `Path`.

    Attributes:
      archive: the archive.
      name: path inside it.
      size: in bytes.
      offset: of its content in the archive; None where the content is held.
      content: where it is held.
    """

    archive: Path
    name: str
    size: int
    offset: int | None = None
    content: bytes = b""

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    @property
    def suffix(self) -> str:
        """The extension, with its dot."""
        return Path(self.name).suffix

    def read_bytes(self) -> bytes:
        """The content."""
        if self.offset is None:
            return self.content
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def open(self, mode: str = "rb") -> BinaryIO:
        """The content as a file; `mode` is "rb"."""
        del mode
        return io.BytesIO(self.read_bytes())


File = Path | Member


def list_files(source: Path, pattern: re.Pattern[str]) -> dict[str, File]:
    """The files of a folder, a .tar, a .tgz or a .zip, by their path inside.

    Of a compressed archive the content is held, since the one kind can be read from its beginning
    only, and the other has all its names at its end.

    Args:
      source: the folder or archive.
      pattern: to be found in the paths.

    Raises:
      DataError: the archive is cut off, damaged or of another kind.
    """
    if source.is_dir():
        paths = {path.relative_to(source).as_posix(): path for path in source.rglob("*")}
        return {n: path for n, path in paths.items() if pattern.search(n) and path.is_file()}
    try:
        return {
            member.name: member
            for member in (_of_zip if source.suffix == ".zip" else _of_tar)(source, pattern)
        }
    except ARCHIVE_ERRORS as error:
        raise DataError(
            f"{source} ({source.stat().st_size} bytes) is cut off or no {source.suffix} archive "
            f"({error}): download it again, or pack it anew."
        ) from None


def _of_zip(source: Path, pattern: re.Pattern[str]) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        for stored in archive.namelist():
            name = stored.replace("\\", "/")  # some tools of Windows store these
            if pattern.search(name) and not name.endswith("/"):
                content = archive.read(stored)
                yield Member(source, name, len(content), content=content)


def _of_tar(source: Path, pattern: re.Pattern[str]) -> Iterator[Member]:
    plain = source.suffix == ".tar"  # whose files are read where they lie
    with tarfile.open(source, "r:" if plain else "r:*") as archive:
        for entry in archive:
            if not (entry.isfile() and pattern.search(entry.name)):
                continue
            if plain:
                yield Member(source, entry.name, entry.size, offset=entry.offset_data)
            else:
                file = archive.extractfile(entry)
                assert file is not None  # it is a file
                yield Member(source, entry.name, entry.size, content=file.read())
