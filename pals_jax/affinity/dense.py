"""The reference: affinities between all pairs of pixels as one matrix in memory, O(N²)."""

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import kernels
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
      features: free of NaN.
      is_source: pixels that may serve others.
      labels: class of each pixel; turns the same-class mask on.
      kernel: κ.
      exclude_self: whether a pixel never serves itself.
      rows: indices of the rows to compute; all by default.

    Returns:
      A, whose rows sum to 1, or are 0 where the second result, "the row has a source", is False.
    """
    everyone = jnp.arange(features.shape[1])
    rows = everyone if rows is None else rows
    # Exact, which takes less memory than many short sums of the whole matrix.
    sources = kernels.directions(features, exact=True).split(kernel.longest_sum)
    chosen = sources.map(lambda array: array[:, rows])
    log_weight = kernel.log_weight(kernels.cosine(chosen, sources))
    row_labels = None if labels is None else labels[:, rows]
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
