"""Resizing between the grid of a network and the grid of its labels.

Grids share the top left corner and differ by a whole factor, so that pixels stay aligned also where
the factor does not divide the size: a coarse grid has ceil(size / factor) cells, of which the last
may reach beyond the image.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def grid_factor(size: tuple[int, int], grid: tuple[int, int]) -> int:
    """The whole factor f with grid = ceil(size / f) on both axes.

    Images of a few pixels leave a choice; then a power of two is taken, as the strides of networks
    are.

    Raises:
      ValueError: no such factor exists.
    """
    fitting = [
        factor
        for factor in range(1, max(size) + 1)
        if all(-(-length // factor) == cells for length, cells in zip(size, grid, strict=True))
    ]
    if not fitting:
        raise ValueError(
            f"a grid of {grid[0]} × {grid[1]} cells is not ceil(size / factor) of {size[0]} × "
            f"{size[1]}"
        )
    return min(fitting, key=lambda factor: (factor.bit_count() > 1, factor))


def on_grid(valid: Bool[Array, "b H W"], grid: tuple[int, int]) -> Bool[Array, "b h w"]:
    """Cells of a coarser grid with a valid pixel; those of an image are its top left rectangle."""
    factor = grid_factor((valid.shape[1], valid.shape[2]), grid)
    return valid[:, ::factor, ::factor]


def upsample(
    array: Float[Array, "b h w c"],
    size: tuple[int, int],
    valid: Bool[Array, "b H W"] | None = None,
    downsample: int = 1,
) -> Float[Array, "b H W c"]:
    """Bilinear upsampling in float32 with half-pixel centres, by the factor between the grids.

    Args:
      array: [B,h,w,C].
      size: (H, W).
      valid: False where an image is padded at the right or the bottom: what lies there does not
        reach the valid pixels. None for no padding.
      downsample: factor from (H, W) to what the network saw, whose grid this is.
    """
    seen = (-(-size[0] // downsample), -(-size[1] // downsample))
    factor = downsample * grid_factor(seen, (array.shape[1], array.shape[2]))
    cells = None if valid is None else valid[:, ::factor, ::factor]
    return upsample_by(array.astype(jnp.float32), factor, size, cells)


def upsample_by(
    array: Float[Array, "b h w c"],
    factor: int,
    size: tuple[int, int],
    valid: Bool[Array, "b h w"] | None = None,
) -> Float[Array, "b H W c"]:
    """Bilinear upsampling by a known factor with half-pixel centres, cropped to `size`.

    Resizing straight to a size that is no multiple of the factor would stretch the grid. Where
    `valid`, a rectangle in the top left corner, is False, the nearest valid cell stands, as it does
    beyond the border of an image.
    """
    if valid is not None:
        array = extend(array, valid)
    batch, rows, columns, channels = array.shape
    shape = (batch, rows * factor, columns * factor, channels)
    return jax.image.resize(array, shape, "linear")[:, : size[0], : size[1]]


def extend(array: Float[Array, "b h w c"], valid: Bool[Array, "b h w"]) -> Float[Array, "b h w c"]:
    """Where `valid`, a rectangle in the top left corner, is False: the nearest valid cell."""
    for axis, count in ((1, valid.any(2).sum(1)), (2, valid.any(1).sum(1))):
        last = jnp.maximum(count - 1, 0)
        nearest = jnp.minimum(jnp.arange(array.shape[axis]), last[:, None])
        shape = (-1, *(array.shape[axis] if i == axis else 1 for i in (1, 2)), 1)
        array = jnp.take_along_axis(array, nearest.reshape(shape), axis)
    return array


def box_sum(array: Float[Array, "*b h w c"], factor: int) -> Float[Array, "*b H W c"]:
    """Sums over factor × factor cells; what the last cells lack at the border counts as 0."""
    *batch, height, width, channels = array.shape
    rows, columns = -(-height // factor), -(-width // factor)
    missing = ((0, rows * factor - height), (0, columns * factor - width), (0, 0))
    padded = jnp.pad(array, (*((0, 0) for _ in batch), *missing))
    return padded.reshape(*batch, rows, factor, columns, factor, channels).sum((-4, -2))
