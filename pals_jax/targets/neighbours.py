"""Weighted sums over the 3×3 neighbourhood of each pixel."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def neighbourhood_sum(
    array: Float[Array, "b h w c"], weights: tuple[tuple[float, ...], ...], *, border: str
) -> Float[Array, "b h w c"]:
    """Σ_ij weights[i][j] array[y + i - 1, x + j - 1].

    Args:
      array: [B,H,W,C].
      weights: 3×3.
      border: how the array goes on beyond its border, a mode of `jnp.pad`.
    """
    height, width = array.shape[1:3]
    padded = jnp.pad(array, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=border)
    return sum(
        (
            weight * padded[:, i : i + height, j : j + width]
            for i, row in enumerate(weights)
            for j, weight in enumerate(row)
        ),
        start=jnp.zeros_like(array),
    )
