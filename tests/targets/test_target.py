import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pals_jax.outputs import Outputs
from pals_jax.targets import TARGETS, Inputs, labels_from_index


def test_labels_from_index():
    labels = labels_from_index(jnp.array([[[2, 0, 255]]]), 3, 255)
    np.testing.assert_array_equal(labels.probs[0, 0], [[0, 0, 1], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(labels.mass[0, 0], [1, 1, 0])


@pytest.mark.parametrize("ignore", [300, 65535])
def test_labels_in_bytes_are_not_taken_for_a_larger_ignore_index(ignore):
    index = jnp.array([[[44, 255, 0]]], jnp.uint8)
    assert (labels_from_index(index, 256, ignore).mass == 1).all()


def test_classes_that_are_no_integers_are_refused():
    index = jnp.array([[[0, 1.7]]])
    for make in (labels_from_index, jax.jit(labels_from_index, static_argnums=(1, 2))):
        with pytest.raises(ValueError, match="index must be an integer, found float32"):
            make(index, 3, 255)


def test_an_ignore_index_inside_the_one_hot_range_has_no_mass():
    labels = labels_from_index(jnp.array([[[3, 1]]]), 4, 3)
    np.testing.assert_array_equal(labels.probs[0, 0], [[0, 0, 0, 0], [0, 1, 0, 0]])


def test_one_hot_returns_the_labels():
    labels = labels_from_index(jnp.array([[[2, 0, 255]]]), 3, 255)
    outputs = Outputs(jnp.zeros((1, 1, 1, 3)), jnp.zeros((1, 1, 1, 2)))
    target = TARGETS["one_hot"](3)
    soft, state = target.apply(
        Inputs(labels, outputs, jnp.zeros((1, 1, 3, 3))), target.init(), jnp.float32(0)
    )
    assert soft is labels
    assert state == {}
    assert target.penalty(outputs.logits, labels) is None
    assert target.end_epoch(state) == {}
    assert not target.needs_previous
