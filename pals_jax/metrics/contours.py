"""Which pixels lie near a contour of an index map: at one cost for every distance, without an array
per class.

All distances are Chebyshev's, max(|Δy|, |Δx|). An edge pixel has another index among its 3×3
neighbours. A pixel lies within distance r of another index iff an edge pixel lies within r - 1 of
it: on a shortest way to the other index, the last pixel before the first change is an edge pixel;
and an edge pixel or a neighbour of it has another index than any given pixel.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def edge_counts(index: Int[Array, "b h w"], valid: Bool[Array, "b h w"]) -> Int[Array, "b h+1 w+1"]:
    """Number of edge pixels above and to the left of each corner between pixels: a summed-area
    table (Crow, Summed-area tables for texture mapping, SIGGRAPH 1984), int32.

    Args:
      index: of each pixel, at least 0.
      valid: False where there is no pixel, which is no neighbour either.
    """
    # The neighbours differ iff the least of them is not the highest.
    highest = _highest_neighbour(jnp.where(valid, index, -1), -1)
    most = jnp.iinfo(jnp.int32).max
    lowest = -_highest_neighbour(jnp.where(valid, -index, -most), -most)
    edges = valid & (highest != lowest)
    counts = jnp.cumsum(jnp.cumsum(edges, axis=1, dtype=jnp.int32), axis=2)
    return jnp.pad(counts, ((0, 0), (1, 0), (1, 0)))


def _highest_neighbour(values: Int[Array, "b h w"], beyond: int) -> Int[Array, "b h w"]:
    """The highest of each pixel's 3×3 neighbours, itself included; `beyond` outside the image."""
    padded = jnp.pad(values, ((0, 0), (1, 1), (1, 1)), constant_values=beyond)
    rows = jnp.maximum(jnp.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return jnp.maximum(jnp.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])


def near_contour(
    counts: Int[Array, "b h+1 w+1"], distance: Int[Array, "b"]
) -> Bool[Array, "b h w"]:
    """Pixels within a distance of another index: with an edge pixel in the window around them.

    Args:
      counts: from `edge_counts`.
      distance: of each image, at least 1.
    """
    height, width = counts.shape[1] - 1, counts.shape[2] - 1

    def of_image(counts: Array, distance: Array) -> Array:
        top, bottom = _window(height, distance)
        left, right = _window(width, distance)
        rows = counts[bottom] - counts[top]
        return rows[:, right] - rows[:, left] > 0

    return jax.vmap(of_image)(counts, distance)


def _window(length: int, distance: Int[Array, ""]) -> tuple[Int[Array, "n"], Int[Array, "n"]]:
    """Where the pixels within distance - 1 of each pixel of a line begin and end."""
    pixel = jnp.arange(length)
    return jnp.maximum(pixel - (distance - 1), 0), jnp.minimum(pixel + distance, length)
