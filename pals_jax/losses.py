"""Per-pixel losses and the one masked mean; reduction belongs to the caller."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pals_jax import affinity
from pals_jax.affinity.checks import require_array


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
    """Σ v·m / Σ m in float32; 0 where Σ m = 0. Values at m = 0 may be NaN; a mask may not.

    Args:
      values: v.
      mask: m ≥ 0, of the shape of `values`; bool or float.
    """
    _check_same_shape("values", values, "mask", mask)
    mask = mask.astype(jnp.float32)
    total = masked_sum(values, mask)
    mass = jnp.sum(mask)
    return jnp.where(mass == 0, 0, total / jnp.where(mass == 0, 1, mass))


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
    2019, arXiv 1903.04197) between pixels instead of pooled regions. With w = m², W = Σ w, means
    under w, t' = t - t̄ and s' = s - s̄, the sum over pairs of unit vectors is

        W² ē² + ½ W Σ_u w_u (e_u - ē)² + Σ_uv w_u w_v (t'_u·t'_v - s'_u·s'_v)²,
        e_u = |t'_u|² - |s'_u|²,

    so that nothing large cancels where the features lie around one mean. With their rows scaled by
    m, U = T' + S' and V = T' - S', the narrower one padded with zeros, the last sum is

        ½ (⟨UᵀU, VᵀV⟩ + tr((UᵀV)²)),

    which costs O(N·D²) and, unlike ‖T'ᵀT'‖² - 2‖T'ᵀS'‖² + ‖S'ᵀS'‖², does not cancel in float32
    where the directions of the two are close. Where only their cosines agree, as after a rotation,
    or where a narrower student lacks much of the teacher beside its mean, L carries an absolute
    error of some 10⁻⁸ of either sign and, where L is 10⁻⁶, its gradient a relative one of 10⁻³.
    Pairs with a zero feature, whose cosine is 0 with everything, are added apart. The identities
    are ours. Gradients flow into both, by a formula of their own that does not cancel either where
    the directions are close; stop that of the teacher outside. There is no forward-mode derivative.

    Args:
      teacher: [B,N,D], normalised here.
      student: [B,N,E], likewise; E may differ from D.
      mask: m ≥ 0; pixels at m = 0 may hold anything, NaN included. A mask that is NaN makes L so.

    Returns:
      The mean over the images with Σ m > 0, 0 without one; float32.

    Raises:
      ValueError: an argument has a wrong shape or dtype.

    Example:
      >>> teacher = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])  # cosine 1
      >>> student = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])  # cosine 0
      >>> float(pairwise_similarity_loss(teacher, student, jnp.ones((1, 2))))
      0.5
    """
    for name, array in (("teacher", teacher), ("student", student), ("mask", mask)):
        require_array(name, array)
    for name, array in (("teacher", teacher), ("student", student)):
        if array.ndim != 3 or 0 in array.shape or not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{name} must be floats [batch, pixels, channels], found {array.dtype} "
                f"{array.shape}"
            )
    for name, shape in (("student", student.shape), ("mask", mask.shape)):
        if shape[:2] != teacher.shape[:2] or (name == "mask" and len(shape) != 2):
            raise ValueError(
                f"{name} must have the batch and pixels of teacher {teacher.shape}, found {shape}"
            )
    if not (mask.dtype == bool or jnp.isdtype(mask.dtype, "real floating")):
        raise ValueError(f"mask must be bool or floats, found {mask.dtype}")
    return _pairwise_similarity(teacher, student, mask.astype(jnp.float32))


@jax.jit  # what is inside `cond` would be compiled at each call without it
def _pairwise_similarity(
    teacher: Float[Array, "b n d"], student: Float[Array, "b n e"], mask: Float[Array, "b n"]
) -> Float[Array, ""]:
    """`pairwise_similarity_loss` of what it has checked."""
    width = max(teacher.shape[-1], student.shape[-1])

    def padded(features: Float[Array, "b n d"]) -> Float[Array, "b n w"]:
        features = jnp.where(mask[..., None] > 0, features, 0).astype(jnp.float32)
        return jnp.pad(features, ((0, 0), (0, 0), (0, width - features.shape[-1])))

    teacher, student = padded(teacher), padded(student)
    rows = [affinity.unit_features(features) for features in (teacher, student)]
    # T - S by value, more exactly than by subtraction; by derivative, the subtraction.
    apart = _unit_difference(*jax.lax.stop_gradient((teacher, student)))
    plain = rows[0] - rows[1]
    apart = plain + jax.lax.stop_gradient(apart - plain)
    scale = jnp.maximum(mask, 0)[..., None]
    are_unit = jnp.all(jnp.stack([jnp.any(r != 0, -1, keepdims=True) for r in rows]), axis=0)
    inside = jnp.where(are_unit, scale, 0)
    weight = jnp.square(inside)
    total = jnp.sum(weight, axis=1, keepdims=True)

    def mean(array: Float[Array, "b n w"]) -> Float[Array, "b 1 w"]:
        return jnp.sum(weight * array, axis=1, keepdims=True) / jnp.where(total > 0, total, 1)

    centred = [array - mean(array) for array in (*rows, apart)]
    longer = jnp.sum((centred[0] + centred[1]) * centred[2], axis=-1, keepdims=True)
    of_means = jnp.square(mean(longer)) + 0.5 * mean(jnp.square(longer - mean(longer)))
    per_image = (total**2 * of_means)[:, 0, 0]
    per_image += _squared_differences(*(inside * array for array in centred))
    outside = jnp.where(are_unit, 0, scale)
    per_image += jax.lax.cond(
        jnp.any(outside != 0),
        lambda: sum(_squared_products(row * inside, row * outside) for row in rows),
        lambda: jnp.zeros_like(per_image),
    )
    mass = jnp.sum(mask, axis=1)
    return masked_mean(per_image / jnp.where(mass > 0, mass, 1) ** 2, ~(mass <= 0))


