"""Targets that leave the label as it is and add a term to its cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inputs import IGNORE, make_inputs

from pals_jax import losses
from pals_jax.targets import (
    Labels,
    MarginBased,
    NeighbourAware,
    VirtualTeacher,
    labels_from_index,
)


def test_mbls_by_hand():
    logits = jnp.array([[[[12.0, 1.0, 0.0], [3.0, 2.0, 1.0]]]])
    labels = labels_from_index(jnp.array([[[0, 1]]]), 3, IGNORE)
    # Lags 0, 11 and 12 exceed the margin of 10 by 0, 1 and 2.
    np.testing.assert_allclose(
        MarginBased(3).penalty(logits, labels)[0, 0], [0.1 * 3 / 3, 0], rtol=1e-6
    )
    np.testing.assert_allclose(
        MarginBased(3, weight=1.0, margin=0.5).penalty(logits, labels)[0, 0, 1],
        (0.5 + 1.5) / 3,
        rtol=1e-6,
    )


def test_nacl_by_hand():
    # Around the first pixel are the labels 0 and 1 of the row; around the third only 1, because
    # the fourth is ignored.
    labels = labels_from_index(jnp.array([[[0, 1, 1, IGNORE]]]), 2, IGNORE)
    logits = jnp.array([[[[2.0, -1.0]] * 4]])
    found = NeighbourAware(2).penalty(logits, labels)[0, 0]
    expected = [
        0.1 * (1.5 + 1.5) / 2,
        0.1 * (abs(2 - 1 / 3) + abs(-1 - 2 / 3)) / 2,
        0.1 * (2 + 2) / 2,
    ]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)


def test_nacl_of_soft_labels_by_hand():
    labels = Labels(jnp.array([[[[0.5, 0.0], [0.25, 0.75]]]]), jnp.array([[[0.5, 1.0]]]))
    found = NeighbourAware(2, weight=1.0).penalty(jnp.zeros((1, 1, 2, 2)), labels)
    # The proportions are (0.75, 0.75) / 1.5 for both pixels.
    np.testing.assert_allclose(found[0, 0], [0.5, 0.5], rtol=1e-6)


def tf_kd_loss(target, logits, labels):
    """The loss of the objective per pixel."""
    return losses.soft_cross_entropy(logits, labels.probs) + labels.mass * target.penalty(
        logits, labels
    )


def test_tf_kd_by_hand():
    # Two classes at T = 2: the teacher's odds are √99 : 1.
    logits = jnp.array([[[[1.0, -1.0]]]])
    labels = labels_from_index(jnp.array([[[1]]]), 2, IGNORE)
    target = VirtualTeacher(2, alpha=0.25, softmax_temperature=2.0)
    teacher = np.array([1.0, np.sqrt(99)]) / (1 + np.sqrt(99))
    student = np.exp([0.5, -0.5]) / np.exp([0.5, -0.5]).sum()
    cross_entropy = np.log(1 + np.exp(2.0))
    divergence = (teacher * np.log(teacher / student)).sum()
    np.testing.assert_allclose(
        tf_kd_loss(target, logits, labels)[0, 0, 0],
        0.75 * cross_entropy + 0.25 * 4 * divergence,
        rtol=1e-5,
    )


def test_tf_kd_of_a_soft_label_takes_the_mean_teacher_and_the_mass():
    logits = jnp.array([[[[1.0, -1.0, 0.5]]]])
    labels = Labels(jnp.array([[[[0.3, 0.1, 0.0]]]]), jnp.array([[[0.4]]]))
    target = VirtualTeacher(3, alpha=0.5, softmax_temperature=3.0, confidence=0.9)
    virtual = 0.75 * np.array([0.9, 0.05, 0.05]) + 0.25 * np.array([0.05, 0.9, 0.05])
    teacher = virtual ** (1 / 3) / (virtual ** (1 / 3)).sum()
    z = np.array([1.0, -1.0, 0.5])
    student = np.exp(z / 3) / np.exp(z / 3).sum()
    cross_entropy = -(np.array([0.75, 0.25, 0]) * (z - np.log(np.exp(z).sum()))).sum()
    divergence = (teacher * np.log(teacher / student)).sum()
    np.testing.assert_allclose(
        tf_kd_loss(target, logits, labels)[0, 0, 0],
        0.4 * (0.5 * cross_entropy + 0.5 * 9 * divergence),
        rtol=1e-5,
    )


@pytest.mark.parametrize("target", [MarginBased(3), NeighbourAware(3), VirtualTeacher(3)])
def test_labels_stay_and_the_gradient_of_what_is_ignored_is_zero(target):
    inputs = make_inputs(seed=2)
    soft, state = target.apply(inputs, target.init(), jnp.float32(0.3))
    assert state == {}
    np.testing.assert_array_equal(soft.probs, inputs.labels.probs)

    def total(logits):
        per_pixel = target.penalty(logits, inputs.labels) * inputs.labels.mass
        return losses.masked_sum(per_pixel, inputs.labels.mass)

    gradient = np.asarray(jax.grad(total)(20 * inputs.outputs.logits))
    ignored = np.asarray(inputs.labels.mass) == 0
    assert (gradient[ignored] == 0).all()
    assert np.isfinite(gradient).all()
    assert (gradient[~ignored] != 0).any()
