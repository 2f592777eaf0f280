"""Lists of ids: those of the field, which come with the package, and the files of users."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pals_jax.data.errors import DataError, some
from pals_jax.data.folder import EXTENSIONS
from pals_jax.data.layout import Layout, without_extension

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

# A line with more characters is no path.
_LONGEST_LINE = 4096

# Published lists name the file of an image, where the id of a Cityscapes frame lacks this.
_FILE_SUFFIX = "_leftImg8bit"


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


def read_list(ids: Sequence[str], spec: str, layout: Layout) -> list[str]:
    """The ids that a list names, as `subsets.select` tells.

    Args:
      ids: that it may name.
      spec: of the list.
      layout: of the images.

    Raises:
      DataError: the list cannot be read, or has lines that name none of the ids, several, or the
        mask of another image; all are listed.
    """
    path = _list_file(spec)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"the list of ids {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DataError(f"the list of ids {path} is not text in UTF-8: save it as such.") from None
    names = _Names(ids, layout)
    chosen, unknown = set(), []
    for line in filter(None, map(str.strip, text.split("\n"))):
        candidates = names.of_line(line)
        if line.startswith("#") and not any(key.startswith("#") for key in candidates):
            continue
        if len(candidates) == 1:
            chosen |= candidates
        else:
            unknown.append(line)
    if unknown:
        owner, shown = "", ", ".join(unknown)
        if not is_list(spec):
            owner, shown = f"The list is of {_OF[spec.split('/')[0]]}. ", some(unknown)
        raise DataError(
            f"{spec}: {len(unknown)} of its lines name none of the {len(ids)} images to choose "
            "from, several, or an image with the mask of another: a line is an id, or an image and "
            "its mask, which has the same name in its path; no file in the folder of another split "
            f"is among them. {owner}They are "
            f"{shown}. There are {some(sorted(ids))}."
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


class _Paths:
    """Finds the ids of paths of which the first folders may be left out, or others added.

    Attributes:
      ids: by whole paths.
    """

    def __init__(self, paths: Iterable[tuple[str, str]], layout: Layout):
        self._layout = layout
        self.ids: dict[str, set[str]] = defaultdict(set)
        self._ending_with: dict[str, set[str]] = defaultdict(set)
        for path, key in paths:
            self.ids[path].add(key)
            for tail in _tails(path):
                self._ending_with[tail].add(key)

    def find(self, forms: Iterable[str], of_file: bool) -> set[str]:
        """The ids of the first of some forms that is a path, those whose path ends with one, or
        else, if that is of no other split, those whose path ends with the longest path that one
        ends with.
        """
        for form in forms:
            if form in self.ids:
                return self.ids[form]
        for form in forms:
            if form in self._ending_with:
                return self._ending_with[form]
        for form in forms:
            if self._layout.is_of_another_split(form):
                return set()
            for tail in _tails(form):
                if tail in self.ids and _is_folder(form.removesuffix(tail), of_file):
                    return self._ending_with[tail]
        return set()


class _Names:
    """Which ids the lines of a list name."""

    def __init__(self, ids: Sequence[str], layout: Layout):
        self._layout = layout
        self._known = set(ids)
        self._ids = _Paths(((key, key) for key in ids), layout)
        files = ((path, key) for key in ids for path in (layout.name_of(key), layout.file_of(key)))
        self._files = _Paths(files, layout)

    def of_line(self, line: str) -> set[str]:
        """The ids that a line may stand for: as a path that may hold spaces, and as two of them,
        the image and its mask, parted at any of the spaces.
        """
        if line in self._known:
            return {line}
        if file := self._files.ids.get(without_extension(line.removeprefix("./"))):
            return file
        if len(line) > _LONGEST_LINE:  # perhaps all ids in one
            return set()
        if (file := self._file_at(line)) is not None:
            return file
        parts = [self._of_path(part) for part in line.split()]
        one_each = all(len(ids) == 1 for ids in parts)
        if len(parts) > 2 and one_each and len(set().union(*parts)) == len(parts):
            return set()  # a list in one line
        found, doubtful = set(), False
        for space in re.finditer(r"\s+", line):
            image, mask = line[: space.start()], line[space.end() :]
            ids = self._of_path(image)
            of_file = without_extension(image) != image
            if len(ids) == 1 and self._is_mask(mask, min(ids), of_file):
                found |= ids
            else:  # a path with a space, perhaps, but none of which the first part is an image
                doubtful |= of_file or (bool(ids) and "/" in mask)
        whole = self._of_path(line)
        return found if found or doubtful else whole

    def _of_path(self, path: str) -> set[str]:
        """The ids that a path may stand for, the extension of an image aside: an id as it is, or
        what is named as the layout names files is that file, and of all else the end is an id.
        """
        path = re.sub("/+", "/", path.removeprefix("./")).removesuffix("/")
        stem = without_extension(path)
        if path in self._known:
            return {path}
        if (file := self._file_at(path)) is not None:
            return file
        paths = self._files if self._layout.is_file(path) else self._ids
        forms = dict.fromkeys([path, stem, stem.removesuffix(_FILE_SUFFIX)])
        return paths.find(forms, of_file=stem != path)

    def _file_at(self, path: str) -> set[str] | None:
        """The id of an image that is there, none of another file; None if nothing is there."""
        found = self._layout.ids_at(path)
        return None if found is None else found & self._known

    def _is_mask(self, path: str, key: str, beside_letters: bool) -> bool:
        """Whether a path may be that of the mask of an image: its file or a folder has the name of
        the image, whatever is joined to that by "_", "-" or ".", or letters to a number if they
        may, as in mask7, and it is not another's.
        """
        name = re.escape(key.rpartition("/")[2].removesuffix(_FILE_SUFFIX))
        before, after = r"^|[/_.-]", r"$|[/_.-]"
        if beside_letters:
            before, after = before + r"|[a-zA-Z](?=\d)", after + r"|(?<=\d)[a-zA-Z]"
        named = re.search(rf"({before}){name}({after})", path)
        if masks := self._layout.masks and self._layout.of_masks:
            others = masks.ids_at(path) or set()
            if masks.is_of_another_split(path) or (others and key not in others):
                return False
        return bool(named) and (not (others := self._of_path(path)) or key in others)


def _is_folder(text: str, of_file: bool) -> bool:
    """Whether what stands before an id may be the folder of a file, and is not another entry of the
    line; with a space in it only if the name of the file shows that it is one.
    """
    separated = re.search(rf"[,;|]|[a-z]{{2,}}:/|\s[/~]|\.(?i:{EXTENSIONS})[:\s]", text)
    return not separated and (of_file or not re.search(r"\s", text))


def _tails(path: str) -> list[str]:
    """A path without its first 0, 1, 2, … folders: "a/b/c" gives "a/b/c", "b/c", "c"."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
