"""Class probabilities averaged over views of an image: windows, scales and the mirror image.

Each function wraps one that maps normalised images [B,H,W,3] and their valid pixels [B,H,W] to
probabilities [B,H,W,K], and returns another such function; so views combine. Where images are
padded at the right and the bottom, each has the views that it would have without padding.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from pals_jax.resize import extend

Predict = Callable[[Float[Array, "b h w 3"], Bool[Array, "b h w"]], Float[Array, "b h w k"]]


class Views(NamedTuple):
    """Which views are averaged.

    Attributes:
      window: height and width of sliding windows; None for the whole image.
      stride: rows and columns from one window to the next; None without windows.
      scales: factors on the size of the image.
      flip: whether the mirror image is seen, too.
    """

    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    @classmethod
    def of_config(cls, config: ConfigDict) -> "Views":
        """Those of `config.eval`; without a stride, windows go on by two thirds of their size."""
        window, stride = tuple(config.window), tuple(config.stride)
        stride = stride or tuple(-(-2 * length // 3) for length in window)
        scales = tuple(float(scale) for scale in config.scales)
        if not window:
            return cls(scales=scales, flip=config.flip)
        return cls((window[0], window[1]), (stride[0], stride[1]), scales, config.flip)

    @classmethod
    def of_result(cls, found: Mapping[str, Any]) -> "Views":
        """Those that a result tells, whose tuples JSON made lists."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found.items()
        }
        return cls(**values)

    @property
    def name(self) -> str:
        """For a file or a heading, as "scales0.5-1_flip"; "" for the whole image as it is."""
        parts = []
        if self.window is not None and self.stride is not None:
            (height, width), (rows, columns) = self.window, self.stride
            parts.append(f"windows{height}x{width}by{rows}x{columns}")
        if self.scales != (1.0,):
            parts.append("scales" + "-".join(f"{scale:g}" for scale in self.scales))
        return "_".join(parts + ["flip"] * self.flip)

    def average(self, predict: Predict) -> Predict:
        """Windows of the mirror image of each scale, as the field does it."""
        if self.window is not None and self.stride is not None:
            predict = over_windows(predict, self.window, self.stride)
        if self.flip:
            predict = over_mirror(predict)
        return predict if self.scales == (1.0,) else over_scales(predict, self.scales)


