"""The reference: affinities between all pairs of pixels as one matrix in memory, O(N²)."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import checks, kernels
from pals_jax.affinity.kernels import Kernel

# Sources to add up at once: XLA may do so one by one, with all their roundings.
_LONGEST_SUM = 1024


def affinity_matrix(
    features: Float[Array, "b n d"],
    is_source: Bool[Array, "b n"],
    labels: Int[Array, "b n"] | None,
    kernel: Kernel,
    *,
    exclude_self: bool,
    rows: Int[Array, " r"] | None = None,
) -> tuple[Float[Array, "b r n"], Bool[Array, "b r"]]:
    """A_uv = M_uv κ_uv / Σ_w M_uw κ_uw, for all rows u or for the chosen ones.

    Args:
      features: [B,N,D] float32 or bfloat16, free of NaN.
      is_source: [B,N]; pixels that may serve others.
      labels: [B,N]; class of each pixel, turns the same-class mask on.
      kernel: κ.
      exclude_self: whether a pixel never serves itself.
      rows: [R]; indices of the rows to compute, all by default.

    Returns:
      A, whose rows sum to 1, or are 0 where the second result, "the row has a source", is False.

    Raises:
      ValueError: an array has a wrong shape or dtype.
    """
    checks.require_channels("features", features)
    checks.require_array("is_source", is_source)
    checks.require_mask("is_source", is_source, features)
    checks.require_labels(labels, features)
    everyone = jnp.arange(features.shape[1])
    rows = everyone if rows is None else jnp.asarray(rows)
    if rows.ndim != 1 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise ValueError(f"rows must be a list of indices, found {rows.dtype} {rows.shape}")
    # Short sums of the whole matrix would take more memory.
    sources = kernels.directions(features, exact=True)
    chosen = sources.map(lambda array: array[:, rows])
    log_weight = kernel.log_weight(kernels.cosine(chosen, sources))
    labels = None if labels is None else jnp.asarray(labels)
    row_labels = None if labels is None else labels[:, rows]
    # Where all weights are 1, XLA would take minutes to reduce the N² constants as it compiles.
    is_source = jax.lax.optimization_barrier(jnp.asarray(is_source))
    mask = kernels.pair_mask(rows, everyone, is_source, row_labels, labels, exclude_self)
    log_weight = jnp.where(mask, log_weight, -jnp.inf)
    largest = jnp.max(log_weight, axis=-1, keepdims=True)
    served = jnp.isfinite(largest)
    weight = jnp.exp(log_weight - jnp.where(served, largest, 0))
    total = jnp.sum(weight, axis=-1, keepdims=True)
    return weight / jnp.where(served, total, 1), served[..., 0]


def aggregate(
    features: Float[Array, "b n d"],
    values: Float[Array, "b n k"],
    is_source: Bool[Array, "b n"],
    labels: Int[Array, "b n"] | None,
    kernel: Kernel,
    *,
    exclude_self: bool,
    tile_size: int | None,
    mesh: Mesh | None,
) -> tuple[Float[Array, "b n k"], Bool[Array, "b n"]]:
    """Aggregates `values` by the whole affinity matrix; see `pals_jax.affinity.aggregate`."""
    del tile_size, mesh  # the matrix is one tile
    matrix, served = affinity_matrix(features, is_source, labels, kernel, exclude_self=exclude_self)
    sums = [
        kernels.product("brs,bsk->brk", matrix[..., part], values[:, part])
        for part in kernels.short_slices(values.shape[1], _LONGEST_SUM)
    ]
    return kernels.sum_in_pairs(sums), served
