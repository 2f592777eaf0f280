"""The error that all bad data end in, and how it lists names."""

from collections.abc import Iterable


class DataError(ValueError):
    """What is wrong with the data, where (file or config field), and what to do about it."""


def some(names: Iterable[str], limit: int = 10) -> str:
    """The first names, and how many there are if not all are shown."""
    names = list(names)
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
