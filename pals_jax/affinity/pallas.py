"""Fused kernels for GPU (Triton) and TPU (Mosaic), written in Pallas: nothing of size N² leaves the
chip.

Each program keeps a tile of rows and the running largest log κ and sums of `tiled`, while the tiles
of sources pass by. Elsewhere, as on a CPU, the TPU form is interpreted: slowly, for tests.

The products of a cosine are added up as the platform does, not in blocks as `kernels.cosine` does:
from τ = 0.01 up, and of bfloat16 features at any τ, results may be off by more than 10⁻⁵ where one
channel is much stronger than many.

Tested interpreted and by compiling down to the platforms' own intermediate code; not yet run on a
GPU or TPU, which is why `choose` never picks it.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import kernels
from pals_jax.affinity.kernels import Kernel

# Rows and sources per tile. A GPU holds a tile in registers and shared memory, a TPU in VMEM.
_GPU_TILE_SIZE = 64
_TPU_TILE_SIZE = 512
# The tensor cores of a GPU multiply powers of two from 16 up; a TPU's registers have 128 lanes.
_GPU_LEAST_WIDTH = 16
_TPU_LANES = 128


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
    """Aggregates `values` in one kernel; see `pals_jax.affinity.aggregate`."""
    del mesh  # `aggregation` gives none to an implementation that cannot share an image
    options = {"kernel": kernel, "exclude_self": exclude_self, "tile_size": tile_size}
    directions = kernels.directions(features, exact=kernel.is_steep)
    held = kernels.with_ones(values, is_source)
    labels = jnp.zeros(is_source.shape, jnp.int32) if labels is None else labels.astype(jnp.int32)
    sums = jax.lax.platform_dependent(
        directions,
        held,
        is_source,
        labels,
        cuda=functools.partial(on_gpu, **options),
        rocm=functools.partial(on_gpu, **options),
        tpu=functools.partial(on_tpu, **options),
        default=functools.partial(on_tpu, interpret=True, **options),
    )
    total = sums[..., -1:]
    served = total > 0
    return sums[..., :-1] / jnp.where(served, total, 1), served[..., 0]


def on_gpu(
    directions, held, is_source, labels, *, kernel, exclude_self, tile_size, interpret=False
):
    """Σ_v M_uv κ_uv/κ_u* [values_v, 1], one program per tile of rows that loops over the sources.

    Args:
      directions: of B images of N pixels in one part, see `kernels.Directions`.
      held: [B,N,K+1], see `kernels.with_ones`.
      is_source: [B,N].
      labels: [B,N] int32; equal for all pixels where classes do not matter.
      kernel: κ.
      exclude_self: whether a pixel never serves itself.
      tile_size: rows and sources per tile, on a GPU a power of two from 16, on a TPU a multiple of
          128; the platform's default where None.
      interpret: runs the kernel anywhere, for tests.

    Returns:
      [B,N,K+1] float32; 0 for who has no source, else a last entry of at least 1.
    """
    size = tile_size or _GPU_TILE_SIZE
    widths = (directions.parts[0].shape[-1], held.shape[-1])
    width, channels = (max(_GPU_LEAST_WIDTH, pl.next_power_of_2(n)) for n in widths)
    arrays, tiles = _padded(directions, held, is_source, labels, size, width, channels)
    batch = len(held)

    def program(
        rows_ref,
        row_norm_ref,
        features_ref,
        norm_ref,
        held_ref,
        source_ref,
        row_label_ref,
        label_ref,
        sums_ref,
    ):
        tile = pl.program_id(1)
        rows, row_norm, row_labels = rows_ref[...], row_norm_ref[...], row_label_ref[...]

        def visit(offset, carry):
            here = pl.ds(offset * size, size)
            cosine = _cosine(rows, row_norm, features_ref[here, :], norm_ref[:, here], kernel)
            is_source, source_labels = source_ref[:, here], label_ref[:, here]
            mask = _mask(tile, offset, is_source, row_labels, source_labels, exclude_self)
            return _visit(carry, cosine, held_ref[here, :], mask, kernel)

        start = _start(size, channels)
        _, sums_ref[...] = jax.lax.fori_loop(0, tiles, visit, start)

    def tile(shape):
        return pl.BlockSpec((None, *shape), lambda image, tile: (image, tile, 0))

    def whole(*shape):
        return pl.BlockSpec((None, *shape), lambda image, tile: (image, 0, 0))

    pixels = tiles * size
    sums = pl.pallas_call(
        program,
        grid=(batch, tiles),
        in_specs=[
            tile((size, width)),
            tile((size, 1)),
            whole(pixels, width),
            whole(1, pixels),
            whole(pixels, channels),
            whole(1, pixels),
            tile((size, 1)),
            whole(1, pixels),
        ],
        out_specs=tile((size, channels)),
        out_shape=jax.ShapeDtypeStruct((batch, pixels, channels), jnp.float32),
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="affinity_aggregate",
    )(*arrays)
    return sums[:, : held.shape[1], : held.shape[-1]]


def on_tpu(
    directions, held, is_source, labels, *, kernel, exclude_self, tile_size, interpret=False
):
    """What `on_gpu` computes, as a grid over pairs of tiles whose last axis runs in order."""
    size = tile_size or min(_TPU_TILE_SIZE, -(-held.shape[1] // _TPU_LANES) * _TPU_LANES)
    widths = (directions.parts[0].shape[-1], held.shape[-1])
    width, channels = (-(-n // _TPU_LANES) * _TPU_LANES for n in widths)
    arrays, tiles = _padded(directions, held, is_source, labels, size, width, channels)
    batch = len(held)

    def program(
        rows_ref,
        row_norm_ref,
        features_ref,
        norm_ref,
        held_ref,
        source_ref,
        row_label_ref,
        label_ref,
        sums_ref,
        largest_ref,
    ):
        tile, offset = pl.program_id(1), pl.program_id(2)

        @pl.when(offset == 0)
        def _():
            largest_ref[...], sums_ref[...] = _start(size, channels)

        cosine = _cosine(rows_ref[...], row_norm_ref[...], features_ref[...], norm_ref[...], kernel)
        mask = _mask(
            tile, offset, source_ref[...], row_label_ref[...], label_ref[...], exclude_self
        )
        largest_ref[...], sums_ref[...] = _visit(
            (largest_ref[...], sums_ref[...]), cosine, held_ref[...], mask, kernel
        )

    def of_rows(*shape):
        return pl.BlockSpec((None, *shape), lambda image, tile, offset: (image, tile, 0))

    def of_sources(*shape):
        return pl.BlockSpec((None, *shape), lambda image, tile, offset: (image, offset, 0))

    per_source = pl.BlockSpec((None, 1, size), lambda image, tile, offset: (image, 0, offset))
    sums = pl.pallas_call(
        program,
        grid=(batch, tiles, tiles),
        in_specs=[
            of_rows(size, width),
            of_rows(size, 1),
            of_sources(size, width),
            per_source,
            of_sources(size, channels),
            per_source,
            of_rows(size, 1),
            per_source,
        ],
        out_specs=of_rows(size, channels),
        out_shape=jax.ShapeDtypeStruct((batch, tiles * size, channels), jnp.float32),
        scratch_shapes=[pltpu.VMEM((size, 1), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        interpret=interpret,
        name="affinity_aggregate",
    )(*arrays)
    return sums[:, : held.shape[1], : held.shape[-1]]


def _padded(directions, held, is_source, labels, size: int, width: int, channels: int):
    """The inputs of a kernel and the number of tiles. Padding is no source."""
    pixels = held.shape[1]
    tiles = -(-pixels // size)
    more = tiles * size - pixels
    (features,), norm = directions
    norm = jnp.ones(features.shape[:2], jnp.float32) if norm is None else norm
    norm = jnp.pad(norm, ((0, 0), (0, more)))
    features = jnp.pad(features, ((0, 0), (0, more), (0, width - features.shape[-1])))
    held = jnp.pad(held, ((0, 0), (0, more), (0, channels - held.shape[-1])))
    is_source, labels = (
        jnp.pad(x.astype(jnp.int32), ((0, 0), (0, more))) for x in (is_source, labels)
    )
    arrays = (
        features,
        norm[:, :, None],
        features,
        norm[:, None, :],
        held,
        is_source[:, None, :],
        labels[:, :, None],
        labels[:, None, :],
    )
    return arrays, tiles


def _start(size: int, channels: int):
    """(largest log κ [S,1], sums [S,K+1]) of rows that have met no source."""
    return (
        jnp.full((size, 1), -jnp.inf, jnp.float32),
        jnp.zeros((size, channels), jnp.float32),
    )


def _cosine(rows, row_norm, sources, source_norm, kernel: Kernel):
    """c of a tile of rows and one of sources, [S,S], with the inverse norms [S,1] and [1,S]."""
    wide = rows.dtype == jnp.float32
    exact = {"precision": jax.lax.Precision.HIGHEST} if wide else {}

    def products(rows, sources):
        return jax.lax.dot_general(
            rows, sources, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32, **exact
        )

    if wide and kernel.is_steep:
        total = kernels.exact_products(products, rows, sources)
    else:
        total = products(rows, sources)
    return total * row_norm * source_norm


def _mask(tile, offset, is_source, row_labels, source_labels, exclude_self: bool):
    """M of a tile of rows and one of sources, [S,S]."""
    mask = (row_labels == source_labels) & (is_source > 0)
    if exclude_self:
        shape = mask.shape
        row = tile * shape[0] + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
        source = offset * shape[1] + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
        mask &= row != source
    return mask


def _visit(carry, cosine, held, mask, kernel: Kernel):
    """Adds a tile of sources to (largest log κ, sums) of a tile of rows."""
    largest, sums = carry
    log_weight = jnp.where(mask, kernel.log_weight(cosine), -jnp.inf)
    new_largest = jnp.maximum(largest, jnp.max(log_weight, axis=1, keepdims=True))
    # Until a row has met its first source its largest value is -inf, and -inf - -inf would be NaN.
    reference = jnp.where(new_largest > -jnp.inf, new_largest, 0)
    weight = jnp.exp(log_weight - reference).astype(held.dtype)
    exact = {"precision": jax.lax.Precision.HIGHEST} if held.dtype == jnp.float32 else {}
    added = jax.lax.dot_general(
        weight, held, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32, **exact
    )
    return new_largest, sums * jnp.exp(largest - reference) + added
