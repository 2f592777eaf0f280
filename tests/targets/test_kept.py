"""Targets that keep something from one step or epoch to the next: OLS's table, PS-KD's past."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from inputs import IGNORE, make_inputs

from pals_jax.outputs import Outputs
from pals_jax.targets import Inputs, Labels, OnlineSmoothing, Progressive, labels_from_index


def inputs_of(probs, index, classes):
    """Outputs that predict `probs` on the grid of the labels."""
    labels = labels_from_index(jnp.asarray(index), classes, IGNORE)
    logits = jnp.log(jnp.asarray(probs, jnp.float32))
    return Inputs(labels, Outputs(logits, logits), jnp.zeros((*labels.mass.shape, 3)))


def test_ols_by_hand():
    target = OnlineSmoothing(3)
    state = target.init()
    # Right, right, wrong, ignored: row 0 becomes the mean of the first two.
    probs = [[[[0.8, 0.1, 0.1], [0.6, 0.4, 0.0], [0.1, 0.2, 0.7], [1.0, 0.0, 0.0]]]]
    inputs = inputs_of(probs, [[[0, 0, 1, IGNORE]]], 3)
    soft, state = target.apply(inputs, state, jnp.float32(0))
    # The first epoch has the table of 1/K.
    np.testing.assert_allclose(soft.probs[0, 0, 0], [1 / 2 + 1 / 6, 1 / 6, 1 / 6], rtol=1e-6)
    np.testing.assert_array_equal(soft.probs[0, 0, 3], 0)
    state = target.end_epoch(state)
    table = [[0.7, 0.25, 0.05], [1 / 3] * 3, [1 / 3] * 3]
    np.testing.assert_allclose(state["table"], table, atol=1e-6)
    soft, state = target.apply(inputs, state, jnp.float32(0.5))
    np.testing.assert_allclose(soft.probs[0, 0, 0], [0.5 + 0.35, 0.125, 0.025], atol=1e-6)
    # The sums start anew, and an epoch without any pixel keeps the table.
    state = target.end_epoch(target.end_epoch(state))
    np.testing.assert_allclose(state["table"], table, atol=1e-6)


def test_ols_sums_over_the_steps_of_an_epoch():
    target = OnlineSmoothing(2)
    state = target.init()
    for first in (0.9, 0.7, 0.6, 0.2):  # the last is wrong
        inputs = inputs_of([[[[first, 1 - first]]]], [[[0]]], 2)
        _, state = target.apply(inputs, state, jnp.float32(0))
    mean = (0.9 + 0.7 + 0.6) / 3
    np.testing.assert_allclose(target.end_epoch(state)["table"][0], [mean, 1 - mean], rtol=1e-5)


def test_ols_of_a_soft_label_mixes_the_rows():
    target = OnlineSmoothing(2, alpha=1.0)
    state = {**target.init(), "table": jnp.array([[0.9, 0.1], [0.3, 0.7]])}
    inputs = inputs_of([[[[0.5, 0.5]]]], [[[0]]], 2)
    labels = Labels(jnp.array([[[[0.6, 0.2]]]]), jnp.array([[[0.8]]]))
    soft, state = target.apply(inputs._replace(labels=labels), state, jnp.float32(0))
    np.testing.assert_allclose(
        soft.probs[0, 0, 0], [0.6 * 0.9 + 0.2 * 0.3, 0.6 * 0.1 + 0.2 * 0.7], rtol=1e-6
    )
    # The pixel counts for its largest class, by its mass.
    np.testing.assert_allclose(state["counts"], [0.8, 0])


def test_ps_kd_by_hand():
    target = Progressive(2)
    inputs = inputs_of([[[[0.5, 0.5]]]], [[[0]]], 2)
    previous = Outputs(jnp.log(jnp.array([[[[0.25, 0.75]]]])), jnp.zeros((1, 1, 1, 1)))
    inputs = inputs._replace(previous=previous)
    state = target.init()
    soft, state = target.apply(inputs, state, jnp.float32(0.5))
    np.testing.assert_array_equal(soft.probs[0, 0, 0], [1, 0])  # the first epoch
    state = target.end_epoch(state)
    soft, state = target.apply(inputs, state, jnp.float32(0.5))
    np.testing.assert_allclose(soft.probs[0, 0, 0], [0.6 + 0.4 * 0.25, 0.4 * 0.75], rtol=1e-6)


def test_ps_kd_needs_the_previous_outputs():
    target = Progressive(3)
    with pytest.raises(ValueError, match=r"ps_kd needs inputs\.previous"):
        target.apply(make_inputs(), target.init(), jnp.float32(0))


@pytest.mark.parametrize("target", [OnlineSmoothing(3), Progressive(3)])
def test_ignored_pixels_may_hold_anything_and_the_mass_is_kept(target):
    inputs = make_inputs(seed=5, ignored=0.3)
    ignored = np.asarray(inputs.labels.mass) == 0
    broken = inputs.outputs._replace(
        logits=jnp.where(ignored[..., None], jnp.nan, inputs.outputs.logits)
    )
    state = target.init()
    if "has_previous" in state:
        state = target.end_epoch(state)

    def run(outputs):
        given = inputs._replace(outputs=outputs, previous=outputs)
        return target.apply(given, state, jnp.float32(0.5))

    expected, found = run(inputs.outputs), run(broken)
    jax.tree.map(np.testing.assert_array_equal, expected, found)
    np.testing.assert_allclose(found[0].probs.sum(-1), inputs.labels.mass, atol=1e-6)
