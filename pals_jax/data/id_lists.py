"""Lists of ids: those of the field, which come with the package, and the files of users."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pals_jax.data.errors import DataError, some
from pals_jax.data.file_paths import FilePaths

# The labelled subsets that the field reports on, see lists/README.md.
_SHIPPED = {
    path.relative_to(path.parents[1]).with_suffix("").as_posix(): path
    for path in sorted((Path(__file__).parent / "lists").glob("*/*.txt"))
}

# What the shipped lists are of, by the folder.
_OF = {
    "voc_classic": "VOC 2012 train",
    "voc_blender": "VOC 2012 trainaug",
    "voc_u2pl": "VOC 2012 trainaug",
    "voc": "VOC 2012 trainaug",
    "cityscapes": "Cityscapes train",
}

# Characters of a line that an error shows: more are a whole list in one line.
_LONGEST_SHOWN = 500


def require_list(spec: str, name: str) -> None:
    """Looks whether the list of a subset specification is there, before any data is.

    Args:
      spec: as in `select`; other than lists pass.
      name: of the data set.

    Raises:
      DataError: there is no such list, or it is one of the field of another data set.
    """
    if not names_ids(spec):
        return
    path = _list_file(spec)
    if is_list(spec):
        with contextlib.suppress(OSError):  # as of a name that is too long
            if path.is_file():
                return
        raise DataError(f"the list of ids {path} cannot be read (there is no such file).")
    owner = spec.split("/")[0]
    if not name.startswith((owner.split("_")[0], "segmentation_folder")):
        raise DataError(f"the list {spec} is of {_OF[owner]}, config.data.name is {name!r}.")


def shipped(name: str) -> list[str]:
    """The ids of a list that comes with the package, as "voc/trainaug"."""
    return _SHIPPED[name].read_text().split()


def is_list(spec: str) -> bool:
    """Whether a subset specification is the path of a list of ids."""
    return spec.endswith(".txt") and not spec.startswith("prefix:")


def names_ids(spec: str) -> bool:
    """Whether a subset specification is a list of ids, of the user or of the field."""
    return not spec.startswith("prefix:") and (is_list(spec) or "/" in spec)


def read_list(ids: Sequence[str], spec: str, paths: FilePaths) -> list[str]:
    """The ids that a list names, as `subsets.select` tells.

    Args:
      ids: that it may name.
      spec: of the list.
      paths: tells the ids of files.

    Raises:
      DataError: the list cannot be read, or has lines that name none of the ids, several, or one
        with the mask of another; all are listed.
    """
    path = _list_file(spec)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"the list of ids {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DataError(f"the list of ids {path} is not text in UTF-8: save it as such.") from None
    names = _Names(ids, paths)
    chosen, unknown = set(), []
    for raw in text.split("\n"):
        if not (line := raw.strip()):
            continue
        named = names.of_line(raw.removesuffix("\r")) or names.of_line(line)
        if len(named) == 1:
            chosen |= named
        elif named or not line.startswith("#"):
            several = f" (which may be {' or '.join(sorted(named))})" if named else ""
            more = "…" if len(line) > _LONGEST_SHOWN else ""
            unknown.append(f"{line[:_LONGEST_SHOWN]!r}{more}{several}")
    if unknown:
        owner, shown = "", ", ".join(unknown)  # all, to be mended at once
        if not is_list(spec):
            owner, shown = f"The list is of {_OF[spec.split('/')[0]]}. ", some(unknown)
        raise DataError(
            f"{spec}: {len(unknown)} of its lines name none of the {len(ids)} images to choose "
            f"from, several, or one with another's mask: {shown}. {owner}A line is an id, or an "
            f"image file, perhaps with its mask file behind a space, {paths.wanted}. There are the "
            f"ids {some(sorted(ids))}."
        )
    return list(chosen)


def _list_file(spec: str) -> Path:
    """Where a list of ids lies: that of the user, or one of the package."""
    if is_list(spec):
        return Path(spec).expanduser()
    if spec not in _SHIPPED:
        raise DataError(
            f"there is no list {spec!r}, only {', '.join(_SHIPPED)}; one of your own ends in .txt, "
            "and a fraction is written as 0.125."
        )
    return _SHIPPED[spec]


class _Names:
    """Which ids the lines of a list name."""

    def __init__(self, ids: Sequence[str], paths: FilePaths):
        self._known = set(ids)
        self._paths = paths
        self._by_last_part: dict[str, set[str]] = defaultdict(set)
        for key in ids:
            self._by_last_part[key.rpartition("/")[2]].add(key)

    def of_line(self, line: str) -> set[str]:
        """The ids that a line may stand for: as a whole, which may hold spaces, or else as an image
        and its mask, parted at any of the spaces.
        """
        if whole := self._of_image(line):
            return whole
        found = set()
        for space in re.finditer(r"\s+", line):
            if image := self._of_image(line[: space.start()]):
                found |= image & self._paths.ids_of_mask(line[space.end() :])
        return found

    def _of_image(self, text: str) -> set[str]:
        """The ids that an id, the path of an image or the last part of an id may stand for."""
        named = {text, *self._paths.ids_of_image(text)} & self._known
        return named or self._by_last_part.get(text, set())
