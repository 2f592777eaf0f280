import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax import metrics


def test_confusion_matrix_by_hand():
    labels = jnp.array([[0, 0, 1, 2, 255]])
    predictions = jnp.array([[0, 1, 1, 0, 2]])
    found = metrics.confusion_matrix(labels, predictions, 3, 255)
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    assert found.dtype == jnp.int32


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64])
def test_confusion_is_the_same_for_every_integer_type(dtype):
    labels = np.arange(100).reshape(10, 10) % 19
    confusion = metrics.confusion_matrix(labels.astype(dtype), labels.astype(dtype), 19, 100)
    np.testing.assert_array_equal(confusion, np.diag(np.bincount(labels.ravel())))


@pytest.mark.parametrize(
    ("labels", "predictions", "told"),
    [
        ([-1, 0, 3, 7], [0, 0, 0, 0], r"labels.*0\.\.2 and ignore=255: \[-1, 3, 7\] \(3 pixels\)"),
        ([0, 255], [3, 0], r"predictions.*\[3\]"),
    ],
)
def test_values_outside_the_classes_are_named(labels, predictions, told):
    labels, predictions = np.array(labels), np.array(predictions)
    with pytest.raises(ValueError, match=told):
        metrics.confusion_matrix(labels, predictions, 3, 255)
    # Values are unknown while a jitted function is traced: such pixels do not count.
    counted = jax.jit(lambda a, b: metrics.confusion_matrix(a, b, 3, 255))(labels, predictions)
    assert counted.sum() == (labels == 0).sum() - (predictions == 3).sum()


def test_classes_that_are_no_integers_are_refused():
    with pytest.raises(ValueError, match="predictions must be an integer, found float32"):
        metrics.confusion_matrix(np.array([1]), np.array([1.7], np.float32), 3, 255)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_confusion_matrix_counts_every_valid_pixel_once(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 3, 7], (2, 5, 6))
    predictions = rng.integers(0, 4, (2, 5, 6))
    found = np.asarray(
        metrics.confusion_matrix(jnp.asarray(labels), jnp.asarray(predictions), 4, 7)
    )
    expected = np.zeros((4, 4), int)
    for truth, guess in zip(labels.ravel(), predictions.ravel(), strict=True):
        if truth != 7:
            expected[truth, guess] += 1
    np.testing.assert_array_equal(found, expected)


def test_iou_by_hand():
    confusion = np.array([[3, 1, 0, 0], [2, 4, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0]])
    found = metrics.iou(confusion)
    # Class 2 is predicted but never true: 0, not absent. Class 3 is true but never predicted: 0.
    np.testing.assert_allclose(found, [3 / 6, 4 / 7, 0, 0])
    assert metrics.mean_iou(confusion) == pytest.approx((3 / 6 + 4 / 7) / 4)
    assert metrics.pixel_accuracy(confusion) == pytest.approx(7 / 15)


def test_absent_classes_do_not_count():
    confusion = np.array([[3, 0, 1], [0, 0, 0], [0, 0, 4]])
    found = metrics.iou(confusion)
    assert np.isnan(found[1])
    assert metrics.mean_iou(confusion) == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_nothing_counted():
    empty = np.zeros((2, 2))
    assert np.isnan(metrics.iou(empty)).all()
    assert np.isnan(metrics.mean_iou(empty))
    assert np.isnan(metrics.pixel_accuracy(empty))


def test_mean_iou_of_a_set_is_not_the_mean_over_its_images():
    first, second = np.array([[9, 1], [0, 0]]), np.array([[0, 0], [5, 5]])
    together = metrics.mean_iou(first + second)
    apart = (metrics.mean_iou(first) + metrics.mean_iou(second)) / 2
    assert together == pytest.approx((9 / 15 + 5 / 11) / 2)
    assert together != pytest.approx(apart)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 3\)"):
        metrics.confusion_matrix(jnp.zeros((1, 2), int), jnp.zeros((1, 3), int), 2, 255)
