import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_maps import draw_maps, padded
from scipy import ndimage

from pals_jax.metrics import TRIMAP_WIDTHS, Trimap, confusion_matrix

seeds = st.integers(0, 2**16)
of_batch = jax.jit(Trimap.of_batch, static_argnums=(2, 3), static_argnames="widths")


def plain(labels, predictions, num_classes, ignore, widths=TRIMAP_WIDTHS):
    """The distance of each pixel to the nearest one of another label, label by label."""
    confusion = np.zeros((len(widths), num_classes, num_classes), int)
    for truth, guess in zip(labels, predictions, strict=True):
        distance = np.full(truth.shape, np.inf)
        for value in np.unique(truth):
            mask = truth == value
            if not mask.all():
                distance[mask] = ndimage.distance_transform_cdt(mask, "chessboard")[mask]
        for row, width in enumerate(widths):
            near = (distance <= width) & (truth != ignore)
            np.add.at(confusion[row], (truth[near], guess[near]), 1)
    return confusion


def test_trimap_by_hand():
    labels = np.array([[[0, 0, 0, 1, 1, 1, 1, 1, 255]]])
    predictions = np.array([[[1, 0, 0, 0, 1, 1, 0, 1, 0]]])
    # The contours run between columns 2 and 3 and between 7 and 8.
    found = Trimap.of_batch(labels, predictions, 2, 255, widths=(1, 2, 3))
    assert found.confusion.tolist() == [[[1, 0], [1, 1]], [[2, 0], [2, 2]], [[2, 1], [2, 3]]]
    assert found.confusion.dtype == np.int32
    curve = found.result((1, 2, 3))
    assert curve == pytest.approx({"1": (1 / 2 + 1 / 2) / 2, "2": 1 / 2, "3": (2 / 5 + 3 / 6) / 2})


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_trimap_agrees_with_distances_to_other_labels(seed):
    labels, predictions = draw_maps(seed)
    found = of_batch(labels, predictions, 4, 255).confusion
    np.testing.assert_array_equal(found, plain(labels, predictions, 4, 255))


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_padding_changes_nothing(seed):
    labels, predictions = draw_maps(seed)
    valid, guess = padded(np.ones(labels.shape, bool), False), padded(predictions, 1)
    for beyond in (255, 2):
        found = of_batch(padded(labels, beyond), guess, 4, 255, valid).confusion
        np.testing.assert_array_equal(found, plain(labels, predictions, 4, 255))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, cuts=st.sets(st.integers(1, 4)))
def test_parts_merge_to_the_whole_set(seed, cuts):
    labels, predictions = draw_maps(seed, (5, 12, 17))
    merged = Trimap.empty(4)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 5], strict=True):
        merged = merged.merge(of_batch(labels[start:stop], predictions[start:stop], 4, 255))
    np.testing.assert_array_equal(merged.confusion, plain(labels, predictions, 4, 255))
    assert merged.confusion.dtype == np.int64


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_huge_width_counts_every_pixel_of_an_image_with_a_contour(seed):
    labels, predictions = draw_maps(seed)
    labels[0] = 1  # an image without one
    found = of_batch(labels, predictions, 4, 255, widths=(1, 1000)).confusion
    expected = confusion_matrix(labels[1:], predictions[1:], 4, 255)
    np.testing.assert_array_equal(found[1], expected)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_perfect_prediction_has_miou_one_at_every_width(seed):
    labels, _ = draw_maps(seed)
    found = Trimap.empty(4).update(labels, np.where(labels == 255, 3, labels), 255).result()
    assert found == dict.fromkeys(["1", "2", "4", "8", "16"], 1.0)


def test_nothing_counted():
    labels = np.zeros((2, 3, 4), int)
    nowhere = np.zeros((2, 3, 4), bool)
    assert not of_batch(labels, labels, 2, 255).confusion.any()  # there is no contour
    assert not of_batch(labels, labels, 2, 255, nowhere).confusion.any()
    assert all(map(np.isnan, Trimap.empty(2).result().values()))


def test_values_outside_the_classes_are_named_or_do_not_count():
    labels, predictions = draw_maps(3)
    spoiled = labels.copy()
    spoiled[0, 3:6, 7:9] = 9
    with pytest.raises(ValueError, match=r"labels.*\[9\] \(6 pixels\)"):
        Trimap.of_batch(spoiled, predictions, 4, 255)
    # Values are unknown while a jitted function is traced: such pixels do not count.
    ignored = np.where(spoiled == 9, 255, spoiled)
    found = of_batch(spoiled, predictions, 4, 255).confusion
    np.testing.assert_array_equal(found, plain(ignored, predictions, 4, 255))


@pytest.mark.parametrize("widths", [(2, 1), (0, 1), (1, 1)])
def test_widths_that_do_not_ascend_are_refused(widths):
    labels = np.zeros((1, 3, 4), int)
    with pytest.raises(ValueError, match="widths must ascend"):
        Trimap.of_batch(labels, labels, 2, 255, widths=widths)
