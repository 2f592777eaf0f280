"""Which ids a specification selects."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pals_jax.data.errors import DataError
from pals_jax.data.subsets import ids_hash, nested_subset, select, split_dev

IDS = [f"drive{d}/{i:03d}" for d in "ab" for i in range(10)]
ids_in_any_order = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=40, unique=True)
fractions = st.floats(0, 1, exclude_min=True)


def test_the_permutation_never_changes():
    chosen = nested_subset([f"image_{i}" for i in range(8)], 0.5, 3)
    assert chosen == ["image_6", "image_4", "image_2", "image_5"]


@given(ids_in_any_order, fractions, fractions, st.integers(0, 9))
def test_smaller_parts_are_prefixes_of_larger_ones(ids, one, other, seed):
    small, large = (nested_subset(ids, part, seed) for part in sorted((one, other)))
    assert large[: len(small)] == small
    assert len(small) == max(1, round(min(one, other) * len(ids)))
    assert set(large) <= set(ids)
    assert len(set(large)) == len(large)


@given(ids_in_any_order, fractions, st.randoms())
def test_the_order_of_the_ids_does_not_matter(ids, fraction, random):
    shuffled = random.sample(ids, len(ids))
    assert nested_subset(ids, fraction, 0) == nested_subset(shuffled, fraction, 0)
    assert ids_hash(ids) == ids_hash(shuffled)


def test_every_id_is_chosen_equally_often():
    counts = dict.fromkeys(IDS, 0)
    for seed in range(2000):
        for key in nested_subset(IDS, 0.25, seed):
            counts[key] += 1
    assert all(abs(count - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5 for count in counts.values())


@pytest.mark.parametrize("fraction", [0, -0.1, 1.001, float("nan")])
def test_a_fraction_outside_the_unit_interval_is_refused(fraction):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        nested_subset(IDS, fraction, 0)


def test_no_ids_and_repeated_ids_are_refused():
    with pytest.raises(DataError, match="no ids"):
        nested_subset([], 0.5, 0)
    with pytest.raises(DataError, match="not distinct"):
        nested_subset(["a", "a"], 0.5, 0)


@pytest.mark.parametrize("spec", ["", "1.0", "1"])
def test_everything(spec):
    assert select(IDS[::-1], spec, 0) == IDS


def test_a_fraction_is_the_nested_subset_sorted():
    assert select(IDS, "0.25", 7) == sorted(nested_subset(IDS, 0.25, 7))


def test_a_count_is_explained():
    with pytest.raises(DataError, match=r"for 5 of 20 images give 0\.25"):
        select(IDS, "5", 0)
    with pytest.raises(DataError, match=r"21 % is 0\.21; there are 20 images: leave it empty"):
        select(IDS, "21", 0)
    with pytest.raises(DataError, match=r"must lie in \(0, 1\], got inf"):
        select(IDS, "inf", 0)


def test_a_prefix():
    assert select(IDS, "prefix:driveb", 0) == IDS[10:]


def test_a_prefix_that_selects_nothing_names_some_ids():
    with pytest.raises(
        DataError, match=r"'prefix:x' selects none of 20 ids: drivea/000, .*20 in all"
    ):
        select(IDS, "prefix:x", 0)


def test_anything_else_is_explained():
    with pytest.raises(DataError, match=r"'1_16' is neither a fraction.*list as voc_classic/92"):
        select(IDS, "1_16", 0)
    with pytest.raises(DataError, match=r"'tenth' is neither a fraction"):
        select(IDS, "tenth", 0)


@pytest.mark.parametrize("dev", ["", "0.2", "prefix:driveb"])
def test_train_and_dev_part_the_ids(dev):
    train, held_out = split_dev(IDS[::-1], dev, 0)
    assert sorted(train + held_out) == IDS
    assert len(held_out) == {"": 0, "0.2": 4, "prefix:driveb": 10}[dev]
    assert train == sorted(train)


def test_a_dev_part_that_takes_all_is_refused():
    with pytest.raises(DataError, match="none is left to train on"):
        split_dev(IDS, "1.0", 0)
    with pytest.raises(DataError, match="the subset lists all 20 ids; none is left to hold out"):
        split_dev(IDS, "0.5", 0, listed=IDS)


def test_ids_hash_is_that_of_the_sorted_lines():
    assert ids_hash(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()[:16]
    assert ids_hash(["a"]) != ids_hash(["b"])
