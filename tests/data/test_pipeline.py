"""Batches: every image once an epoch, never a partial batch, and the same ones after a restart."""

import json
from itertools import islice

import numpy as np
import pytest

from pals_jax.data.augment import Augmentation
from pals_jax.data.errors import DataError
from pals_jax.data.pipeline import TrainBatches

CROP = Augmentation(crop=(8, 10), ignore=255, photometric=False)


@pytest.fixture
def batches(memory_source):
    """Makes pipelines over n images, and closes them."""
    made = []

    def make(n=5, source=None, **options):
        options = {"batch_size": 2, "augmentation": CROP, "seed": 0} | options
        made.append(TrainBatches(memory_source(n) if source is None else source, **options))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.close()


def take(pipeline, count):
    return [batch["labeled"] for batch in islice(pipeline, count)]


def drawn(pipeline, count):
    return [key for batch in take(pipeline, count) for key in batch["id"].tolist()]


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert one["id"].tolist() == other["id"].tolist()
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_a_batch(batches):
    (batch,) = take(batches(), 1)
    assert set(batch) == {"image", "label", "id"}
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 8, 10, 3), np.uint8)
    assert (batch["label"].shape, batch["label"].dtype) == ((2, 8, 10), np.int32)
    assert batch["id"].shape == (2,)


def test_an_epoch_visits_every_image_once_in_a_new_order(batches):
    keys = drawn(batches(n=20, batch_size=4), 15)
    epochs = [keys[:20], keys[20:40], keys[40:]]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_batches_run_across_the_end_of_an_epoch(batches):
    keys = drawn(batches(n=5, batch_size=2), 5)
    assert sorted(keys) == sorted([f"id{i}" for i in range(5)] * 2)
    assert len(set(keys[:5])) == 5


def test_batches_of_one_image(batches):
    keys = drawn(batches(n=3, batch_size=1), 6)
    assert sorted(keys[:3]) == sorted(keys[3:])
    assert len(set(keys)) == 3


def test_fewer_images_than_a_batch_are_enough(batches):
    (batch,) = take(batches(n=2, batch_size=6), 1)
    assert sorted(batch["id"].tolist()) == ["id0"] * 3 + ["id1"] * 3
    views = {view.tobytes() for view in batch["label"]}
    assert len(views) == 6  # each its own view


def test_the_seed_decides_order_and_views(batches):
    assert_same(take(batches(seed=3), 6), take(batches(seed=3), 6))
    first, other = take(batches(seed=3), 6), take(batches(seed=4), 6)
    assert [b["id"].tolist() for b in first] != [b["id"].tolist() for b in other]


@pytest.mark.parametrize("done", [0, 1, 4, 13])
def test_a_restart_continues_bit_for_bit(batches, done):
    options = {"n": 7, "batch_size": 3, "threads": 3}
    through = batches(**options)
    take(through, done)
    state = json.loads(json.dumps(through.get_state()))
    rest = take(through, 6)

    fresh = batches(**options)
    fresh.set_state(state)
    assert_same(take(fresh, 6), rest)
    through.set_state(state)  # going back works too
    assert_same(take(through, 6), rest)


def test_the_state_does_not_run_ahead_with_the_prefetching(batches):
    pipeline = batches(threads=4)
    take(pipeline, 3)
    assert pipeline.get_state()["position"] == 3


def test_threads_and_workers_change_nothing(batches):
    expected = take(batches(threads=0), 5)
    assert_same(take(batches(threads=4), 5), expected)
    processes = batches(threads=1, workers=2)
    assert_same(take(processes, 3), expected[:3])
    state = processes.get_state()
    assert_same(take(processes, 2), expected[3:])
    alone = batches()
    alone.set_state(state)
    assert_same(take(alone, 2), expected[3:])


def test_a_state_of_other_images_is_refused(batches):
    state = batches(n=5).get_state()
    with pytest.raises(DataError, match="are others than before"):
        batches(n=6).set_state(state)


def test_no_images_are_refused(batches, memory_source):
    with pytest.raises(DataError, match="no image to train on"):
        batches(source=memory_source(3).select([]))


def test_closing_ends_the_iteration(batches):
    pipeline = batches()
    take(pipeline, 1)
    pipeline.close()
    pipeline.close()
    assert take(pipeline, 1) == []


def test_a_damaged_record_is_an_error_in_the_loop_and_not_a_skipped_image(batches, memory_source):
    source = memory_source(3)
    source.ids = ("id0", "wrong", "id2")
    with pytest.raises(DataError, match="expected 'wrong', found 'id1'"):
        take(batches(source=source), 3)