def _unit_difference(
    first: Float[Array, "b n w"], second: Float[Array, "b n w"]
) -> Float[Array, "b n w"]:
    """The difference of two unit features, f̂ - ŝ, to float32 precision however close they are.

    From δ = f - s, with s brought to the norm of f without a rounding, where δ is small, because
    the rounding of f̂ and ŝ would be much of the rest:

        f̂ - ŝ = (δ - γ s)/|f|,   γ = |f|/|s| - 1 = δ·(f + s) / (|s| (|f| + |s|))
    """
    apart = affinity.unit_features(first) - affinity.unit_features(second)
    first, second = _scaled(first), _scaled(second)
    norm, other_norm = (jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (first, second))
    is_close = (norm > 0) & (other_norm > 0)
    norm, other_norm = (jnp.where(is_close, x, 1) for x in (norm, other_norm))
    ratio = norm / other_norm
    second, rounding = _exact_product(ratio, second)
    other_norm *= ratio
    difference = (first - second) - rounding
    is_close &= jnp.linalg.norm(difference, axis=-1, keepdims=True) < 0.5 * norm
    longer = jnp.sum(difference * (first + second), axis=-1, keepdims=True)
    longer = longer / (other_norm * (norm + other_norm))
    close = (difference - longer * second) / norm
    return jnp.where(is_close, close, apart)


def _scaled(features: Float[Array, "b n w"]) -> Float[Array, "b n w"]:
    """Times a power of two, which rounds nothing, such that the largest component is about 1."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(features), axis=-1, keepdims=True))
    return jnp.ldexp(features, -exponent)


def _exact_product(
    a: Float[Array, "*shape"], b: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """a·b as the float32 product and what it rounds away (Dekker, A floating-point technique for
    extending the available precision, 1971).
    """
    # Halves of 12 bits, whose products float32 holds; reduce_precision is not optimised away. The
    # barrier keeps a compiler from fusing the product into what uses it, there without a rounding.
    a_high, b_high = (jax.lax.reduce_precision(x, 8, 11) for x in (a, b))
    a_low, b_low = a - a_high, b - b_high
    product = jax.lax.optimization_barrier(a * b)
    rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, rest


@jax.custom_vjp
def _squared_differences(
    teacher: Float[Array, "b n w"], student: Float[Array, "b n w"], apart: Float[Array, "b n w"]
) -> Float[Array, " b"]:
    """Σ_uv (t_u·t_v - s_u·s_v)² = ½ (⟨UᵀU, VᵀV⟩ + tr((UᵀV)²)), with V = `apart` = T - S.

    As TTᵀ - SSᵀ = ½ (UVᵀ + VUᵀ), the gradient is 2 (U VᵀT + V UᵀT) for T and -2 (U VᵀS + V UᵀS) for
    S. That of the formula, step by step, is a difference of two large terms.
    """
    together = teacher + student
    crossed = _gram(together, apart)
    pairs = _gram(together, together) * _gram(apart, apart)
    return 0.5 * jnp.sum(pairs + crossed * jnp.matrix_transpose(crossed), axis=(1, 2))


def _squared_differences_forward(teacher, student, apart):
    return _squared_differences(teacher, student, apart), (teacher, student, apart)


def _squared_differences_backward(kept, gradient):
    teacher, student, apart = kept
    together = teacher + student

    def of(rows, factor):
        change = _times(together, _gram(apart, rows)) + _times(apart, _gram(together, rows))
        return factor * gradient[:, None, None] * change

    return of(teacher, 2), of(student, -2), jnp.zeros_like(apart)


_squared_differences.defvjp(_squared_differences_forward, _squared_differences_backward)


def _squared_products(
    inside: Float[Array, "b n w"], outside: Float[Array, "b n w"]
) -> Float[Array, " b"]:
    """Σ_uv (x_u·x_v)² over the pairs of rows of which one, at least, is outside."""
    grams = _gram(inside, inside), _gram(outside, outside)
    return jnp.sum(grams[1] * (2 * grams[0] + grams[1]), axis=(1, 2))


def _gram(a: Float[Array, "b n v"], b: Float[Array, "b n w"]) -> Float[Array, "b v w"]:
    return jnp.einsum("bni,bnj->bij", a, b, precision=jax.lax.Precision.HIGHEST)


def _times(a: Float[Array, "b n v"], b: Float[Array, "b v w"]) -> Float[Array, "b n w"]:
    return jnp.einsum("bni,bij->bnj", a, b, precision=jax.lax.Precision.HIGHEST)


def _check_same_shape(name: str, array: Array, other_name: str, other: Array) -> None:
    require_array(name, array)
    require_array(other_name, other)
    if array.shape != other.shape:
        raise ValueError(
            f"{name} and {other_name} must have one shape, found {array.shape} and {other.shape}"
        )


def _product(probs: Float[Array, "*shape"], log_probs: Float[Array, "*shape"]) -> Array:
    """y log p, with 0 · -∞ = 0; NaN stays NaN."""
    is_ruled_out = (probs == 0) & (log_probs == -jnp.inf)
    return probs * jnp.where(is_ruled_out, 0, log_probs)
