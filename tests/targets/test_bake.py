"""BAKE-style spreading against the solution of its linear system."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inputs import make_inputs, q_of

from configs.sweeps.camvid_search import PLAIN
from pals_jax import affinity
from pals_jax.targets import Bake


def spread(inputs, **options):
    """Q itself: α = 1 leaves nothing of the label."""
    options = PLAIN | {"alpha": 1.0, "ramp": "constant"} | options
    target = Bake(inputs.labels.probs.shape[-1], **options)
    return jax.jit(target.apply)(inputs, {}, jnp.float32(1))[0].probs


def test_many_iterations_solve_the_linear_system():
    inputs = make_inputs(seed=1, ignored=0)
    features = inputs.outputs.features.reshape(2, 24, 5)
    matrix, _ = affinity.affinity_matrix(
        features,
        jnp.ones((2, 24), bool),
        None,
        affinity.Kernel("exp_cosine", 0.1, 1.0),
        exclude_self=True,
    )
    probs = np.asarray(jax.nn.softmax(inputs.outputs.logits), np.float64).reshape(2, 24, 3)
    system = np.eye(24) - 0.5 * np.asarray(matrix, np.float64)
    expected = 0.5 * np.linalg.solve(system, probs)
    found = spread(inputs, iterations=40).reshape(2, 24, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Five leave ω⁵ of the way.
    assert np.abs(spread(inputs).reshape(2, 24, 3) - expected).max() < 0.5**5


def test_one_iteration_at_large_omega_is_pals():
    inputs = make_inputs(seed=2)
    found = spread(inputs, omega=1 - 1e-7, iterations=1)
    np.testing.assert_allclose(found, q_of(inputs), atol=1e-6)


def test_without_spreading_it_is_the_prediction_itself():
    inputs = make_inputs(seed=2)
    expected = jax.nn.softmax(inputs.outputs.logits) * inputs.labels.mass[..., None]
    np.testing.assert_allclose(spread(inputs, omega=0.0), expected, atol=1e-6)


@pytest.mark.parametrize("mask", ["none", "same_class_correct"])
def test_mass_is_kept_and_ignored_pixels_may_hold_anything(mask):
    inputs = make_inputs(seed=5, ignored=0.3)
    ignored = np.asarray(inputs.labels.mass)[..., None] == 0
    broken = inputs.outputs._replace(
        logits=jnp.where(ignored, jnp.nan, inputs.outputs.logits),
        features=jnp.where(ignored, jnp.inf, inputs.outputs.features),
    )
    expected, found = spread(inputs, mask=mask), spread(inputs._replace(outputs=broken), mask=mask)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found.sum(-1), inputs.labels.mass, atol=1e-6)
