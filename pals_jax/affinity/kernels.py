"""Cosine kernels κ(f_u, f_v) between pixel features, evaluated as logarithms.

Working with log κ lets every implementation subtract the largest exponent of a row before it
exponentiates, so a small temperature or a large power never underflows a whole row to zero.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

SIMILARITIES = ("exp_cosine", "linear_cosine", "relu_cosine", "uniform")

# The cosine of rounded features misses its value by up to a few ulp of 1. Within this margin, that
# of two opposite features is read as -1 and that of two orthogonal ones as 0, so that a pair of
# weight 0 in exact arithmetic does not become a source by rounding.
_ROUNDING = {"float32": 1e-6, "bfloat16": 1e-2}


def unit_features(features: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """L2-normalises each feature in float32 and returns it in the dtype of the input; a zero
    feature stays zero.

    Dividing by the largest component first keeps the norm of very large or very small features in
    range.
    """
    wide = features.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=-1, keepdims=True)
    wide = wide / jnp.where(largest > 0, largest, 1)
    norm = jnp.linalg.norm(wide, axis=-1, keepdims=True)
    return (wide / jnp.where(norm > 0, norm, 1)).astype(features.dtype)


def matmul_precision(dtype) -> jax.lax.Precision:
    """HIGHEST for float32, whose operands a TPU or a GPU would round; the default for bfloat16."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else jax.lax.Precision.DEFAULT


def log_kernel(
    rows: Float[Array, "b r d"],
    sources: Float[Array, "b s d"],
    similarity: str,
    temperature: float,
    power: float,
) -> Float[Array, "b r s"]:
    """Log of κ between unit features, -inf where κ = 0.

    With c = f̂_u·f̂_v: exp_cosine (c - 1)/τ, linear_cosine log((1 + c)/2), relu_cosine power·log
    relu(c), uniform 0.

    Args:
      rows: unit features of the pixels that are served.
      sources: unit features of the pixels that serve.
      similarity: one of SIMILARITIES.
      temperature: τ of exp_cosine.
      power: exponent of relu_cosine.

    Returns:
      log κ in float32.
    """
    if similarity == "uniform":
        return jnp.zeros((rows.shape[0], rows.shape[1], sources.shape[1]), jnp.float32)
    cosine = jnp.einsum(
        "brd,bsd->brs",
        rows,
        sources,
        precision=matmul_precision(rows.dtype),
        preferred_element_type=jnp.float32,
    )
    if similarity == "exp_cosine":
        return (cosine - 1) / temperature
    margin = _ROUNDING[rows.dtype.name]
    if similarity == "linear_cosine":
        positive = cosine > margin - 1
        return jnp.where(positive, jnp.log(jnp.where(positive, 1 + cosine, 1) / 2), -jnp.inf)
    positive = cosine > margin
    return jnp.where(positive, power * jnp.log(jnp.where(positive, cosine, 1)), -jnp.inf)


def pair_mask(
    row_index: Int[Array, " r"],
    source_index: Int[Array, " s"],
    is_source: Bool[Array, "b s"],
    row_labels: Int[Array, "b r"] | None,
    source_labels: Int[Array, "b s"] | None,
    exclude_self: bool,
) -> Bool[Array, "b r s"]:
    """M_uv: v is a source ∧ of the class of u, if labels are given ∧ not u, if exclude_self."""
    mask = is_source[:, None, :]
    if row_labels is not None and source_labels is not None:
        mask = mask & (row_labels[:, :, None] == source_labels[:, None, :])
    if exclude_self:
        mask = mask & (row_index[:, None] != source_index[None, :])
    return jnp.broadcast_to(mask, (is_source.shape[0], row_index.size, source_index.size))
