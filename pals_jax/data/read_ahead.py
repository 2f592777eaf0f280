"""Reads a set of examples in order, a few ahead of whoever uses them."""

import collections
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pals_jax.data.errors import DataError
from pals_jax.data.source import Example, Examples

_THREADS = 4
_AHEAD = 8  # examples decoded but not yet used, which bounds the memory


def read_ahead(examples: Examples, unreadable: list[DataError] | None = None) -> Iterator[Example]:
    """Yields every example once, in order, decoding in threads.

    Args:
      examples: random access.
      unreadable: where given, an example that cannot be read is left out and its error added here.
    """
    indices = iter(range(len(examples)))
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = collections.deque(
            pool.submit(examples.__getitem__, index) for index in itertools.islice(indices, _AHEAD)
        )
        while waiting:
            reading = waiting.popleft()
            for index in itertools.islice(indices, 1):
                waiting.append(pool.submit(examples.__getitem__, index))
            try:
                example = reading.result()
            except DataError as error:
                if unreadable is None:
                    raise
                unreadable.append(error)
                continue
            yield example
