"""Choose which images count as labelled: nested fractions, lists, prefixes, and a dev part.

Every choice is over ids alone, so no image is decoded, and depends neither on the order in which
the ids come nor on a library's random generator: ids are ordered by a keyed hash.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pals_jax.data.errors import DataError, some
from pals_jax.data.folder import EXTENSIONS

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

_IMAGE = re.compile(rf"\.(?i:{EXTENSIONS})$")


def nested_subset(ids: Collection[str], fraction: float, seed: int) -> list[str]:
    """A random part of the ids, such that smaller parts are prefixes of larger ones.

    The n = max(1, round(fraction · N)) ids with the smallest SHA-256 of "seed:id": a permutation
    that is the same on every machine and with every version of NumPy.

    Args:
      ids: N distinct ids, in any order.
      fraction: in (0, 1].
      seed: another seed gives another permutation.

    Returns:
      n ids, in the order of the permutation.

    Raises:
      DataError: the fraction is outside (0, 1], or there are no ids, or one occurs twice.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"a subset's fraction must lie in (0, 1], got {fraction}.")
    if not ids:
        raise DataError("there are no ids to take a subset of.")
    if len(set(ids)) != len(ids):
        raise DataError("the ids are not distinct.")
    order = sorted(ids, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
    return order[: max(1, round(fraction * len(order)))]


def select(
    ids: Sequence[str], spec: str, seed: int, held_out: Collection[str] = (), layout: str = ""
) -> list[str]:
    """The ids that a subset specification names.

    Args:
      ids: the ids to choose from.
      spec: one of
        "" — all;
        "0.1" — a fraction in (0, 1], by `nested_subset`;
        "prefix:0006R0" — ids that begin so;
        "voc_classic/92", "cityscapes/1_16", … — a list of the field, which comes with the package;
        "list.txt" — a text file with one id a line, or an image and its mask; lines that begin
        with # are skipped. A path names the id that it ends with, extension aside, and a bare
        name the one id that ends with it; masks have the name of the image in their path.
      seed: for fractions.
      held_out: ids that a list may not name.
      layout: of the image files, as "{id}_sat.jpg", whose names a list may hold.

    Returns:
      The chosen ids, sorted.

    Raises:
      DataError: the specification is none of these, names unknown ids (listed), or selects nothing.
    """
    if not spec:
        chosen = list(ids)
    elif spec == "prefix:":
        raise DataError("prefix: lacks what ids begin with, as prefix:0006R0.")
    elif spec.startswith("prefix:"):
        chosen = [key for key in ids if key.startswith(spec.removeprefix("prefix:"))]
    elif names_ids(spec):
        chosen = _listed([*ids, *held_out], spec, layout)
        if taken := sorted(set(chosen) & set(held_out)):
            raise DataError(
                f"{spec}: {len(taken)} of its {len(chosen)} ids are held out: {some(taken)}. Take "
                "them out of the list, or hold other images out."
            )
    else:
        chosen = nested_subset(ids, _fraction(spec, len(ids)), seed)
    if not chosen:
        raise DataError(f"the subset {spec!r} selects none of {len(ids)} ids: {some(sorted(ids))}.")
    return sorted(chosen)


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
        if not path.is_file():
            raise DataError(f"the list of ids {path} cannot be read (there is no such file).")
        return
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


def is_drawn(spec: str) -> bool:
    """Whether a subset specification is a fraction, whose ids are drawn."""
    return bool(spec) and not names_ids(spec) and not spec.startswith("prefix:")


def split_dev(
    ids: Sequence[str], dev: str, seed: int, listed: Collection[str] = (), layout: str = ""
) -> tuple[list[str], list[str]]:
    """Sets a dev part aside, on which settings and checkpoints are chosen.

    Split first and take the labelled subset of the train part afterwards: then the dev part is
    the same for every subset, unless that is a list: a fraction is drawn of the ids beside it.

    Args:
      ids: all ids of the training split.
      dev: a specification as in `select`, or "" for no dev part.
      seed: for fractions.
      listed: ids that a list names as the subset.
      layout: as in `select`.

    Returns:
      (train ids, dev ids), disjoint, sorted, together all ids.

    Raises:
      DataError: as `select`, or nothing is left to train on.
    """
    free = sorted(set(ids) - set(listed)) if is_drawn(dev) else ids
    held_out = select(free, dev, seed, layout=layout) if dev else []
    train = sorted(set(ids) - set(held_out))
    if not train:
        raise DataError(f"the dev part {dev!r} takes all {len(ids)} ids; none is left to train on.")
    return train, held_out


def ids_hash(ids: Collection[str]) -> str:
    """16 hexadecimal digits that tell one set of ids from another, whatever their order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def _fraction(spec: str, total: int) -> float:
    """Parses a fraction, and explains what is accepted otherwise."""
    try:
        fraction = float(spec.replace("_", "x"))  # Python reads 1_16 as 116
    except ValueError:
        raise DataError(
            f"the selection {spec!r} is neither a fraction in (0, 1], nor prefix:…, nor a list as "
            "voc_classic/92, nor a .txt file."
        ) from None
    if 1 < fraction < float("inf"):
        hint = ""
        if fraction > total:
            percent = f"; {spec} % is {fraction / 100:.4g}" if fraction < 100 else ""
            hint = f"{percent}; there are {total} images: leave it empty for all of them"
        elif fraction.is_integer():
            hint = f"; for {spec} of {total} images give {fraction / total:.4g}"
        raise DataError(f"a subset is a fraction in (0, 1], got {spec}{hint}.")
    return fraction


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


def _listed(ids: Sequence[str], spec: str, layout: str) -> list[str]:
    """The ids that a list names."""
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
        if line.startswith("#") and line not in names.known:
            continue
        candidates = names.of_line(line)
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
            f"its mask, which has the same name in its path. {owner}They are "
            f"{shown}. There are {some(sorted(ids))}."
        )
    return list(chosen)


class _Names:
    """Which ids the lines of a list name.

    Attributes:
      known: all ids.
    """

    def __init__(self, ids: Iterable[str], layout: str):
        self.known = set(ids)
        before, _, after = _IMAGE.sub("", layout.removesuffix(".*")).partition("{id}")
        self._around = (before.rpartition("/")[2], after)  # of an id, in the name of its file
        self._ending_with: dict[str, set[str]] = defaultdict(set)
        for key in ids:
            for tail in _tails(key):
                self._ending_with[tail].add(key)

    def of_line(self, line: str) -> set[str]:
        """The ids that a line may stand for: as a path that may hold spaces, and as two of them,
        the image and its mask, parted at any of the spaces.
        """
        if line in self.known:
            return {line}
        if len(line) > _LONGEST_LINE:  # perhaps all ids in one
            return set()
        found, doubtful = set(), False
        for space in re.finditer(r"\s+", line):
            image, mask = line[: space.start()], line[space.end() :]
            ids = self._of_path(image)
            if len(ids) == 1 and self._is_mask(mask, *ids):
                found |= ids
            else:  # a path with a space, perhaps, but none of which the first part is an image
                doubtful |= bool(_IMAGE.search(image)) or (bool(ids) and "/" in mask)
        whole = self._of_path(line)
        return found if found or doubtful else whole

    def _of_path(self, path: str) -> set[str]:
        """The ids that a path may stand for: the one that it is, those that end with it, or else
        the longest that it ends with, and others that end with that; the extension of an image
        aside.
        """
        path = path.removeprefix("./")
        stem = _IMAGE.sub("", path)
        folder, slash, name = stem.rpartition("/")
        before, after = self._around
        bare = folder + slash + name.removeprefix(before).removesuffix(after)
        forms = dict.fromkeys([path, stem, stem.removesuffix(_FILE_SUFFIX), bare])
        for form in forms:
            if form in self.known:
                return {form}
        for form in forms:
            if form in self._ending_with:
                return self._ending_with[form]
        for form in forms:
            for tail in _tails(form):
                if tail in self.known and _is_folder(form.removesuffix(tail), stem != path):
                    return self._ending_with[tail]
        return set()

    def _is_mask(self, path: str, key: str) -> bool:
        """Whether a path may be that of the mask of an image: its file or a folder has the name of
        the image, whatever is joined to that by "_", "-" or ".", and it is not another's.
        """
        name = re.escape(key.rpartition("/")[2].removesuffix(_FILE_SUFFIX))
        named = re.search(rf"(^|[/_.-]){name}($|[/_.-])", path)
        return bool(named) and (not (others := self._of_path(path)) or key in others)


def _is_folder(text: str, of_file: bool) -> bool:
    """Whether what stands before an id may be the folder of a file, and is not another entry of the
    line; with a space in it only if the name of the file shows that it is one.
    """
    separated = re.search(rf"[,;|]|\.(?i:{EXTENSIONS})\s", text)
    return not separated and (of_file or not re.search(r"\s", text))


def _tails(path: str) -> list[str]:
    """A path without its first 0, 1, 2, … folders: "a/b/c" gives "a/b/c", "b/c", "c"."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
