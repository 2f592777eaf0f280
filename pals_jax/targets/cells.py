"""The grid on which PALS compares pixels: what the network and the labels say of each cell."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pals_jax.errors import OptionError
from pals_jax.resize import box_sum, grid_factor, upsample_by
from pals_jax.targets.target import Inputs, Labels


class Cells(NamedTuple):
    """One entry per grid cell.

    Attributes:
      features: [B,h,w,D], compared by their cosine.
      probs: [B,h,w,K] float32, the network's prediction softmax(z / T).
      labels: [B,h,w] int, argmax of the mean ground truth, the lowest index on ties.
      valid: [B,h,w], at least half of the cell is labelled.
      correct: [B,h,w], the argmax of softmax(z) is the label.
    """

    features: Float[Array, "b h w d"]
    probs: Float[Array, "b h w k"]
    labels: Int[Array, "b h w"]
    valid: Bool[Array, "b h w"]
    correct: Bool[Array, "b h w"]


def covered_mean(
    array: Float[Array, "b h w c"], covered: Bool[Array, "b h w"], factor: int
) -> Float[Array, "b H W c"]:
    """Mean of the covered entries of factor × factor cells, 0 without any; others may be NaN."""
    weight = covered[..., None].astype(jnp.float32)
    total = box_sum(jnp.where(covered[..., None], array.astype(jnp.float32), 0), factor)
    return total / jnp.maximum(box_sum(weight, factor), 1)


def covered_upsample(
    array: Float[Array, "b h w c"],
    covered: Bool[Array, "b h w"],
    factor: int,
    size: tuple[int, int],
) -> tuple[Float[Array, "b H W c"], Bool[Array, "b H W"]]:
    """Bilinear upsampling of the covered entries, normalised by coverage: up(x·m) / up(m), 0 where
    up(m) = 0.

    Returns:
      The upsampled array, and where up(m) > 0.
    """
    weight = upsample_by(covered[..., None].astype(jnp.float32), factor, size)
    total = upsample_by(jnp.where(covered[..., None], array.astype(jnp.float32), 0), factor, size)
    reached = weight > 0
    return total / jnp.where(reached, weight, 1), reached[..., 0]


def network_stride(inputs: Inputs) -> int:
    """Label pixels per entry of the network's outputs."""
    logits = inputs.outputs.logits
    return grid_factor(inputs.labels.size, (logits.shape[1], logits.shape[2]))


def measure(inputs: Inputs, feature: str, stride: int, softmax_temperature: float) -> Cells:
    """Brings features, predictions and labels to one grid.

    Going to a coarser grid takes area means; going to a finer one interpolates logits and features
    bilinearly. Entries of the network's grid without a single labelled pixel are left out of both,
    whatever they contain.

    Args:
      inputs: see `Inputs`.
      feature: "decoder", "logits", "probs" or "rgb".
      stride: pixels of the label per cell.
      softmax_temperature: T of softmax(z / T).

    Raises:
      OptionError: the stride is neither a multiple nor a divisor of the stride of the outputs.
    """
    labels, outputs = inputs.labels, inputs.outputs
    outputs_stride = network_stride(inputs)
    area = stride**2
    mean_labels = Labels(
        box_sum(labels.probs, stride) / area, box_sum(labels.mass[..., None], stride)[..., 0] / area
    )
    labelled = box_sum(labels.mass[..., None], outputs_stride)[..., 0] > 0
    grid = -(-labels.size[0] // stride), -(-labels.size[1] // stride)
    to_grid = functools.partial(
        _to_grid, covered=labelled, stride=stride, outputs_stride=outputs_stride, grid=grid
    )
    logits = to_grid(outputs.logits)

    def probs_at(temperature: float) -> Float[Array, "b h w k"]:
        if stride > outputs_stride:  # the mean of probabilities, not that of logits
            return to_grid(jax.nn.softmax(outputs.logits / temperature))
        return jax.nn.softmax(logits / temperature)

    probs = probs_at(1.0)
    if feature == "rgb":
        features = covered_mean(inputs.images, labels.mass > 0, stride)
    elif feature == "logits":
        features = logits
    elif feature == "probs":
        features = probs
    else:
        features = to_grid(outputs.features).astype(outputs.features.dtype)
    cell_labels = jnp.argmax(mean_labels.probs, axis=-1)
    return Cells(
        features=features,
        probs=probs_at(softmax_temperature),
        labels=cell_labels,
        valid=mean_labels.mass >= 0.5,
        correct=jnp.argmax(probs, axis=-1) == cell_labels,
    )


def _to_grid(
    array: Float[Array, "b p q c"],
    *,
    covered: Bool[Array, "b p q"],
    stride: int,
    outputs_stride: int,
    grid: tuple[int, int],
) -> Float[Array, "b h w c"]:
    """Covered entries of the network's grid on the grid of `stride`."""
    if stride == outputs_stride:
        return array
    if stride % outputs_stride == 0:
        return covered_mean(array, covered, stride // outputs_stride)
    if outputs_stride % stride == 0:
        return covered_upsample(array, covered, outputs_stride // stride, grid)[0]
    raise OptionError(
        "option stride of pals must be a multiple or a divisor of the network's stride "
        f"{outputs_stride}, found {stride}"
    )
