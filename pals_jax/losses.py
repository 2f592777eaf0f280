"""Per-pixel losses and the one masked mean; reduction belongs to the caller."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pals_jax import affinity


def soft_cross_entropy(
    logits: Float[Array, "b h w k"], probs: Float[Array, "b h w k"]
) -> Float[Array, "b h w"]:
    """-Σ_k y_k log softmax(z)_k in float32; `probs` may sum to less than 1, and a row of zeros
    gives 0 for finite logits. Where y_k = 0, z_k may be -∞.

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
    return -jnp.sum(_product(probs, log_probs), axis=-1)


def kl_divergence(
    probs: Float[Array, "b h w k"], logits: Float[Array, "b h w k"]
) -> Float[Array, "b h w"]:
    """KL(y ‖ softmax(z)) = Σ_k y_k (log y_k - log softmax(z)_k) in float32, with 0·log 0 = 0.
    Where y_k = 0, z_k may be -∞.

    Args:
      probs: y ≥ 0.
      logits: z.
    """
    _check_same_shape("probs", probs, "logits", logits)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    probs = probs.astype(jnp.float32)
    # Not xlogy, whose gradient at 0 is NaN.
    own = probs * jnp.log(jnp.where(probs > 0, probs, 1))
    return jnp.sum(own - _product(probs, log_probs), axis=-1)


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


def pairwise_similarity_loss(
    teacher: Float[Array, "b n d"],
    student: Float[Array, "b n e"],
    mask: Bool[Array, "b n"] | Float[Array, "b n"],
) -> Float[Array, ""]:
    """Mean squared difference between the cosines of all pairs of pixels, without any N×N matrix.

        L = mean_b 1/(Σ_u m_u)² Σ_uv m_u² m_v² (t_u·t_v - s_u·s_v)²

    with t and s the unit features of teacher and student: pair-wise distillation (Liu et al., CVPR
    2019, arXiv 1903.04197) between pixels instead of pooled regions. With the rows scaled by m,
    U = T + S and V = T - S, the narrower one padded with zeros, the sum over pairs is

        ½ (⟨UᵀU, VᵀV⟩ + tr((UᵀV)²)),

    which costs O(N·D²) and, unlike ‖TᵀT‖² - 2‖TᵀS‖² + ‖SᵀS‖², does not cancel in float32 where the
    vectors of the two are close. Where only their cosines agree, as after a rotation, L carries an
    absolute error of about 10⁻⁸ of either sign. The identity is ours. Gradients flow into both;
    stop that of the teacher outside.

    Args:
      teacher: [B,N,D], normalised here.
      student: [B,N,E], likewise; E may differ from D.
      mask: m ≥ 0; pixels at m = 0 may hold anything, NaN included.

    Returns:
      The mean over the images with Σ m > 0, 0 without one; float32.

    Raises:
      ValueError: batch or pixels of the arrays differ.

    Example:
      >>> teacher = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])  # cosine 1
      >>> student = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])  # cosine 0
      >>> float(pairwise_similarity_loss(teacher, student, jnp.ones((1, 2))))
      0.5
    """
    for name, array in (("student", student), ("mask", mask)):
        if array.shape[:2] != teacher.shape[:2]:
            raise ValueError(
                f"{name} must have the batch and pixels of teacher {teacher.shape}, found "
                f"{array.shape}"
            )
    mask = mask.astype(jnp.float32)
    width = max(teacher.shape[-1], student.shape[-1])

    def rows(features: Float[Array, "b n d"]) -> Float[Array, "b n w"]:
        features = jnp.where(mask[..., None] > 0, features, 0).astype(jnp.float32)
        unit = affinity.unit_features(features) * mask[..., None]
        return jnp.pad(unit, ((0, 0), (0, 0), (0, width - features.shape[-1])))

    def gram(a: Float[Array, "b n w"], b: Float[Array, "b n w"]) -> Float[Array, "b w w"]:
        return jnp.einsum("bni,bnj->bij", a, b, precision=jax.lax.Precision.HIGHEST)

    together, apart = rows(teacher) + rows(student), rows(teacher) - rows(student)
    crossed = gram(together, apart)
    pairs = gram(together, together) * gram(apart, apart) + crossed * jnp.matrix_transpose(crossed)
    mass = jnp.sum(mask, axis=1)
    per_image = 0.5 * jnp.sum(pairs, axis=(1, 2)) / jnp.where(mass > 0, mass, 1) ** 2
    return masked_mean(per_image, mass > 0)


def _check_same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    if array.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have one shape, found {array.shape} and {other.shape}"
        )


def _product(probs: Float[Array, "*shape"], log_probs: Float[Array, "*shape"]) -> Array:
    """y log p, with 0 · -∞ = 0; NaN stays NaN."""
    is_ruled_out = (probs == 0) & (log_probs == -jnp.inf)
    return probs * jnp.where(is_ruled_out, 0, log_probs)
