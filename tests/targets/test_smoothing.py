"""Targets that need the label map alone: label smoothing and its spatially varying form."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from inputs import IGNORE, make_inputs
from scipy import ndimage

from pals_jax.outputs import Outputs
from pals_jax.targets import Inputs, Labels, LabelSmoothing, SpatiallyVarying, labels_from_index


def inputs_of(labels):
    """Inputs whose outputs no target of this file looks at."""
    batch, height, width = labels.mass.shape
    empty = jnp.full((batch, height, width, 1), jnp.nan)
    return Inputs(labels, Outputs(empty, empty), jnp.zeros((batch, height, width, 3)))


def soft_of(target, labels):
    soft, _ = target.apply(inputs_of(labels), target.init(), jnp.float32(0.5))
    return soft


def test_label_smoothing_by_hand():
    labels = labels_from_index(jnp.array([[[0, 3, IGNORE]]]), 4, IGNORE)
    soft = soft_of(LabelSmoothing(4), labels)
    rest = 0.1 / 4
    expected = [[0.9 + rest, rest, rest, rest], [rest, rest, rest, 0.9 + rest], [0] * 4]
    np.testing.assert_allclose(soft.probs[0, 0], expected, atol=1e-7)
    np.testing.assert_array_equal(soft.mass[0, 0], [1, 1, 0])


def test_label_smoothing_of_a_soft_label_of_half_a_pixel():
    labels = Labels(jnp.array([[[[0.3, 0.2]]]]), jnp.array([[[0.5]]]))
    soft = soft_of(LabelSmoothing(2, epsilon=0.4), labels)
    np.testing.assert_allclose(soft.probs[0, 0, 0], [0.6 * 0.3 + 0.1, 0.6 * 0.2 + 0.1], atol=1e-7)


def test_label_smoothing_agrees_with_optax():
    labels = make_inputs(seed=3, classes=5, ignored=0).labels
    expected = optax.smooth_labels(labels.probs, 0.3)
    np.testing.assert_allclose(soft_of(LabelSmoothing(5, epsilon=0.3), labels).probs, expected)


def test_svls_by_hand():
    # One pixel of class 1 in the middle of class 0: the centre has half of the weight, and an edge
    # e^-½ / (8 (e^-½ + e^-1)) of it.
    index = np.zeros((1, 3, 3), int)
    index[0, 1, 1] = 1
    soft = soft_of(SpatiallyVarying(2), labels_from_index(jnp.asarray(index), 2, IGNORE))
    edge, corner = math.exp(-0.5), math.exp(-1)
    whole = 8 * (edge + corner)
    expected = np.array([[corner, edge, corner], [edge, whole / 2, edge], [corner, edge, corner]])
    np.testing.assert_allclose(soft.probs[0, ..., 1], expected / whole, rtol=1e-6)
    np.testing.assert_allclose(soft.probs[0, ..., 0], 1 - expected / whole, rtol=1e-6)


def test_svls_gives_ignored_pixels_no_weight():
    # The pixel to the right is ignored: what remains are the centre and, by the replicated border,
    # copies of the row above and below.
    soft = soft_of(SpatiallyVarying(2), labels_from_index(jnp.array([[[0, 1, IGNORE]]]), 2, IGNORE))
    edge, corner = math.exp(-0.5), math.exp(-1)
    centre = 4 * (edge + corner)
    own, left = centre + 2 * edge, edge + 2 * corner
    np.testing.assert_allclose(
        soft.probs[0, 0, 1], [left / (own + left), own / (own + left)], rtol=1e-6
    )
    np.testing.assert_array_equal(soft.probs[0, 0, 2], 0)


def test_svls_agrees_with_a_convolution_of_scipy():
    labels = make_inputs(seed=4, size=(9, 11)).labels
    edge, corner = math.exp(-0.5), math.exp(-1)
    kernel = np.array([[corner, edge, corner], [edge, 0, edge], [corner, edge, corner]])
    kernel[1, 1] = kernel.sum()
    kernel = kernel[None, ..., None] / kernel.sum()
    total = ndimage.convolve(np.asarray(labels.probs), kernel, mode="nearest")
    weight = ndimage.convolve(np.asarray(labels.mass)[..., None], kernel, mode="nearest")
    expected = np.asarray(labels.mass)[..., None] * total / np.maximum(weight, 1e-12)
    np.testing.assert_allclose(soft_of(SpatiallyVarying(3), labels).probs, expected, atol=1e-6)


@pytest.mark.parametrize("target", [LabelSmoothing(3), SpatiallyVarying(3)])
def test_mass_is_kept_of_soft_labels_too(target):
    rng = np.random.default_rng(0)
    mass = rng.random((2, 5, 6)) * (rng.random((2, 5, 6)) < 0.7)
    probs = rng.dirichlet(np.ones(3), (2, 5, 6)) * mass[..., None]
    labels = Labels(jnp.asarray(probs, jnp.float32), jnp.asarray(mass, jnp.float32))
    soft = soft_of(target, labels)
    np.testing.assert_allclose(soft.probs.sum(-1), mass, atol=1e-6)
    np.testing.assert_array_equal(soft.mass, labels.mass)
