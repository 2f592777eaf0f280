import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_maps import draw_maps, padded
from scipy import ndimage

from pals_jax.metrics import Boundary
from pals_jax.metrics.boundary import distance_of

seeds = st.integers(0, 2**16)
of_batch = jax.jit(Boundary.of_batch, static_argnums=(2, 3))


def plain(labels, predictions, num_classes, ignore):
    """The published way: each class's mask without what is left of it after d erosions."""
    counts = np.zeros((3, num_classes), int)
    for truth, guess in zip(labels, predictions, strict=True):
        d = max(1, round(0.02 * np.hypot(*truth.shape)))
        guess = np.where(truth == ignore, ignore, guess)
        for k in range(num_classes):
            g, p = (
                mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), d, border_value=0)
                for mask in (truth == k, guess == k)
            )
            counts[:, k] += (g & p).sum(), g.sum(), p.sum()
    return counts


def assert_equal(found, expected):
    for name, one, other in zip(Boundary._fields, found, expected, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_boundary_by_hand():
    labels = np.zeros((1, 6, 6), int)
    labels[0, :, 3:] = 1
    labels[0, 5, 5] = 255
    predictions = np.zeros((1, 6, 6), int)  # class 1 is one column too narrow
    predictions[0, :, 4:] = 1
    # d = 1. Class 0: the rims of 6×3 and of 6×4 pixels share three sides of the former, but for the
    # corners of its fourth. Class 1: the truth's rim lacks the ignored corner but has the pixel
    # that touches it; of its 14 pixels, 8 are in the last two columns, where the prediction is.
    found = Boundary.of_batch(labels, predictions, 3, 255)
    assert_equal(found, ([10, 8, 0], [14, 14, 0], [16, 11, 0]))
    assert found.truth.dtype == np.int32


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_boundary_agrees_with_erosion_of_each_mask(seed):
    labels, predictions = draw_maps(seed)
    assert_equal(of_batch(labels, predictions, 4, 255), plain(labels, predictions, 4, 255))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (45, 60), (100, 75), (180, 240)])
def test_the_distance_is_that_of_each_size(shape):
    labels, predictions = draw_maps(1, (2, *shape))
    assert_equal(of_batch(labels, predictions, 4, 255), plain(labels, predictions, 4, 255))


def test_ties_of_the_distance_are_rounded_as_published():
    sizes = np.array([(h, w) for h in range(1, 400, 3) for w in range(1, 400)] + [(0, 0)])
    multiples = [(15 * n, 20 * n) for n in range(1, 60)]  # a diagonal of 25 n
    sizes = np.concatenate([sizes, multiples])
    found = distance_of(*np.asarray(sizes).T, (885, 1180))
    expected = [max(1, round(0.02 * np.hypot(*size))) for size in sizes]
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_padding_changes_nothing(seed):
    labels, predictions = draw_maps(seed)
    valid = padded(np.ones(labels.shape, bool), False, (40, 90))  # the padded diagonal has d = 3
    rng = np.random.default_rng(seed)
    guess = padded(predictions, 0, (40, 90))
    guess = np.where(valid, guess, rng.integers(0, 4, guess.shape))
    for beyond in (255, 2):
        found = of_batch(padded(labels, beyond, (40, 90)), guess, 4, 255, valid)
        assert_equal(found, plain(labels, predictions, 4, 255))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, cuts=st.sets(st.integers(1, 4)))
def test_parts_merge_to_the_whole_set(seed, cuts):
    labels, predictions = draw_maps(seed, (5, 12, 17))
    merged = Boundary.empty(4)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 5], strict=True):
        merged = merged.merge(of_batch(labels[start:stop], predictions[start:stop], 4, 255))
    assert_equal(merged, plain(labels, predictions, 4, 255))
    assert merged.truth.dtype == np.int64


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_perfect_prediction_has_boundary_iou_one(seed):
    labels, _ = draw_maps(seed)
    anything = np.where(labels == 255, 3, labels)
    found = Boundary.empty(4).update(labels, anything, 255).result()
    occurring = np.isin(np.arange(4), labels)
    np.testing.assert_array_equal(found["iou"], np.where(occurring, 1, np.nan))
    assert found["mean_iou"] == 1


def test_result_by_hand():
    found = Boundary(np.array([3, 0, 0]), np.array([4, 0, 0]), np.array([5, 2, 0])).result()
    np.testing.assert_allclose(found["iou"], [3 / 6, 0, np.nan])
    assert found["mean_iou"] == pytest.approx(0.25)


def test_nothing_counted():
    nowhere = np.zeros((1, 3, 4), bool)
    labels = np.zeros((1, 3, 4), int)
    assert_equal(of_batch(labels, labels, 2, 255, nowhere), np.zeros((3, 2)))
    assert np.isnan(Boundary.empty(2).result()["mean_iou"])


def test_values_outside_the_classes_are_named_or_do_not_count():
    labels, predictions = draw_maps(3)
    spoiled = labels.copy()
    spoiled[0, 3:6, 7:9] = 9
    with pytest.raises(ValueError, match=r"labels.*\[9\] \(6 pixels\)"):
        Boundary.of_batch(spoiled, predictions, 4, 255)
    with pytest.raises(ValueError, match=r"predictions.*\[255\]"):
        Boundary.of_batch(labels, np.full_like(labels, 255), 4, 255)
    # Values are unknown while a jitted function is traced: such pixels do not count.
    ignored = np.where(spoiled == 9, 255, spoiled)
    assert_equal(of_batch(spoiled, predictions, 4, 255), plain(ignored, predictions, 4, 255))


def test_shapes_that_do_not_fit_are_named():
    image = np.zeros((4, 5), int)
    with pytest.raises(ValueError, match=r"\[B,H,W\], found \(4, 5\)"):
        Boundary.of_batch(image, image, 2, 255)
    with pytest.raises(ValueError, match=r"\(1, 4, 5\).*\(1, 4, 4\)"):
        Boundary.of_batch(image[None], image[None, :, :4], 2, 255)
