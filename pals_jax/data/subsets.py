"""Choose which images count as labelled: nested fractions, lists, prefixes, and a dev part.

No image is decoded, and no choice depends on the order in which the ids come or on a library's
random generator: ids are ordered by a keyed hash.
"""

import hashlib
from collections.abc import Collection, Sequence

from pals_jax.data.errors import DataError, some
from pals_jax.data.file_paths import BenchmarkPaths, FilePaths
from pals_jax.data.id_lists import names_ids, read_list

_CALLED_AS_IDS = BenchmarkPaths()


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
    ids: Sequence[str],
    spec: str,
    seed: int,
    held_out: Collection[str] = (),
    paths: FilePaths = _CALLED_AS_IDS,
) -> list[str]:
    """The ids that a subset specification names.

    Args:
      ids: the ids to choose from.
      spec: one of
        "" — all;
        "0.1" — a fraction in (0, 1], by `nested_subset`;
        "prefix:0006R0" — ids that begin so;
        "voc_classic/92", "cityscapes/1_16", … — a list of the field, which comes with the package;
        "list.txt" — a text file with one id a line, or an image file, alone or with its mask file,
        by paths as `paths` wants them, or the last part of an id that no other ends with; lines
        that begin with # are skipped, but for ids and files that do.
      seed: for fractions.
      held_out: ids that a list may not name.
      paths: tells the ids of the files that a list may hold.

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
        chosen = read_list([*ids, *held_out], spec, paths)
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


def is_drawn(spec: str) -> bool:
    """Whether a subset specification is a fraction, whose ids are drawn."""
    return bool(spec) and not names_ids(spec) and not spec.startswith("prefix:")


def split_dev(
    ids: Sequence[str],
    dev: str,
    seed: int,
    listed: Collection[str] = (),
    paths: FilePaths = _CALLED_AS_IDS,
) -> tuple[list[str], list[str]]:
    """Sets a dev part aside, on which settings and checkpoints are chosen.

    Split first and take the labelled subset of the train part afterwards: then the dev part is
    the same for every subset, unless that is a list: a fraction is drawn of the ids beside it.

    Args:
      ids: all ids of the training split.
      dev: a specification as in `select`, or "" for no dev part.
      seed: for fractions.
      listed: ids that are not held out, as a list's where the dev part is drawn.
      paths: as in `select`.

    Returns:
      (train ids, dev ids), disjoint, sorted, together all ids.

    Raises:
      DataError: as `select`, or nothing is left to train on.
    """
    free = sorted(set(ids) - set(listed))
    if not free:
        raise DataError(f"the subset lists all {len(ids)} ids; none is left to hold out.")
    held_out = select(free, dev, seed, paths=paths) if dev else []
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
