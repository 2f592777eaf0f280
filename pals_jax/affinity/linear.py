"""Kernels that are linear in the cosine: the exact result from sums over sources, O(N·D·K).

    Σ_v (1 + f̂_u·f̂_v) p_v = Σ_v p_v + f̂_u · Σ_v f̂_v p_vᵀ

The two sums over sources are the same for all rows, so the cost is that of two thin matrix
products. The self-pair is subtracted as its own term: 2 p_u, or p_u for a zero feature.

The two sums cancel where nearly all sources are opposite to a row, and against the self-pair where
a row has few sources, all nearly opposite. If that befalls any row, or labels have many
classes, the whole call is computed pair by pair instead.
"""

import math

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import kernels, tiled
from pals_jax.affinity.kernels import Kernel

SIMILARITIES = ("linear_cosine", "uniform")

# With labels there is a sum over the image for each class. From so many pixels on, times the square
# of the number of classes, the sums are faster than the pairs on a CPU.
PIXELS_PER_SUM = 4

# The least mean of (1 + c) over the sources of a row, and the least sum of it relative to the
# self-pair: below them the rounding of the sums shows in the result by more than 10⁻⁵.
_LEAST_MEAN = 0.1
_LEAST_TO_SELF = 0.1

_LEAST_WIDTH = 8


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
    """Aggregates `values` by sums over all sources; see `pals_jax.affinity.aggregate`.

    With labels each class is served from its own sources, one class after the other, so the cost
    is multiplied by the number of classes in the image; of many it is computed pair by pair.

    Products are float32 for inputs of any dtype: they are thin, and ‖f̂‖² of a feature rounded to
    bfloat16 would not be 1, so that a subtracted self-pair would leave a rest.
    """
    features, values = features.astype(jnp.float32), values.astype(jnp.float32)
    unit = kernels.unit_features(features)
    # XLA on a CPU adds up the pixels of a very thin product one by one, with all their roundings.
    unit = jnp.pad(unit, ((0, 0), (0, 0), (0, max(0, _LEAST_WIDTH - unit.shape[-1]))))
    is_cosine = kernel.similarity == "linear_cosine"
    held = kernels.with_ones(values, is_source)

    def serve(held: Float[Array, "b n k1"]) -> Float[Array, "b n k1"]:
        """Σ_v κ_uv [values_v, 1], the self-pair included."""
        sums = jnp.sum(held, axis=1, keepdims=True)
        if is_cosine:
            moment = kernels.product("bnd,bnk->bdk", unit, held)
            sums += kernels.product("bnd,bdk->bnk", unit, moment)
        return jnp.broadcast_to(sums, held.shape)

    needs_pairs = jnp.array(False)
    if labels is None:
        sums = serve(held)
        count = jnp.sum(is_source, axis=1, keepdims=True)
    else:
        rank, count = _rank_and_count(labels, is_source)

        def serve_class(index: Int[Array, ""], sums: Float[Array, "b n k1"]):
            inside = (rank == index)[..., None]
            return jnp.where(inside, serve(jnp.where(inside, held, 0)), sums)

        classes = jnp.max(rank) + 1
        # Not N < 4·classes², which an int32 does not hold for 15,000 classes.
        needs_pairs = classes > math.sqrt(held.shape[1] / PIXELS_PER_SUM)
        start = jnp.zeros(held.shape, jnp.float32)
        sums = jax.lax.fori_loop(0, jnp.where(needs_pairs, 0, classes), serve_class, start)
    of_self = jnp.zeros(is_source.shape, jnp.float32)
    if exclude_self:
        of_self = (1.0 + jnp.any(features != 0, axis=-1) * is_cosine) * is_source
        sums -= of_self[..., None] * held
        count -= is_source
    served = jnp.broadcast_to(count > 0, is_source.shape)
    total = sums[..., -1]

    def divided() -> tuple[Float[Array, "b n k"], Bool[Array, "b n"]]:
        mean = sums[..., :-1] / jnp.where(served, total, 1)[..., None]
        # What is left of a subtracted self-pair may lie outside the values by a rounding.
        lowest, highest = jnp.min(values, axis=1), jnp.max(values, axis=1)
        return jnp.clip(mean, lowest[:, None], highest[:, None]), served

    def pair_by_pair() -> tuple[Float[Array, "b n k"], Bool[Array, "b n"]]:
        return tiled.aggregate(
            features,  # not `unit`, whose memory would then be held for this branch
            values,
            is_source,
            labels,
            kernel,
            exclude_self=exclude_self,
            tile_size=tile_size,
            mesh=mesh,
        )

    if is_cosine:
        cancels = served & (total < _LEAST_MEAN * count + _LEAST_TO_SELF * of_self)
        needs_pairs |= jnp.any(cancels)
    elif labels is None:
        return divided()
    return jax.lax.cond(needs_pairs, pair_by_pair, divided)


def _rank_and_count(
    labels: Int[Array, "b n"], is_source: Bool[Array, "b n"]
) -> tuple[Int[Array, "b n"], Int[Array, "b n"]]:
    """The rank of each label among those that sources of its image have, and how many have it; the
    rank is of no use where none has it.
    """

    def of_image(labels, is_source):
        order = jnp.argsort(labels)
        ordered = labels[order]
        is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
        rank = jnp.zeros_like(order).at[order].set(jnp.cumsum(is_new))
        count = jnp.zeros_like(order).at[rank].add(is_source)
        return (jnp.cumsum(count > 0) - 1)[rank], count[rank]

    return jax.vmap(of_image)(labels, is_source)
