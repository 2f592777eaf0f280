"""Layers with the geometry and the defaults of PyTorch: images [B,H,W,C], kernels [h,w,in,out].

A window of size k and dilation d is padded by d·(k // 2) on both sides. "SAME" would pad a strided
window unevenly, and so shift its grid by a pixel against every network trained in PyTorch.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pals_jax.models import winograd
from pals_jax.resize import on_grid

# With fewer input channels, products over channels are too thin to pay.
_MIN_CHANNELS_FOR_PRODUCTS = 64

_EPSILON = 1e-5  # of BatchNorm

# On images of at most so many dilations, taps are cropped: that saves a third of the products at
# four, and all but a ninth at one.
_FEW_BORDERS = 4


class Conv(nnx.Module):
    """A square convolution without bias (BatchNorm follows it), initialised as in torchvision.

    Parameters are float32; inputs and kernel are cast to `dtype`, in which the result comes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(kaiming_normal(rngs.params(), size, in_channels, out_channels))
        self.stride = stride
        self.dilation = dilation
        self.dtype = dtype

    def __call__(
        self, x: Float[Array, "b h w i"], valid: Bool[Array, "b H W"] | None = None
    ) -> Float[Array, "b p q o"]:
        """Output [B, ceil(H / stride), ceil(W / stride), out].

        Args:
          x: [B,H,W,in].
          valid: the pixels of the images that are no padding, see `zero_padding`; None for all.
        """
        x = x.astype(self.dtype)
        if self.kernel.shape[0] > 1:
            x = zero_padding(x, valid)
        kernel = self.kernel[...].astype(self.dtype)
        return convolve(x, kernel, stride=self.stride, dilation=self.dilation)


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation whose statistics and arithmetic are float32 for inputs of any dtype.

    Momentum 0.9 is what PyTorch calls 0.1. The running variance is the biased one. The two-pass
    variance is never negative. Where jit shards the batch over devices, statistics are those of
    the whole batch.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        super().__init__(channels, momentum=0.9, epsilon=_EPSILON, rngs=rngs)

    def __call__(  # type: ignore[override]
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b h w c"]:
        """Normalises by the batch and updates the running statistics, or by the running ones.

        Args:
          x: any float dtype, which the result has too.
          train: whether to use the statistics of the batch.
        """
        if not train:
            return super().__call__(x, use_running_average=True).astype(x.dtype)
        wide = jnp.promote_types(x.dtype, jnp.float32)  # float64 stays so
        rows = x.astype(wide).reshape(-1, x.shape[-1])
        assert self.scale is not None  # as BatchNorm is by default
        assert self.bias is not None
        result, mean, variance = _normalise(rows, self.scale[...], self.bias[...])
        for running, new in ((self.mean, mean), (self.var, variance)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * new
        return result.reshape(x.shape).astype(x.dtype)


class ConvBlock(nnx.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        *,
        dilation: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(in_channels, out_channels, size, dilation=dilation, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(out_channels, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        *,
        train: bool,
        valid: Bool[Array, "b H W"] | None = None,
    ) -> Float[Array, "b h w o"]:
        """Keeps the grid."""
        return nnx.relu(self.bn(self.conv(x, valid), train=train))


def kaiming_normal(
    key: Array, size: int, in_channels: int, out_channels: int
) -> Float[Array, "k k i o"]:
    """Draws a kernel from N(0, 2 / fan_out), fan_out = size² · out_channels (He et al. 2015)."""
    deviation = math.sqrt(2 / (size**2 * out_channels))
    shape = (size, size, in_channels, out_channels)
    # Drawn flat, because XLA compiles a four-dimensional draw three times as long.
    return deviation * jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], *, stride: int, dilation: int
) -> Float[Array, "b p q o"]:
    """Convolution with PyTorch's padding, in the form that runs fastest where it is compiled.

    A 1×1 kernel is a dot product over channels, which XLA runs up to five times as fast on a CPU as
    the convolution. On a CPU a wide 3×3 kernel has forms of its own: on images of few dilations
    `_cropped_taps`, on others `_convolve_for_cpu`, which has no forward-mode derivative.

    Args:
      x: [B,H,W,in].
      kernel: [k,k,in,out], k odd, of the dtype of x.
      stride: of the window.
      dilation: of the kernel.

    Returns:
      [B, ceil(H / stride), ceil(W / stride), out] of the dtype of x.
    """
    size, _, channels, _ = kernel.shape
    if size == 1:
        x = x[:, ::stride, ::stride]
        # As one matrix, because of four axes XLA on a CPU writes a transposed copy in the gradient.
        rows = x.reshape(-1, channels) @ kernel[0, 0]
        return rows.reshape(*x.shape[:3], -1)
    if size == 3 and stride == 1 and channels >= _MIN_CHANNELS_FOR_PRODUCTS:
        few_borders = min(x.shape[1:3]) <= _FEW_BORDERS * dilation
        products = _cropped_taps if few_borders else _convolve_for_cpu
        return jax.lax.platform_dependent(
            x,
            kernel,
            cpu=lambda x, kernel: products(x, kernel, dilation),
            default=lambda x, kernel: _convolve(x, kernel, 1, dilation),
        )
    return _convolve(x, kernel, stride, dilation)


def zero_padding(
    x: Float[Array, "b h w c"], valid: Bool[Array, "b H W"] | None
) -> Float[Array, "b h w c"]:
    """Zeros where an image is padded: what a window sees beyond the border of an image that is not.

    Before every window it makes the outputs for the valid pixels independent of the padding.

    Args:
      x: on a grid of the images.
      valid: [B,H,W] on the pixels of the images, a rectangle in the top left corner of each; None
        for no padding.
    """
    if valid is None:
        return x
    return jnp.where(on_grid(valid, (x.shape[1], x.shape[2]))[..., None], x, 0)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b p q c"]:
    """Maximum over 3×3 windows at stride 2: [B, ceil(H / 2), ceil(W / 2), C].

    Over rows, then columns, as a maximum of three slices: the gradient of XLA's own window takes a
    CPU six times as long. Equal maxima share the gradient.
    """
    for axis in (1, 2):
        steps = -(-x.shape[axis] // 2)
        border = [(0, 0)] * x.ndim
        border[axis] = (1, 1)
        padded = jnp.pad(x, border, constant_values=-jnp.inf)
        x = functools.reduce(
            jnp.maximum,
            [
                jax.lax.slice_in_dim(padded, first, first + 2 * steps - 1, 2, axis)
                for first in range(3)
            ],
        )
    return x


@jax.custom_vjp
def _normalise(
    rows: Float[Array, "n c"], scale: Float[Array, " c"], bias: Float[Array, " c"]
) -> tuple[Float[Array, "n c"], Float[Array, " c"], Float[Array, " c"]]:
    """y = scale (x - mean)/√(variance + ε) + bias per channel, with mean and variance.

    Its gradient is written out, because that of the formula, step by step, visits the rows twice as
    often:

        ∂L/∂x = scale/σ (g - mean(g) - x̂ mean(g x̂)),   ∂L/∂scale = Σ g x̂,   ∂L/∂bias = Σ g

    with g = ∂L/∂y, σ = √(variance + ε) and x̂ = (x - mean)/σ. None flows into mean and variance.
    """
    return _normalise_forward(rows, scale, bias)[0]


def _normalise_forward(rows, scale, bias):
    mean = jnp.mean(rows, axis=0)
    variance = jnp.mean(jnp.square(rows - mean), axis=0)
    inverse = jax.lax.rsqrt(variance + _EPSILON)
    result = (rows - mean) * (inverse * scale) + bias
    return (result, mean, variance), (rows, scale, mean, inverse)


def _normalise_backward(kept, gradients):
    rows, scale, mean, inverse = kept
    gradient = gradients[0]
    unit = (rows - mean) * inverse
    of_bias, of_scale = jnp.sum(gradient, axis=0), jnp.sum(gradient * unit, axis=0)
    of_rows = scale * inverse * (gradient - (of_bias + unit * of_scale) / len(rows))
    return of_rows, of_scale, of_bias


_normalise.defvjp(_normalise_forward, _normalise_backward)


def _convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "k k i o"], stride: int, dilation: int
) -> Float[Array, "b p q o"]:
    """The convolution of XLA."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(dilation * (kernel.shape[0] // 2),) * 2] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_for_cpu(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], dilation: int
) -> Float[Array, "b h w o"]:
    """3×3 convolution at stride 1 whose gradient is not that of XLA.

        ∂L/∂kernel[t] = Σ_u x[u] ∂L/∂y[u - dilation · t]    over the nine taps t

    is nine products, because XLA's own gradient of the kernel takes a CPU three times as long. The
    gradient is shifted and not x, because each product needs x transposed, which so is done once.

    Where `winograd` pays, a training step takes its form both forward and backward. Evaluation
    keeps XLA's, which on a whole photo takes far less memory.
    """
    return _convolve(x, kernel, 1, dilation)


def _convolve_forward(x, kernel, dilation):
    if winograd.pays(x, kernel, dilation):
        return winograd.convolve(x, kernel, dilation), (x, kernel)
    return _convolve(x, kernel, 1, dilation), (x, kernel)


def _convolve_backward(dilation, inputs, gradient):
    x, kernel = inputs
    if winograd.pays(x, kernel, dilation):
        return winograd.gradients(x, kernel, gradient, dilation)
    (of_x,) = jax.vjp(lambda x: _convolve(x, kernel, 1, dilation), x)[1](gradient)
    height, width = x.shape[1:3]
    border = (dilation, dilation)
    padded = jnp.pad(gradient, ((0, 0), border, border, (0, 0)))
    taps = [
        jnp.einsum("bhwi,bhwo->io", x, padded[:, row:, column:][:, :height, :width])
        for row in (2 * dilation, dilation, 0)
        for column in (2 * dilation, dilation, 0)
    ]
    return of_x, jnp.stack(taps).reshape(kernel.shape)


_convolve_for_cpu.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.checkpoint, static_argnums=2)
def _cropped_taps(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], dilation: int
) -> Float[Array, "b h w o"]:
    """3×3 convolution at stride 1: y[u] = Σ_t x[u + dilation · t] · kernel[t] over the nine taps t.

    Where the dilation is large for the image, as at rate 12 on 16×16 cells, most taps lie beyond
    the border and multiply zeros; each tap multiplies only where it falls on the image.

    The checkpoint keeps x for the gradient instead of its nine shifted copies.
    """
    height, width = x.shape[1:3]
    offsets = (-dilation, 0, dilation)
    taps = [
        _where_it_falls(x, row, column, kernel[i, j])
        for i, row in enumerate(offsets)
        for j, column in enumerate(offsets)
        if abs(row) < height and abs(column) < width
    ]
    return sum(taps[1:], start=taps[0])


def _where_it_falls(
    x: Float[Array, "b h w i"], row: int, column: int, weights: Float[Array, "i o"]
) -> Float[Array, "b h w o"]:
    """x shifted by (row, column) times the weights, computed only where the shift stays inside."""
    slices, borders = [slice(None)], [(0, 0)]
    for length, offset in ((x.shape[1], row), (x.shape[2], column)):
        slices.append(slice(max(0, offset), length + min(0, offset)))
        borders.append((max(0, -offset), max(0, offset)))
    return jnp.pad(x[tuple(slices)] @ weights, (*borders, (0, 0)))
