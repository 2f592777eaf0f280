"""Reads a set of examples in order, a few ahead of whoever uses them."""

import collections
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pals_jax.data.source import Example, Examples

_THREADS = 4
_AHEAD = 8  # examples decoded but not yet used, which bounds the memory


def read_ahead(examples: Examples) -> Iterator[Example]:
    """Yields every example once, in order, decoding in threads."""
    indices = iter(range(len(examples)))
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = collections.deque(
            pool.submit(examples.__getitem__, index) for index in itertools.islice(indices, _AHEAD)
        )
        while waiting:
            example = waiting.popleft().result()
            for index in itertools.islice(indices, 1):
                waiting.append(pool.submit(examples.__getitem__, index))
            yield example
