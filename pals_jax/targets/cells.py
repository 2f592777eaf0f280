"""The grid on which PALS compares pixels: what the network and the labels say of each cell."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pals_jax.outputs import Outputs
from pals_jax.resize import box_sum, grid_factor, upsample
from pals_jax.targets.target import Inputs, Labels


class Cells(NamedTuple):
    """One entry per grid cell.

    Attributes:
      features: [B,h,w,D], compared by their cosine.
      probs: [B,h,w,K] float32, the network's prediction.
      labels: [B,h,w] int, argmax of the mean ground truth, the lowest index on ties.
      valid: [B,h,w], at least half of the cell is labelled.
      correct: [B,h,w], the argmax of `probs` is the label.
    """

    features: Float[Array, "b h w d"]
    probs: Float[Array, "b h w k"]
    labels: Int[Array, "b h w"]
    valid: Bool[Array, "b h w"]
    correct: Bool[Array, "b h w"]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.valid.shape[1], self.valid.shape[2]


def covered_mean(
    array: Float[Array, "b h w c"], covered: Bool[Array, "b h w"], factor: int
) -> Float[Array, "b H W c"]:
    """Mean of the covered entries of factor × factor cells, 0 without any; others may be NaN."""
    weight = covered[..., None].astype(jnp.float32)
    total = box_sum(jnp.where(covered[..., None], array.astype(jnp.float32), 0), factor)
    return total / jnp.maximum(box_sum(weight, factor), 1)


def covered_upsample(
    array: Float[Array, "b h w c"], covered: Bool[Array, "b h w"], size: tuple[int, int]
) -> tuple[Float[Array, "b H W c"], Bool[Array, "b H W"]]:
    """Bilinear upsampling of the covered entries, normalised by coverage: up(x·m) / up(m), 0 where
    up(m) = 0.

    Returns:
      The upsampled array, and where up(m) > 0.
    """
    weight = upsample(covered[..., None].astype(jnp.float32), size)
    total = upsample(jnp.where(covered[..., None], array, 0), size)
    reached = weight > 0
    return total / jnp.where(reached, weight, 1), reached[..., 0]


def measure(inputs: Inputs, feature: str, stride: int | None, softmax_temperature: float) -> Cells:
    """Brings features, predictions and labels to one grid.

    Going to a coarser grid takes area means; going to a finer one interpolates logits and features
    bilinearly. Entries of the network's grid without a single labelled pixel are left out of both,
    whatever they contain.

    Args:
      inputs: see `Inputs`.
      feature: "decoder", "logits", "probs" or "rgb".
      stride: pixels of the label per cell; the resolution of the network's outputs where None.
      softmax_temperature: T of softmax(z / T).

    Raises:
      ValueError: the stride is neither a multiple nor a divisor of the stride of the outputs.
    """
    labels, outputs = inputs.labels, inputs.outputs
    network_stride = grid_factor(labels.size, (outputs.logits.shape[1], outputs.logits.shape[2]))
    stride = stride or network_stride
    area = stride**2
    mean_labels = Labels(
        box_sum(labels.probs, stride) / area, box_sum(labels.mass[..., None], stride)[..., 0] / area
    )
    labelled = box_sum(labels.mass[..., None], network_stride)[..., 0] > 0
    grid = -(-labels.size[0] // stride), -(-labels.size[1] // stride)
    logits, features, probs = _to_grid(
        outputs, labelled, stride, network_stride, grid, softmax_temperature
    )
    if feature == "rgb":
        features = covered_mean(inputs.images, labels.mass > 0, stride)
    elif feature == "logits":
        features = logits
    elif feature == "probs":
        features = probs
    cell_labels = jnp.argmax(mean_labels.probs, axis=-1)
    return Cells(
        features=features,
        probs=probs,
        labels=cell_labels,
        valid=mean_labels.mass >= 0.5,
        correct=jnp.argmax(probs, axis=-1) == cell_labels,
    )


def _to_grid(
    outputs: Outputs,
    labelled: Bool[Array, "b p q"],
    stride: int,
    network_stride: int,
    grid: tuple[int, int],
    softmax_temperature: float,
) -> tuple[Float[Array, "b h w k"], Float[Array, "b h w d"], Float[Array, "b h w k"]]:
    """Logits, features and probabilities of the network on the grid of `stride`."""
    logits, features = outputs.logits, outputs.features
    if stride == network_stride:
        return logits, features, jax.nn.softmax(logits / softmax_temperature)
    dtype = features.dtype
    if stride % network_stride == 0:
        factor = stride // network_stride
        probs = covered_mean(jax.nn.softmax(logits / softmax_temperature), labelled, factor)
        logits = covered_mean(logits, labelled, factor)
        return logits, covered_mean(features, labelled, factor).astype(dtype), probs
    if network_stride % stride == 0:
        logits, _ = covered_upsample(logits, labelled, grid)
        features, _ = covered_upsample(features, labelled, grid)
        return logits, features.astype(dtype), jax.nn.softmax(logits / softmax_temperature)
    raise ValueError(
        "option stride of pals must be a multiple or a divisor of the network's stride "
        f"{network_stride}, found {stride}"
    )
