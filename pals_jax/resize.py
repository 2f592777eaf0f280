"""Resizing between the grid of a network and the grid of its labels.

Grids share the top left corner and differ by a whole factor, so that pixels stay aligned also where
the factor does not divide the size: a coarse grid has ceil(size / factor) cells, of which the last
may reach beyond the image.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


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


def upsample(array: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b H W c"]:
    """Bilinear upsampling in float32 with half-pixel centres, by the factor between the grids."""
    factor = grid_factor(size, (array.shape[1], array.shape[2]))
    return upsample_by(array.astype(jnp.float32), factor, size)


def upsample_by(
    array: Float[Array, "b h w c"], factor: int, size: tuple[int, int]
) -> Float[Array, "b H W c"]:
    """Bilinear upsampling by a known factor with half-pixel centres, cropped to `size`.

    Resizing straight to a size that is no multiple of the factor would stretch the grid.
    """
    batch, rows, columns, channels = array.shape
    shape = (batch, rows * factor, columns * factor, channels)
    return jax.image.resize(array, shape, "linear")[:, : size[0], : size[1]]


def box_sum(array: Float[Array, "b h w c"], factor: int) -> Float[Array, "b H W c"]:
    """Sums over factor × factor cells; what the last cells lack at the border counts as 0."""
    batch, height, width, channels = array.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padding = ((0, 0), (0, rows * factor - height), (0, columns * factor - width), (0, 0))
    blocks = jnp.pad(array, padding).reshape(batch, rows, factor, columns, factor, channels)
    return blocks.sum((2, 4))
