"""Segmentation networks by name. Adding one is one new file and one line in `MODELS`."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from pals_jax.models import resnet
from pals_jax.models.deeplab import DeepLabV3Plus
from pals_jax.models.functional import Apply, Params, Statistics, split
from pals_jax.outputs import Outputs

__all__ = ["MODELS", "Apply", "Outputs", "Params", "Statistics", "create", "split"]

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "deeplabv3plus_resnet18": functools.partial(DeepLabV3Plus, resnet.resnet18),
    "deeplabv3plus_resnet34": functools.partial(DeepLabV3Plus, resnet.resnet34),
    "deeplabv3plus_resnet50": functools.partial(DeepLabV3Plus, resnet.resnet50),
    "deeplabv3plus_resnet101": functools.partial(DeepLabV3Plus, resnet.resnet101),
}


def create(
    name: str,
    num_classes: int,
    *,
    output_stride: int = 16,
    decoder_channels: int = 256,
    width: int = 64,
    auxiliary: bool = False,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """Creates a network with random parameters.

    The network maps images [B,H,W,3], with `train` and `valid`, to `Outputs`.

    Args:
      name: one of `MODELS`.
      num_classes: K.
      output_stride: of the backbone: 8, 16 or 32.
      decoder_channels: D, the channels of the features.
      width: channels of the backbone's stem, with which all of its widths scale; 64 is the
          published network, 32 is one for CPUs.
      auxiliary: whether to add the auxiliary head.
      dtype: to compute in. Parameters, statistics and logits are float32 whatever it is.
      rngs: for the parameters.

    Raises:
      ValueError: for an unknown name or output stride.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name](
        num_classes,
        output_stride=output_stride,
        decoder_channels=decoder_channels,
        width=width,
        auxiliary=auxiliary,
        dtype=dtype,
        rngs=rngs,
    )
