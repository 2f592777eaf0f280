"""Choose which images count as labelled: nested fractions, lists, prefixes, and a dev part.

Every choice is over ids alone, so no image is decoded, and depends neither on the order in which
the ids come nor on a library's random generator: ids are ordered by a keyed hash.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

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


def select(ids: Sequence[str], spec: str, seed: int, held_out: Collection[str] = ()) -> list[str]:
    """The ids that a subset specification names.

    Args:
      ids: the ids to choose from.
      spec: one of
        "" — all;
        "0.1" — a fraction in (0, 1], by `nested_subset`;
        "prefix:0006R0" — ids that begin so;
        "voc_classic/92", "cityscapes/1_16", … — a list of the field, which comes with the package;
        "list.txt" — a text file with one id a line; lines that begin with # are skipped. Of
        `image_path mask_path` lines the first counts: a path names the id that it ends with,
        extension aside, and a bare name the one id that ends with it.
      seed: for fractions.
      held_out: ids that a list may not name.

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
        chosen = _listed([*ids, *held_out], spec)
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
    ids: Sequence[str], dev: str, seed: int, listed: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Sets a dev part aside, on which settings and checkpoints are chosen.

    Split first and take the labelled subset of the train part afterwards: then the dev part is
    the same for every subset, unless that is a list: a fraction is drawn of the ids beside it.

    Args:
      ids: all ids of the training split.
      dev: a specification as in `select`, or "" for no dev part.
      seed: for fractions.
      listed: ids that a list names as the subset.

    Returns:
      (train ids, dev ids), disjoint, sorted, together all ids.

    Raises:
      DataError: as `select`, or nothing is left to train on.
    """
    free = sorted(set(ids) - set(listed)) if is_drawn(dev) else ids
    held_out = select(free, dev, seed) if dev else []
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
            hint = f"; there are {total} images: leave it empty for all of them"
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


def _listed(ids: Sequence[str], spec: str) -> list[str]:
    """The ids that a list names."""
    path = _list_file(spec)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"the list of ids {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise DataError(f"the list of ids {path} is not text in UTF-8: save it as such.") from None
    known, ending_with = set(ids), defaultdict(list)
    for key in ids:
        for tail in _tails(key):
            ending_with[tail].append(key)

    def named_by(name: str) -> list[str]:
        path = PurePosixPath(name)
        if not path.name:  # "." and "/", as from `find`
            return []
        stem = str(path.with_suffix("")).removesuffix(_FILE_SUFFIX)
        ends = [tail for tail in (*_tails(name), *_tails(stem)) if tail in known]
        return ends[:1] or ending_with[name] or ending_with[stem]

    # Of names with a space in them.
    first_words = {tail.split()[0] for tail in ending_with if len(tail.split()) > 1}

    def named_by_line(line: str) -> list[str]:
        whole = [key for key in named_by(line) if any(map(str.isspace, key))]
        if line in known or whole:
            return [line] if line in known else whole
        first, *others = line.split()
        found = named_by(first)
        # What else stands on the line may be the mask, which is named like its image, or a note.
        if any(named_by(word) not in ([], found) for word in others):
            return []
        if not others or _IMAGE.search(first):
            return found
        # An unknown name with a space in it, as "scan 2.jpg", begins with that of another image.
        begins = (PurePosixPath(first).name, *(PurePosixPath(key).name for key in found))
        files = [word for word in others if _IMAGE.search(word) and "/" not in word]
        if first_words & {*begins} or not all(word.startswith(begins) for word in files):
            return []
        return found

    chosen, unknown = set(), []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#") and line not in known:
            continue
        candidates = named_by_line(line)
        if len(candidates) == 1:
            chosen.add(candidates[0])
        else:
            unknown.append(line)
    if unknown:
        owner = "" if is_list(spec) else f"The list is of {_OF[spec.split('/')[0]]}. "
        raise DataError(
            f"{spec}: {len(unknown)} of its lines name none of the {len(ids)} images to choose "
            f"from, several, or a part of a name. {owner}They are {', '.join(unknown)}. There are "
            f"{some(sorted(ids))}."
        )
    return list(chosen)


def _tails(path: str) -> list[str]:
    """A path without its first 0, 1, 2, … folders: "a/b/c" gives "a/b/c", "b/c", "c"."""
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]
