"""Endless shuffled batches of training views, read by grain, with a position that can be saved."""

import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

from pals_jax.data.augment import Augmentation, augment
from pals_jax.data.errors import DataError
from pals_jax.data.source import Example, Source

Batch = dict[str, dict[str, Any]]


class TrainBatches(Iterator[Batch]):
    """Iterates over `{"labeled": {"image", "label", "id"}}` for ever.

    "image" is uint8 [B, h, w, 3], "label" int32 [B, h, w], "id" an array of B strings.

    Every epoch visits each image once, in a new order; batches run across the end of an epoch, so
    none is partial, no image is dropped, and fewer images than a batch holds are enough. Batch n is
    a pure function of (source, batch size, augmentation, seed, n): neither threads nor workers
    nor a restart change it, and the position is that one number.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        threads: int = 2,
        workers: int = 0,
    ):
        """Prepares the pipeline; reading starts with the first batch.

        Args:
          source: the images to train on.
          batch_size: B.
          augmentation: strengths of the random views.
          seed: of the order and of the views.
          threads: batches made at the same time in each process; as many wait finished at most.
          workers: processes that make batches; 0 keeps to threads of this one.
        """
        import grain

        if not len(source):
            raise DataError("there is no image to train on.")
        self._data_hash = source.data_hash
        self._options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        self._multiprocessing = grain.MultiprocessingOptions(num_workers=workers)
        views: grain.MapDataset[Example] = (
            grain.MapDataset.source(source)
            .seed(seed)
            .shuffle()
            .repeat()
            .random_map(partial(augment, options=augmentation))
        )
        # Endless, so nothing remains; grain counts batches of 1 as one too many where it looks.
        self._batches = views.batch(batch_size, drop_remainder=True)
        self._iterator: Any = None
        self._start(0)

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        batch = next(self._iterator)
        self._position += 1
        return {"labeled": batch}

    def get_state(self) -> dict[str, Any]:
        """The position behind the last batch that was handed out, fit for JSON."""
        return {"position": self._position, "data": self._data_hash}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues behind a saved position, with the very batches that would have followed.

        Raises:
          DataError: the state was saved with other images.
        """
        before = state.get("data", self._data_hash)  # an earlier version saved none
        if before != self._data_hash:
            raise DataError(
                "cannot resume: images or labels of the training split are others than before "
                f"(hash {before}, now {self._data_hash}). Restore them, or use another --workdir."
            )
        self.close()
        self._start(state["position"])

    def close(self) -> None:
        """Stops threads and workers; the iteration is over."""
        if self._iterator is not None:
            self._iterator.close()
        # Let go of it now: grain's iterators complain when they are deleted at interpreter exit.
        self._iterator = None

    def _start(self, position: int) -> None:
        # A slice, not grain's own state, so that threads and workers do not enter the position.
        remaining = self._batches[position:].to_iter_dataset(self._options)
        if self._multiprocessing.num_workers:
            remaining = remaining.mp_prefetch(self._multiprocessing, _leave_interrupts_to_parent)
        self._position = position
        self._iterator = iter(remaining)


def _leave_interrupts_to_parent(worker: int, workers: int) -> None:
    """A terminal sends Ctrl-C to all processes; a worker that died of it would end the training
    before it has saved.
    """
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
