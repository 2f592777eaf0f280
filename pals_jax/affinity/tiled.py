"""Streaming over tiles of the affinity matrix: the exact result in O(N) memory.

Each tile of rows visits the tiles of sources in turn and keeps three running sums per row: the
largest log κ so far, the sum of weights, and the weighted sum of values, both relative to that
largest value. This is the online softmax of Milakov and Gimelshein (arXiv 1805.02867), here over
kernels that may also be 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import kernels

DEFAULT_TILE_SIZE = 512


def aggregate(
    unit: Float[Array, "b n d"],
    values: Float[Array, "b n k"],
    is_source: Bool[Array, "b n"],
    labels: Int[Array, "b n"] | None,
    *,
    similarity: str,
    temperature: float,
    power: float,
    exclude_self: bool,
    tile_size: int | None,
) -> tuple[Float[Array, "b n k"], Bool[Array, "b n"]]:
    """Aggregates `values` tile by tile; see `pals_jax.affinity.aggregate`."""
    batch, pixels, _ = unit.shape
    size = min(tile_size or DEFAULT_TILE_SIZE, pixels)
    tiles = -(-pixels // size)

    def in_tiles(array: Array) -> Array:
        """[B, N, ...] -> [tiles, B, size, ...]; padding is no source, its rows are cut off."""
        padding = [(0, 0), (0, tiles * size - pixels)] + [(0, 0)] * (array.ndim - 2)
        array = jnp.pad(array, padding)
        return jnp.moveaxis(array.reshape(batch, tiles, size, *array.shape[2:]), 1, 0)

    index = jnp.arange(tiles * size).reshape(tiles, size)
    tiled_labels = None if labels is None else in_tiles(labels)
    sources = (index, in_tiles(unit), in_tiles(values), in_tiles(is_source), tiled_labels)

    def serve(row_tile):
        row_index, row_unit, row_labels = row_tile

        def visit(carry, source_tile):
            largest, total, weighted = carry
            source_index, source_unit, source_values, source_mask, source_labels = source_tile
            log_weight = kernels.log_kernel(row_unit, source_unit, similarity, temperature, power)
            mask = kernels.pair_mask(
                row_index, source_index, source_mask, row_labels, source_labels, exclude_self
            )
            log_weight = jnp.where(mask, log_weight, -jnp.inf)
            new_largest = jnp.maximum(largest, jnp.max(log_weight, axis=-1))
            # Until a row has met its first source its largest value is -inf, and -inf - -inf would
            # be NaN.
            reference = jnp.where(jnp.isfinite(new_largest), new_largest, 0)
            shrink = jnp.exp(largest - reference)
            weight = jnp.exp(log_weight - reference[..., None])
            total = total * shrink + jnp.sum(weight, axis=-1)
            contribution = jnp.einsum(
                "brs,bsk->brk",
                weight.astype(source_values.dtype),
                source_values,
                precision=kernels.matmul_precision(source_values.dtype),
                preferred_element_type=jnp.float32,
            )
            return (new_largest, total, weighted * shrink[..., None] + contribution), None

        start = (
            jnp.full((batch, size), -jnp.inf),
            jnp.zeros((batch, size)),
            jnp.zeros((batch, size, values.shape[-1])),
        )
        (largest, total, weighted), _ = jax.lax.scan(visit, start, sources)
        served = jnp.isfinite(largest)
        return weighted / jnp.where(served, total, 1)[..., None], served

    aggregated, served = jax.lax.map(serve, (index, sources[1], tiled_labels))
    aggregated = jnp.moveaxis(aggregated, 0, 1).reshape(batch, tiles * size, -1)[:, :pixels]
    served = jnp.moveaxis(served, 0, 1).reshape(batch, tiles * size)[:, :pixels]
    return aggregated, served