def over_windows(predict: Predict, window: tuple[int, int], stride: tuple[int, int]) -> Predict:
    """Averages over overlapping windows, each pixel over those that it lies in.

    The windows of an axis start at 0, s, 2s, …, and the last ends where the image ends. An image
    that is smaller than the window is one window.

    Args:
      predict: for a window.
      window: height and width.
      stride: s, rows and columns from one window to the next.
    """

    def averaged(images: Float[Array, "b h w 3"], valid: Bool[Array, "b h w"]) -> Array:
        padded = images.shape[1:3]
        size = (min(window[0], padded[0]), min(window[1], padded[1]))
        if size == padded:
            return predict(images, valid)
        lengths = _lengths(valid)
        counts = [
            1 + -(-(whole - part) // step)
            for whole, part, step in zip(padded, size, stride, strict=True)
        ]
        places = jnp.array(list(itertools.product(*map(range, counts))))
        cut = functools.partial(_cut, size=size)
        first = jnp.zeros((len(images), 2), int)
        classes = jax.eval_shape(predict, cut(images, first), cut(valid, first)).shape[-1]
        start = jnp.zeros((*valid.shape, classes + 1), jnp.float32)

        def add(total: Array, place: Array) -> tuple[Array, None]:
            corners, needed = [], jnp.ones(len(images), bool)
            for axis in (0, 1):
                before = (place[axis] - 1) * stride[axis] + size[axis]  # where the one before ends
                needed &= (place[axis] == 0) | (before < lengths[axis])
                last = jnp.maximum(lengths[axis] - size[axis], 0)
                corners.append(jnp.minimum(place[axis] * stride[axis], last))
            corner = jnp.stack(corners, -1)
            probs = predict(cut(images, corner), cut(valid, corner))
            counted = jnp.concatenate([probs, jnp.ones_like(probs[..., :1])], -1)
            return _add(total, jnp.where(needed[:, None, None, None], counted, 0), corner), None

        total, _ = jax.lax.scan(add, start, places)
        return total[..., :-1] / jnp.maximum(total[..., -1:], 1)

    return averaged


def over_scales(predict: Predict, scales: Sequence[float]) -> Predict:
    """Averages over the image in several sizes, each result brought back to the image's own.

    Images are resampled bilinearly without antialiasing, as in training.

    Args:
      predict: for a scaled image.
      scales: factors on height and width.
    """

    def averaged(images: Float[Array, "b h w 3"], valid: Bool[Array, "b h w"]) -> Array:
        def at(scale: float) -> Array:
            if scale == 1:
                return predict(images, valid)
            # Of every length that an image may have, counted here and not in float32, in which
            # scale · length may lie on the other side of a whole number.
            scaled = [math.ceil(n * scale - 1e-6) for n in range(max(valid.shape[1:]) + 1)]
            size = (scaled[valid.shape[1]], scaled[valid.shape[2]])
            heights, widths = (jnp.array(scaled)[length] for length in _lengths(valid))
            rows = jnp.arange(size[0]) < heights[:, None]
            columns = jnp.arange(size[1]) < widths[:, None]
            cells = rows[:, :, None] & columns[:, None, :]
            probs = predict(_resample(images, valid, scale, size), cells)
            return _resample(probs, cells, 1 / scale, valid.shape[1:])

        return sum(map(at, scales[1:]), start=at(scales[0])) / len(scales)

    return averaged


def over_mirror(predict: Predict) -> Predict:
    """Averages over the image and its mirror image."""

    def averaged(images: Float[Array, "b h w 3"], valid: Bool[Array, "b h w"]) -> Array:
        mirrored = _mirror(predict(_mirror(images, valid), valid), valid)
        return (predict(images, valid) + mirrored) / 2

    return averaged


def _lengths(valid: Bool[Array, "b h w"]) -> tuple[Array, Array]:
    """Height and width of each image, [B] each."""
    return valid.any(2).sum(1), valid.any(1).sum(1)


def _mirror(array: Float[Array, "b h w c"], valid: Bool[Array, "b h w"]) -> Float[Array, "b h w c"]:
    """Left for right, of the valid rectangle."""
    _, width = _lengths(valid)
    columns = (width[:, None] - 1 - jnp.arange(array.shape[2])) % array.shape[2]
    return jnp.take_along_axis(array, columns[:, None, :, None], axis=2)


def _resample(
    array: Float[Array, "b h w c"],
    valid: Bool[Array, "b h w"],
    scale: float,
    size: tuple[int, ...],
) -> Float[Array, "b H W c"]:
    """Bilinear with half-pixel centres; beyond an image stands its edge."""
    edge = math.ceil(1 / scale)  # the last sample may lie so far beyond the border
    extended = jnp.pad(extend(array, valid), ((0, 0), (0, edge), (0, edge), (0, 0)), mode="edge")
    return jax.image.scale_and_translate(
        extended,
        (len(array), *size, array.shape[-1]),
        (1, 2),
        jnp.array([scale, scale]),
        jnp.zeros(2),
        "linear",
        antialias=False,
    )


def _cut(array: Array, corner: Array, *, size: tuple[int, int]) -> Array:
    """The window of each image that begins at its corner."""

    def of_image(array: Array, corner: Array) -> Array:
        start = [corner[0], corner[1], *[jnp.zeros((), int)] * (array.ndim - 2)]
        return jax.lax.dynamic_slice(array, start, (*size, *array.shape[2:]))

    return jax.vmap(of_image)(array, corner)


def _add(total: Array, part: Array, corner: Array) -> Array:
    """Adds a window of each image where it begins."""

    def of_image(total: Array, part: Array, corner: Array) -> Array:
        start = (corner[0], corner[1], 0)
        present = jax.lax.dynamic_slice(total, start, part.shape)
        return jax.lax.dynamic_update_slice(total, present + part, start)

    return jax.vmap(of_image)(total, part, corner)
