"""3×3 convolution by fewer products, after Winograd, and its gradients.

F(2×2, 3×3) of Lavin and Gray (Fast Algorithms for Convolutional Neural Networks, CVPR 2016)
computes tiles of 2×2 outputs from tiles of 4×4 inputs. In one dimension, with inputs d, taps g and
outputs y[0] = Σ d[t] g[t], y[1] = Σ d[t + 1] g[t]:

    v = (d0 - d2, d1 + d2, d2 - d1, d1 - d3),   u = (g0, (g0 + g1 + g2)/2, (g0 - g1 + g2)/2, g2)
    y = (m0 + m1 + m2, m1 - m2 - m3)            with m = u v

In two dimensions the same is done along rows, then columns: 16 products for four outputs instead of
36. Each of the 16 is one product of matrices, all tiles by all channels. No output depends on an
input outside of its own window. Rounding is that of sums of up to four inputs.

Dilation r makes r interleaved grids of the rows: with i in {0, 1}, row (2p + i) r + k of the padded
image is input i of tile p, and input i + 2 of tile p - 1, of the k-th grid. So the padded image
needs but a reshape, to [b, p + 1, 2, r, q + 1, 2, r, c].
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# It takes five times as long to compile, 1.9 s against 0.35 s, which fewer do not pay.
_MIN_MULTIPLICATIONS = 2**26  # of each tap
# Of the multiplications of nine taps. At 0.73 the sums take more time than is saved, at 0.62 less.
_MAX_SHARE = 2 / 3

# The taps in reverse order only reorder their transform.
_REVERSED = (3, 1, 2, 0)


def pays(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], dilation: int) -> bool:
    """Whether a training step of these shapes is faster so, measured on two cores.

    Args:
      x: [B,H,W,in].
      kernel: [3,3,in,out], of the dtype of x.
      dilation: of the kernel.
    """
    height, width = x.shape[1:3]
    period = 2 * dilation
    padded = -(-height // period) * -(-width // period) * period**2
    return (
        x.size * kernel.shape[3] >= _MIN_MULTIPLICATIONS
        and 4 * padded <= _MAX_SHARE * 9 * height * width
        and jnp.finfo(x.dtype).bits >= 32  # fewer do not bear its sums
    )


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], dilation: int
) -> Float[Array, "b h w o"]:
    """y[u] = Σ_t x[u + dilation · t] kernel[t] at stride 1, with zeros beyond the image.

    Args:
      x: [B,H,W,in].
      kernel: [3,3,in,out], of the dtype of x.
      dilation: of the kernel.

    Returns:
      [B,H,W,out].
    """
    weights = _of_taps([*kernel.reshape(9, *kernel.shape[2:])])
    products = [v @ u for v, u in zip(_of_inputs(x, dilation), weights, strict=True)]
    return _outputs(products, (*x.shape[:3], kernel.shape[3]), dilation)


def gradients(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "3 3 i o"],
    gradient: Float[Array, "b h w o"],
    dilation: int,
) -> tuple[Float[Array, "b h w i"], Float[Array, "3 3 i o"]]:
    """∂L/∂x and ∂L/∂kernel, through the same transforms.

    They make no copies as the gradients of the formula, step by step, would.

    Args:
      x: [B,H,W,in].
      kernel: [3,3,in,out], of the dtype of x.
      gradient: ∂L/∂y, [B,H,W,out].
      dilation: of the kernel.
    """
    # ∂L/∂x is the convolution of the gradient with the reversed kernel, from `out` to `in`.
    taps = [*kernel.reshape(9, *kernel.shape[2:])]
    weights = _of_taps(taps)
    weights = [weights[4 * i + j].T for i in _REVERSED for j in _REVERSED]
    products = [v @ u for v, u in zip(_of_inputs(gradient, dilation), weights, strict=True)]
    of_x = _outputs(products, x.shape, dilation)
    # ∂L/∂kernel goes back through the outputs, the products and the taps.
    (of_products,) = jax.linear_transpose(
        lambda products: _outputs(products, gradient.shape, dilation),
        [jax.ShapeDtypeStruct((len(m), kernel.shape[3]), m.dtype) for m in products],
    )(gradient)
    of_weights = [v.T @ m for v, m in zip(_of_inputs(x, dilation), of_products, strict=True)]
    (of_taps,) = jax.linear_transpose(_of_taps, taps)(of_weights)
    return of_x, jnp.stack(of_taps).reshape(kernel.shape)


def _of_inputs(x: Float[Array, "b h w c"], dilation: int) -> list[Float[Array, "n c"]]:
    """The 16 transformed inputs v, each of all n = b p r q r tiles."""
    batch, height, width, channels = x.shape
    period = 2 * dilation
    rows, columns = (-(-length // period) + 1 for length in (height, width))
    below, right = rows * period - height - dilation, columns * period - width - dilation
    padded = jnp.pad(x, ((0, 0), (dilation, below), (dilation, right), (0, 0)))
    tiles = padded.reshape(batch, rows, 2, dilation, columns, 2, dilation, channels)

    def transformed(first: Array, second: Array, axis: int) -> tuple[Array, ...]:
        steps = first.shape[axis] - 1
        d0, d2 = (jax.lax.slice_in_dim(first, k, k + steps, axis=axis) for k in (0, 1))
        d1, d3 = (jax.lax.slice_in_dim(second, k, k + steps, axis=axis) for k in (0, 1))
        return d0 - d2, d1 + d2, d2 - d1, d1 - d3

    return [
        v.reshape(-1, channels)
        for row in transformed(tiles[:, :, 0], tiles[:, :, 1], 1)
        for v in transformed(row[:, :, :, :, 0], row[:, :, :, :, 1], 3)
    ]


def _of_taps(taps: list[Float[Array, "i o"]]) -> list[Float[Array, "i o"]]:
    """The 16 transformed taps u of the nine taps g."""

    def transformed(g0: Array, g1: Array, g2: Array) -> tuple[Array, ...]:
        return g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2

    columns = zip(*(transformed(*taps[column::3]) for column in range(3)), strict=True)
    return [u for row in columns for u in transformed(*row)]


def _outputs(
    products: list[Float[Array, "n o"]], shape: tuple[int, ...], dilation: int
) -> Float[Array, "b h w o"]:
    """The outputs y of the 16 products m, of shape [b,h,w,o]."""
    batch, height, width, channels = shape
    period = 2 * dilation
    rows, columns = (-(-length // period) for length in (height, width))

    def transformed(m0: Array, m1: Array, m2: Array, m3: Array) -> tuple[Array, Array]:
        return m0 + m1 + m2, m1 - m2 - m3

    by_row = [transformed(*products[first : first + 4]) for first in range(0, 16, 4)]
    tiles = [
        [
            y.reshape(batch, rows, dilation, columns, dilation, channels)
            for y in transformed(*column)
        ]
        for column in zip(*by_row, strict=True)
    ]
    whole = jnp.stack([jnp.stack(pair, axis=4) for pair in zip(*tiles, strict=True)], axis=2)
    return whole.reshape(batch, rows * period, columns * period, channels)[:, :height, :width]
