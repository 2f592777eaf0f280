"""Per-pixel losses and the one masked mean; reduction belongs to the caller."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_cross_entropy(
    logits: Float[Array, "b h w k"], probs: Float[Array, "b h w k"]
) -> Float[Array, "b h w"]:
    """-Σ_k y_k log softmax(z)_k in float32; `probs` may sum to less than 1, and a row of zeros
    gives 0.

    Args:
      logits: z.
      probs: soft labels y ≥ 0.

    Example:
      >>> loss = soft_cross_entropy(jnp.zeros((1, 1, 1, 2)), jnp.array([[[[0.5, 0.5]]]]))
      >>> round(float(loss[0, 0, 0]), 4)
      0.6931
    """
    _check_same_shape("logits", logits, "probs", probs)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(probs * log_probs, axis=-1)


def kl_divergence(
    probs: Float[Array, "b h w k"], logits: Float[Array, "b h w k"]
) -> Float[Array, "b h w"]:
    """KL(y ‖ softmax(z)) = Σ_k y_k (log y_k - log softmax(z)_k) in float32, with 0·log 0 = 0.

    Args:
      probs: y ≥ 0.
      logits: z.
    """
    _check_same_shape("probs", probs, "logits", logits)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.sum(jax.scipy.special.xlogy(probs, probs) - probs * log_probs, axis=-1)


def masked_mean(values: Float[Array, "*shape"], mask: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Σ v·m / Σ m in float32; 0 where Σ m = 0. Values at m = 0 may be NaN.

    Args:
      values: v.
      mask: m ≥ 0, of the shape of `values`; bool or float.
    """
    _check_same_shape("values", values, "mask", mask)
    mask = mask.astype(jnp.float32)
    total = masked_sum(values, mask)
    mass = jnp.sum(mask)
    return jnp.where(mass > 0, total / jnp.where(mass > 0, mass, 1), 0)


def masked_sum(values: Float[Array, "*shape"], mask: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Σ v·m in float32. Values at m = 0 may be NaN, and their gradient is 0."""
    return jnp.sum(jnp.where(mask > 0, values, 0).astype(jnp.float32) * mask)


def _check_same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    if array.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have one shape, found {array.shape} and {other.shape}"
        )
