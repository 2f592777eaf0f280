import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pals_jax import losses


def draw(seed=0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    probs = jnp.asarray(rng.dirichlet(np.ones(5), (2, 3, 4)), jnp.float32)
    return logits, probs


def test_soft_cross_entropy_by_hand_and_by_optax():
    logits = jnp.log(jnp.array([[[[0.7, 0.2, 0.1]]]]))
    found = losses.soft_cross_entropy(logits, jnp.array([[[[0.5, 0.25, 0.0]]]]))
    np.testing.assert_allclose(found, -(0.5 * np.log(0.7) + 0.25 * np.log(0.2)), rtol=1e-6)
    logits, probs = draw()
    np.testing.assert_allclose(
        losses.soft_cross_entropy(logits, probs),
        optax.softmax_cross_entropy(logits, probs),
        rtol=1e-5,
    )


def test_cross_entropy_of_bfloat16_logits_is_float32():
    logits, probs = draw()
    assert losses.soft_cross_entropy(logits.astype(jnp.bfloat16), probs).dtype == jnp.float32


def test_kl_divergence_by_hand_by_optax_and_with_zeros():
    logits = jnp.log(jnp.array([[[[0.5, 0.25, 0.25]]]]))
    found = losses.kl_divergence(jnp.array([[[[0.5, 0.5, 0.0]]]]), logits)
    np.testing.assert_allclose(found, 0.5 * np.log(2), rtol=1e-6)
    logits, probs = draw()
    expected = optax.losses.kl_divergence(jax.nn.log_softmax(logits), probs)
    np.testing.assert_allclose(losses.kl_divergence(probs, logits), expected, atol=1e-6)
    np.testing.assert_allclose(losses.kl_divergence(jax.nn.softmax(logits), logits), 0, atol=1e-6)


def test_kl_divergence_and_cross_entropy_have_one_gradient():
    logits, probs = draw()
    by_kl = jax.grad(lambda z: losses.kl_divergence(probs, z).sum())(logits)
    by_ce = jax.grad(lambda z: losses.soft_cross_entropy(z, probs).sum())(logits)
    np.testing.assert_allclose(by_kl, by_ce, atol=1e-6)


def test_masked_mean():
    values, mask = jnp.array([[1.0, 2.0, jnp.nan]]), jnp.array([[1.0, 0.5, 0.0]])
    assert float(losses.masked_mean(values, mask)) == pytest.approx(2 / 1.5)
    assert float(losses.masked_mean(values, jnp.zeros((1, 3)))) == 0
    gradient = jax.grad(losses.masked_mean)(values, mask)
    np.testing.assert_allclose(gradient, [[1 / 1.5, 0.5 / 1.5, 0]], rtol=1e-6)
    nothing = jax.grad(losses.masked_mean)(values, jnp.zeros((1, 3)))
    np.testing.assert_array_equal(nothing, [[0, 0, 0]])


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match=r"logits and probs.*\(1, 1, 2, 3\).*\(1, 1, 2, 4\)"):
        losses.soft_cross_entropy(jnp.zeros((1, 1, 2, 3)), jnp.zeros((1, 1, 2, 4)))
    with pytest.raises(ValueError, match="values and mask"):
        losses.masked_mean(jnp.zeros(3), jnp.zeros(4))
