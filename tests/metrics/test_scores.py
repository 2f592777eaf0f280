import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax.metrics import ProperScores


def plain(probs, labels, ignore):
    """The definitions once more, pixel by pixel in float64."""
    counted = np.asarray(labels) != ignore
    probs, labels = np.asarray(probs, np.float64)[counted], np.asarray(labels)[counted]
    likelihood = probs[np.arange(len(labels)), labels]
    truth = np.eye(probs.shape[-1])[labels]
    return {"nll": -np.log(likelihood).mean(), "brier": np.square(probs - truth).sum(-1).mean()}


def test_scores_by_hand():
    probs = jnp.array([[[0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [np.nan] * 3]])
    labels = jnp.array([[0, 2, 0, 255]])
    found = ProperScores.empty().update(probs, labels, 255)
    assert found.pixels == 3
    # The third pixel is sure and wrong: the worst Brier score, and the floor under its likelihood.
    assert found.brier == pytest.approx(0.375 + 0 + 2)
    assert found.nll == pytest.approx(math.log(2) + 0 - math.log(2.0**-126), rel=1e-6)
    assert found.result() == pytest.approx({"nll": found.nll / 3, "brier": 2.375 / 3})


def test_nothing_counted():
    of_ignored = ProperScores.of_batch(jnp.ones((1, 2, 3)), jnp.full((1, 2), 255), 255)
    for empty in (ProperScores.empty(), of_ignored):
        assert all(map(np.isnan, empty.result().values()))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_probabilities_of_half_precision_are_summed_in_float32(dtype):
    rng = np.random.default_rng(0)
    probs = jnp.asarray(rng.dirichlet(np.ones(150), (1, 50)), dtype)
    labels = jnp.asarray(rng.integers(0, 150, (1, 50)))
    found = ProperScores.empty().update(probs, labels, 255).result()
    assert found == pytest.approx(plain(probs, labels, 255), rel=1e-5)


def test_millions_of_pixels_agree_with_float64():
    rng = np.random.default_rng(0)
    # Sure pixels and unsure ones, the scores of which differ by orders of magnitude.
    logits = rng.normal(size=(2, 1024, 1536, 5)) * rng.choice([0.1, 1, 8], (2, 1024, 1536, 1))
    probs = np.asarray(jax.nn.softmax(jnp.asarray(logits, jnp.float32)))
    labels = np.where(rng.random(probs.shape[:3]) < 0.8, probs.argmax(-1), 0)
    labels[rng.random(labels.shape) < 0.1] = 255
    found = ProperScores.empty()
    for image, label in zip(probs, labels, strict=True):
        found = found.update(jnp.asarray(image), jnp.asarray(label), 255)
    assert found.result() == pytest.approx(plain(probs, labels, 255), rel=1e-6)


def test_the_same_pixel_millions_of_times_is_not_rounded_away():
    probs = jnp.full((1, 2048, 2048, 2), jnp.array([0.97, 0.03]))
    labels = jnp.zeros((1, 2048, 2048), int)
    found = ProperScores.empty().update(probs, labels, 255).result()
    p = np.float64(np.float32(0.97))
    brier = (1 - p) ** 2 + np.float64(np.float32(0.03)) ** 2
    assert found == pytest.approx({"nll": -np.log(p), "brier": brier}, rel=1e-6)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), cuts=st.sets(st.integers(1, 5)))
def test_parts_merge_to_the_whole_set(seed, cuts):
    rng = np.random.default_rng(seed)
    probs = jnp.asarray(rng.dirichlet(np.ones(4), (6, 5, 7)), jnp.float32)
    labels = jnp.asarray(rng.choice([0, 1, 2, 3, 255], (6, 5, 7)))
    merged = ProperScores.empty()
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 6], strict=True):
        part = ProperScores.of_batch(probs[start:stop], labels[start:stop], 255)
        merged = ProperScores.empty().merge(part).merge(merged)
    assert merged.result() == pytest.approx(plain(probs, labels, 255), rel=1e-6)


def test_labels_outside_the_classes_are_refused_or_skipped():
    probs, labels = jnp.array([[[0.9, 0.1], [0.2, 0.8]]]), jnp.array([[0, 7]])
    with pytest.raises(ValueError, match="labels"):
        ProperScores.of_batch(probs, labels, 255)
    counted = jax.jit(lambda p, y: ProperScores.of_batch(p, y, 255))(probs, labels)
    assert counted.pixels.sum() == 1
    assert counted.brier.sum() == pytest.approx(0.02)
