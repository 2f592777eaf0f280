import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pals_jax import metrics


def test_calibration_refuses_or_skips_what_the_confusion_matrix_does():
    probs, labels = jnp.array([[[0.9, 0.1], [0.2, 0.8]]]), jnp.array([[0, 7]])
    with pytest.raises(ValueError, match="labels"):
        metrics.Calibration.of_batch(probs, labels, 255)
    counted = jax.jit(lambda p, y: metrics.Calibration.of_batch(p, y, 255))(probs, labels)
    assert counted.pixels.sum() == 1


def test_calibration_by_hand():
    # Confidences 0.9 (right), 0.8 (wrong), 0.6 (right), and one ignored pixel.
    probs = jnp.array([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [1.0, 0.0]]])
    labels = jnp.array([[0, 0, 0, 255]])
    found = metrics.Calibration.empty(5).update(probs, labels, 255).result()
    # Bins of 0.2: 0.6 falls in (0.4, 0.6], 0.8 in (0.6, 0.8], 0.9 in (0.8, 1].
    assert found["count"] == [0, 0, 1, 1, 1]
    assert found["accuracy"] == [None, None, 1.0, 0.0, 1.0]
    assert found["ece"] == pytest.approx((0.4 + 0.8 + 0.1) / 3, abs=1e-6)


def test_calibration_merges_to_that_of_the_whole_set():
    rng = np.random.default_rng(0)
    probs = jnp.asarray(rng.dirichlet(np.ones(3), (4, 5, 6)), jnp.float32)
    labels = jnp.asarray(rng.choice([0, 1, 2, 255], (4, 5, 6)))
    whole = metrics.Calibration.empty().update(probs, labels, 255)
    parts = metrics.Calibration.empty()
    for i in range(4):
        parts = parts.merge(metrics.Calibration.of_batch(probs[i], labels[i], 255))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    # The definition once more, pixel by pixel in float64.
    valid = np.asarray(labels) != 255
    confidence = np.asarray(probs, np.float64).max(-1)[valid]
    right = (np.asarray(probs).argmax(-1) == np.asarray(labels))[valid]
    bins = np.ceil(confidence * 15).astype(int) - 1
    gaps = [abs(right[bins == b].sum() - confidence[bins == b].sum()) for b in range(15)]
    assert whole.result()["ece"] == pytest.approx(sum(gaps) / valid.sum(), rel=1e-5)


def test_calibration_of_millions_of_pixels_is_not_rounded_away():
    # A float32 running sum of 4 million values near 0.97 would be off by percents.
    probs = jnp.full((1, 2048, 2048, 2), jnp.array([0.97, 0.03]))
    labels = jnp.zeros((1, 2048, 2048), int)
    found = metrics.Calibration.empty().update(probs, labels, 255).result()
    assert found["ece"] == pytest.approx(0.03, abs=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_probabilities_of_half_precision_are_summed_in_float32(dtype):
    probs = jnp.tile(jnp.array([0.9, 0.1], dtype), (1, 100, 1))
    labels = jnp.array([[0] * 90 + [1] * 10])
    found = metrics.Calibration.empty().update(probs, labels, 255).result()
    assert found["ece"] == pytest.approx(abs(float(probs[0, 0, 0]) - 0.9), abs=1e-6)


def test_nothing_counted():
    assert np.isnan(metrics.Calibration.empty().result()["ece"])
