"""Streaming over tiles of the affinity matrix: the exact result in O(N) memory.

Two ways, chosen by whether float32 holds every weight as it is (`Kernel.is_bounded`):

- κ is symmetric, and so are its masks: the same-class mask compares two labels, the self-pair lies
  on the diagonal, and what restricts the sources alone acts on the values. So each tile (I, J)
  above the diagonal serves the rows of I from the sources of J and the rows of J from the sources
  of I: half the products of the whole matrix, and one exponential per pair of pixels.
- Otherwise each tile of rows visits all tiles of sources and keeps the largest log κ so far, to
  which its sums are relative: the online softmax of Milakov and Gimelshein (arXiv 1805.02867),
  here over kernels that may also be 0.

Both are lists of jobs that add to the rows' sums, so devices may share them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import kernels
from pals_jax.affinity.kernels import Directions, Kernel

# Larger tiles, with the sums they are made of, do not fit into the cache of a CPU's core, smaller
# ones make the calls too small, and sums over twice as many sources would be off by 10⁻⁵.
_LARGEST = 512


class _Tiles(NamedTuple):
    """The pixels of each image in T tiles of S.

    A job indexes the tiles of all images at once; so JAX may divide the images among devices.

    Attributes:
      features: in parts [B,T,S,D/P] with norms [B,T,S], see `kernels.Directions`.
      held: [B,T,S,K+1], see `kernels.with_ones`.
      is_source: [B,T,S]; padding is no source.
      labels: [B,T,S] or None.
    """

    features: Directions
    held: Float[Array, "b t s k1"]
    is_source: Bool[Array, "b t s"]
    labels: Int[Array, "b t s"] | None

    def directions(self, tile: Int[Array, ""]) -> Directions:
        """Those of one tile of all images."""
        return self.features.map(lambda array: array[:, tile])


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
    """Aggregates `values` tile by tile; see `pals_jax.affinity.aggregate`."""
    batch, pixels, _ = features.shape
    most = min(tile_size or _LARGEST, _LARGEST)
    # Tiles of equal size: one short tile at the end would cost as much as a full one.
    count = -(-pixels // most)
    size = -(-pixels // count)

    def in_tiles(array: Array) -> Array:
        """[B,N,...] -> [B,count,S,...]."""
        padding = [(0, 0), (0, count * size - pixels)] + [(0, 0)] * (array.ndim - 2)
        return jnp.pad(array, padding).reshape(batch, count, size, *array.shape[2:])

    held = kernels.with_ones(values, is_source)
    tiled_labels = None if labels is None else in_tiles(labels)
    directions = kernels.directions_in_parts(features, kernel)
    tiles = _Tiles(directions.map(in_tiles), in_tiles(held), in_tiles(is_source), tiled_labels)
    way = _by_symmetry if kernel.is_bounded else _by_rows
    add_up = functools.partial(way, kernel=kernel, exclude_self=exclude_self)
    sums = add_up(tiles, lambda jobs: jobs) if mesh is None else _on_devices(add_up, tiles, mesh)
    sums = sums.reshape(batch, count * size, -1)[:, :pixels]
    total = sums[..., -1:]
    served = total > 0
    return sums[..., :-1] / jnp.where(served, total, 1), served[..., 0]


def _on_devices(add_up, tiles: _Tiles, mesh: Mesh) -> Float[Array, "b t s k1"]:
    """Adds up on all devices of a mesh, each a share of the jobs."""
    names = tuple(mesh.axis_names)

    def add_up_share(tiles: _Tiles) -> Float[Array, "b t s k1"]:
        def share(jobs: np.ndarray) -> Array:
            # Every device takes as many; those beyond the end add to a tile that does not exist,
            # which JAX drops.
            missing = -len(jobs) % mesh.size
            jobs = np.pad(
                jobs,
                [(0, missing)] + [(0, 0)] * (jobs.ndim - 1),
                constant_values=tiles.held.shape[1],
            )
            dealt = jnp.asarray(jobs.reshape(-1, mesh.size, *jobs.shape[1:]))
            return dealt[:, jax.lax.axis_index(names)]

        return jax.lax.psum(add_up(tiles, share), names)

    everywhere = PartitionSpec()
    return jax.shard_map(
        add_up_share, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False
    )(tiles)


def _by_symmetry(
    tiles: _Tiles, share, *, kernel: Kernel, exclude_self: bool
) -> Float[Array, "b t s k1"]:
    """Σ_v M_uv κ_uv [values_v, 1] for all rows u, up to the constant factor of `Kernel.weight`.

    A job is a tile on the diagonal, or a pair of tiles, of all images at once.
    """

    def weights(rows: Int[Array, ""], sources: Int[Array, ""]) -> Float[Array, "b s s"]:
        cosine = kernels.cosine(tiles.directions(rows), tiles.directions(sources))
        weight = kernel.weight(cosine)
        if tiles.labels is None:
            return weight
        same = tiles.labels[:, rows, :, None] == tiles.labels[:, sources, None, :]
        return jnp.where(same, weight, 0)

    # The weights as they are serve the rows of the upper tile, and transposed those of the lower:
    # with its values and sums transposed instead, no product has to transpose the weights.
    held, transposed = tiles.held, jnp.matrix_transpose(tiles.held)

    def add_diagonal(sums, tile):
        weight = weights(tile, tile)
        if exclude_self:
            weight = jnp.where(jnp.eye(weight.shape[-1], dtype=bool), 0, weight)
        return sums.at[:, tile].add(kernels.product("brs,bsk->brk", weight, held[:, tile])), None

    def add_pair(sums, pair):
        (to_upper, to_lower), (upper, lower) = sums, pair
        weight = weights(upper, lower).astype(held.dtype)
        of_upper = kernels.product("brs,bsk->brk", weight, held[:, lower])
        of_lower = kernels.product("bkr,brs->bks", transposed[:, upper], weight)
        return (to_upper.at[:, upper].add(of_upper), to_lower.at[:, lower].add(of_lower)), None

    def add_block(sums, jobs):
        of_block, _ = jax.lax.scan(add_pair, nothing, jobs)
        return jax.tree.map(jnp.add, sums, of_block), None

    count = held.shape[1]
    nothing = (jnp.zeros(held.shape, jnp.float32), jnp.zeros(transposed.shape, jnp.float32))
    to_upper, _ = jax.lax.scan(add_diagonal, nothing[0], share(np.arange(count)))
    blocks = _in_blocks(share(_pairs(count)), count)
    (to_upper, to_lower), _ = jax.lax.scan(add_block, (to_upper, nothing[1]), blocks)
    return to_upper + jnp.matrix_transpose(to_lower)


def _pairs(count: int) -> np.ndarray:
    """All pairs of different tiles, [P,2], by how far they are apart on a ring: so all tiles have
    their turn before one has its next.
    """
    apart = np.repeat(np.arange(1, count // 2 + 1), count)
    tile = np.tile(np.arange(count), count // 2)
    pairs = np.stack([tile, (tile + apart) % count], axis=-1)
    # Half way round the ring each pair comes twice.
    return pairs[: count * (count - 1) // 2]


def _in_blocks(jobs: Int[Array, "p 2"], count: int) -> Int[Array, "blocks in_block 2"]:
    """About as many blocks as a tile has jobs in each, which are added up first: a sum to which all
    came one by one would lose 10⁻⁵ over 100 tiles. The last block ends with tiles that do not
    exist.
    """
    blocks = max(1, round((count / 2) ** 0.5))
    missing = -len(jobs) % blocks
    jobs = jnp.pad(jnp.asarray(jobs), ((0, missing), (0, 0)), constant_values=count)
    return jobs.reshape(blocks, -1, 2)


def _by_rows(
    tiles: _Tiles, share, *, kernel: Kernel, exclude_self: bool
) -> Float[Array, "b t s k1"]:
    """Σ_v M_uv κ_uv/κ_u* [values_v, 1] for all rows u, κ_u* the largest κ of the row.

    Who has no source gets 0; who has one gets a last entry of at least 1. A job is a tile of rows.
    """
    batch, count, size, channels = tiles.held.shape
    within = jnp.arange(size)

    def add_rows(sums, rows):
        def visit(carry, sources):
            largest, sums = carry
            cosine = kernels.cosine(tiles.directions(rows), tiles.directions(sources))
            mask = kernels.pair_mask(
                rows * size + within,
                sources * size + within,
                tiles.is_source[:, sources],
                None if tiles.labels is None else tiles.labels[:, rows],
                None if tiles.labels is None else tiles.labels[:, sources],
                exclude_self,
            )
            log_weight = jnp.where(mask, kernel.log_weight(cosine), -jnp.inf)
            new_largest = jnp.maximum(largest, jnp.max(log_weight, axis=-1))
            # Until a row has met its first source its largest value is -inf, and -inf - -inf would
            # be NaN.
            reference = jnp.where(jnp.isfinite(new_largest), new_largest, 0)
            shrink = jnp.exp(largest - reference)
            weight = jnp.exp(log_weight - reference[..., None])
            sums = sums * shrink[..., None]
            sums += kernels.product("brs,bsk->brk", weight, tiles.held[:, sources])
            return (new_largest, sums), None

        empty = jnp.zeros((batch, size, channels), jnp.float32)
        start = (jnp.full((batch, size), -jnp.inf, jnp.float32), empty)
        (_, of_rows), _ = jax.lax.scan(visit, start, jnp.arange(count))
        return sums.at[:, rows].add(of_rows), None

    sums = jnp.zeros(tiles.held.shape, jnp.float32)
    return jax.lax.scan(add_rows, sums, share(np.arange(count)))[0]
