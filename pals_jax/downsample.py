"""Down-sampling of images and labels by the same kernel: the mean over factor × factor pixels.

Soft labels under down-sampling are after arXiv 2302.13961 (Computational Visual Media 2025), whose
released code resizes without antialiasing: a pole of 2 pixels then keeps between none and a
multiple of its mass, depending on where it stands. The box mean is our choice, because it conserves
the mass of every class exactly.

A factor that does not divide the size gives ceil(size / factor) cells, of which the last reach
beyond the image: labels go on there as `ignore`, images as their last row and column.
"""

import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pals_jax.class_indices import require_classes
from pals_jax.resize import box_sum, extend


def soft_downsample(
    labels: Int[Array, "*b H W"], factor: int, num_classes: int, ignore: int
) -> tuple[Float[Array, "*b h w k"], Float[Array, "*b h w"]]:
    """Share of each class in factor × factor cells: ỹ_c = 1/f² Σ_{u in cell c} y_u, y_u one-hot.

    Pixels without a label have y_u = 0, so a cell has the mass s_c = Σ_k ỹ_ck, its labelled share.
    The shares are not renormalised: f² Σ_c ỹ_ck is the number of pixels of class k. After arXiv
    2302.13961, with the box mean for its resizing, see the module.

    Args:
      labels: class of each pixel.
      factor: f, pixels per cell on each axis.
      num_classes: K.
      ignore: the index of pixels that have no label.

    Returns:
      ỹ [...,h,w,K] and s [...,h,w] in float32, with h = ceil(H / f).

    Raises:
      ValueError: the factor is no integer ≥ 1, the type of the labels is no integer, or values lie
        outside the classes. Inside a jitted function values cannot be checked; there a pixel with
        such a value has no label.

    Example:
      >>> soft, mass = soft_downsample(jnp.array([[0, 1], [1, 255]]), 2, num_classes=2, ignore=255)
      >>> soft.tolist(), mass.tolist()
      ([[[0.25, 0.5]]], [[0.75]])
    """
    _check_factor(factor)
    if not isinstance(labels, jax.Array):
        labels = np.asarray(labels)  # of 64 bits, which JAX would cut to 32 unchecked
    require_classes("labels", labels, num_classes, ignore)
    index = jnp.asarray(labels.astype(jnp.int32))  # in bytes, 300 would equal 44
    # Before the mean, so that void takes a share of no class; -1 has a row of zeros.
    index = jnp.where(index == ignore, -1, index)
    counts = box_sum(jax.nn.one_hot(index, num_classes, dtype=jnp.float32), factor)
    return counts / factor**2, counts.sum(-1) / factor**2


def nearest_downsample(
    labels: Int[Array, "*b H W"], factor: int, ignore: int
) -> Int[Array, "*b h w"]:
    """The label of pixel (i f + ⌊f/2⌋, j f + ⌊f/2⌋) for cell (i, j), as INTER_NEAREST_EXACT of
    OpenCV takes it; `ignore` where that lies beyond the image.

    Args:
      labels: class of each pixel.
      factor: f, pixels per cell on each axis.
      ignore: the index of pixels that have no label.

    Returns:
      [...,h,w], with h = ceil(H / f).

    Raises:
      ValueError: the factor is no integer ≥ 1, or the type of the labels is no integer.
    """
    _check_factor(factor)
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels must be an integer, found {labels.dtype}")
    labels = labels.astype(jnp.int32)  # bytes may not hold the ignore index
    if factor == 1:
        return labels
    around = [(0, 0)] * (labels.ndim - 2) + _missing(labels.shape[-2:], factor)
    picked = slice(factor // 2, None, factor)
    return jnp.pad(labels, around, constant_values=ignore)[..., picked, picked]


def box_downsample(
    images: Float[Array, "*b H W c"], factor: int, valid: Bool[Array, "b H W"] | None = None
) -> Float[Array, "*b h w c"]:
    """x̄_c = 1/f² Σ_{u in cell c} x_u in float32, with the range of the image.

    Args:
      images: [...,H,W,C]; [B,H,W,C] with `valid`.
      factor: f, pixels per cell on each axis.
      valid: False where an image is padded at the right or the bottom: its edge is then that of the
          valid rectangle, and its cells are those of the image alone. None for no padding.

    Returns:
      [...,h,w,C], with h = ceil(H / f).

    Raises:
      ValueError: the factor is no integer ≥ 1.
    """
    _check_factor(factor)
    images = jnp.asarray(images).astype(jnp.float32)
    if factor == 1:
        return images
    if valid is not None:
        images = extend(images, valid)
    around = [(0, 0)] * (images.ndim - 3) + _missing(images.shape[-3:-1], factor) + [(0, 0)]
    return box_sum(jnp.pad(images, around, mode="edge"), factor) / factor**2


def _missing(size: tuple[int, ...], factor: int) -> list[tuple[int, int]]:
    """What each axis lacks to whole cells, before and after."""
    return [(0, -length % factor) for length in size]


def _check_factor(factor: int) -> None:
    if not isinstance(factor, numbers.Integral) or isinstance(factor, bool) or factor < 1:
        raise ValueError(f"factor must be an integer of at least 1, found {factor!r}")
