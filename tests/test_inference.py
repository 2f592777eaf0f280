import collections
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import draw_example

from pals_jax import inference, sharding

sizes = st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), min_size=1, max_size=60)


def test_few_sizes_are_not_padded():
    assert inference.padded_shapes([(3, 4), (5, 6), (3, 4)], most=2) == {
        (3, 4): (3, 4),
        (5, 6): (5, 6),
    }


def test_the_cheapest_pair_is_merged():
    # Merging the two wide shapes adds 10 + 0 pixels; any other pair adds far more.
    shapes = inference.padded_shapes([(10, 100), (10, 101), (100, 10)], most=2)
    assert shapes == {(10, 100): (10, 101), (10, 101): (10, 101), (100, 10): (100, 10)}


@given(sizes=sizes, most=st.integers(1, 5))
def test_every_size_fits_its_shape_and_shapes_are_few(sizes, most):
    shapes = inference.padded_shapes(sizes, most)
    assert set(shapes) == set(sizes)
    assert len(set(shapes.values())) <= max(most, 1)
    for (height, width), (padded_height, padded_width) in shapes.items():
        assert padded_height >= height
        assert padded_width >= width


def test_thousands_of_sizes_are_merged_quickly():
    rng = np.random.default_rng(0)
    sizes = [tuple(size) for size in rng.integers(300, 501, (3000, 2)).tolist()]
    shapes = inference.padded_shapes(sizes, most=4)
    padded = sum(math.prod(shapes[size]) for size in sizes)
    assert padded < 1.4 * sum(map(math.prod, sizes))


def test_every_example_comes_once_with_its_own_pixels():
    examples = [
        draw_example(i, size) for i, size in enumerate([(8, 9), (4, 20), (8, 9), (5, 5), (8, 9)])
    ]
    shapes = inference.padded_shapes(inference.sizes_of(examples), most=2)
    seen = collections.Counter()
    for batch in inference.padded_batches(
        examples, shapes, dict.fromkeys(shapes.values(), 2), ignore=255
    ):
        assert len(batch.image) == 2
        for row, (name, (height, width)) in enumerate(zip(batch.ids, batch.sizes, strict=True)):
            example = next(e for e in examples if e["id"] == name)
            seen[name] += 1
            np.testing.assert_array_equal(batch.image[row, :height, :width], example["image"])
            np.testing.assert_array_equal(batch.label[row, :height, :width], example["label"])
            assert batch.valid[row].sum() == height * width
            assert (batch.label[row][~batch.valid[row]] == 255).all()
        for row in range(len(batch.ids), 2):
            assert not batch.valid[row].any()
            assert (batch.label[row] == 255).all()
    assert seen == collections.Counter({e["id"]: 1 for e in examples})


def test_examples_without_labels():
    examples = [{"image": np.zeros((4, 4, 3), np.uint8), "id": "a"}]
    (batch,) = inference.padded_batches(examples, {(4, 4): (4, 4)}, {(4, 4): 1}, 255)
    assert batch.label is None


@pytest.mark.parametrize(("devices", "expected"), [(1, [3, 2, 1]), (4, [4, 4, 4])])
def test_rows_are_no_more_than_needed_and_divide_by_the_devices(devices, expected):
    sizes = [(8, 8)] * 5 + [(8, 9)] * 2 + [(5000, 4000)] * 3  # 20 megapixels come alone
    shapes = inference.padded_shapes(sizes, most=3)
    rows = inference.rows_per_shape(sizes, shapes, 19, 3, sharding.data_mesh(devices))
    assert [rows[shape] for shape in [(8, 8), (8, 9), (5000, 4000)]] == expected


def test_how_far_it_is_is_told_now_and_then(monkeypatch, capsys):
    ids = [["a", "b"], ["c"], ["d"], ["e", "f"]]
    shapes = [(2, 4), (2, 4), (2, 8), (2, 4)]
    batches = [
        inference.PaddedBatch(np.zeros(shape), np.zeros(0), None, names, [])
        for shape, names in zip(shapes, ids, strict=True)
    ]
    clock = iter([0.0, 20.0, 40.0, 140.0, 160.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    assert list(inference.told(batches, 6, "evaluated")) == batches
    assert capsys.readouterr().out == (
        "evaluated 2/6 images\nevaluated 3/6 images  ETA 1:00\n"
        "evaluated 4/6 images  ETA 0:40\nevaluated 6/6 images  ETA 0:00\n"
    )
    clock = iter([0.0, 20.0, 21.0, 22.0, 23.0])
    assert list(inference.told(batches, 6, "predicted")) == batches
    assert capsys.readouterr().out == "predicted 2/6 images\npredicted 6/6 images\n"
