"""DeepLabV3+ over a dilated backbone.

Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
ECCV 2018, with plain instead of separable convolutions.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pals_jax.models.layers import ConvBlock
from pals_jax.models.resnet import ResNet
from pals_jax.outputs import Outputs
from pals_jax.resize import on_grid, upsample_by

LOW_LEVEL_CHANNELS = 48


class ASPP(nnx.Module):
    """Atrous spatial pyramid pooling: 1×1, three dilated 3×3 and the image-level mean, projected.

    The dilations are 6, 12 and 18 at output stride 16, and span the same pixels at any other.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        output_stride: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        block = functools.partial(ConvBlock, dtype=dtype, rngs=rngs)
        rate = 96 // output_stride
        self.pointwise = block(in_channels, channels, 1)
        self.dilated1 = block(in_channels, channels, 3, dilation=rate)
        self.dilated2 = block(in_channels, channels, 3, dilation=2 * rate)
        self.dilated3 = block(in_channels, channels, 3, dilation=3 * rate)
        self.image_level = block(in_channels, channels, 1)
        self.project = block(5 * channels, channels, 1)

    def __call__(
        self, x: Float[Array, "b h w i"], valid: Bool[Array, "b H W"] | None, *, train: bool
    ) -> Float[Array, "b h w o"]:
        """Keeps the grid.

        Args:
          x: output of the backbone.
          valid: the pixels of the images that are no padding; None for all.
          train: whether BatchNorm uses the statistics of the batch.

        Raises:
          ValueError: if BatchNorm trains on one image.
        """
        if train and x.shape[0] == 1:
            # Its variance of 0 would scale the branch by 1 / √ε once the running one gets there.
            raise ValueError(
                "a training batch has 1 image, of which the image-level branch of the ASPP has no "
                "variance; use at least 2 images, or freeze BatchNorm"
            )
        branches = (self.pointwise, self.dilated1, self.dilated2, self.dilated3)
        outputs = [branch(x, train=train, valid=valid) for branch in branches]
        cells = None if valid is None else on_grid(valid, (x.shape[1], x.shape[2]))
        context = self.image_level(spatial_mean(x, cells), train=train)
        outputs.append(jnp.broadcast_to(context, outputs[0].shape))
        return self.project(jnp.concatenate(outputs, axis=-1), train=train)


class Decoder(nnx.Module):
    """Joins the upsampled output of the ASPP with details from the first stage."""

    def __init__(self, low_level_channels: int, channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        block = functools.partial(ConvBlock, dtype=dtype, rngs=rngs)
        self.low_level = block(low_level_channels, LOW_LEVEL_CHANNELS, 1)
        self.block1 = block(channels + LOW_LEVEL_CHANNELS, channels, 3)
        self.block2 = block(channels, channels, 3)

    def __call__(
        self,
        context: Float[Array, "b h w d"],
        low_level: Float[Array, "b p q c"],
        valid: Bool[Array, "b H W"] | None,
        *,
        factor: int,
        train: bool,
    ) -> Float[Array, "b p q d"]:
        """Features on the low-level grid.

        Args:
          context: output of the ASPP; h = ceil(p / factor), w = ceil(q / factor).
          low_level: output of the first stage.
          valid: the pixels of the images that are no padding; None for all.
          factor: between the two grids.
          train: whether BatchNorm uses the statistics of the batch.
        """
        details = self.low_level(low_level, train=train)
        size = (low_level.shape[1], low_level.shape[2])
        cells = None if valid is None else on_grid(valid, (context.shape[1], context.shape[2]))
        context = upsample_by(context, factor, size, cells)
        x = self.block1(jnp.concatenate([context, details], axis=-1), train=train, valid=valid)
        return self.block2(x, train=train, valid=valid)


class FCNHead(nnx.Module):
    """Auxiliary head: 3×3 convolution to a quarter of the channels, BatchNorm, ReLU, classifier."""

    def __init__(self, in_channels: int, num_classes: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        channels = in_channels // 4
        self.block = ConvBlock(in_channels, channels, 3, dtype=dtype, rngs=rngs)
        self.classifier = classifier(channels, num_classes, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w k"]:
        """Float32 logits on the same grid."""
        return self.classifier(self.block(x, train=train))


class DeepLabV3Plus(nnx.Module):
    """Backbone, ASPP, decoder and classifier; if asked for, an auxiliary head on layer3."""

    def __init__(
        self,
        backbone: Callable[..., ResNet],
        num_classes: int,
        *,
        output_stride: int = 16,
        decoder_channels: int = 256,
        width: int = 64,
        auxiliary: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
          backbone: one of `resnet`.
          num_classes: K.
          output_stride: of the backbone: 8, 16 or 32.
          decoder_channels: D, of the ASPP, the decoder and the features.
          width: channels of the backbone's stem; 64 is the published network.
          auxiliary: whether to add the auxiliary head.
          dtype: to compute in; parameters, BatchNorm and the classifiers are float32.
          rngs: for the parameters.

        Raises:
          ValueError: for another output stride.
        """
        self.backbone = backbone(width=width, output_stride=output_stride, dtype=dtype, rngs=rngs)
        low_level, _, layer3, layer4 = self.backbone.channels
        self.aspp = ASPP(
            layer4, decoder_channels, output_stride=output_stride, dtype=dtype, rngs=rngs
        )
        self.decoder = Decoder(low_level, decoder_channels, dtype=dtype, rngs=rngs)
        self.classifier = classifier(decoder_channels, num_classes, rngs=rngs)
        self.auxiliary = FCNHead(layer3, num_classes, dtype=dtype, rngs=rngs) if auxiliary else None

    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        *,
        train: bool = False,
        valid: Bool[Array, "b h w"] | None = None,
    ) -> Outputs:
        """Computes logits and features at ceil(H / 4) × ceil(W / 4).

        Args:
          images: [B,H,W,3], normalised, of any size.
          train: whether BatchNorm uses, and learns from, the statistics of the batch. Nothing else
              differs between training and evaluation.
          valid: [B,H,W], False where an image is padded at the right or the bottom; the padding
              then changes nothing for the other pixels. None means all.

        Raises:
          ValueError: if the shape or the dtype of an argument is wrong, or BatchNorm trains on one
              image.
        """
        _check(images, valid)
        low_level, _, layer3, layer4 = self.backbone(images, train=train, valid=valid)
        stride = self.backbone.output_stride
        context = self.aspp(layer4, valid, train=train)
        features = self.decoder(context, low_level, valid, factor=stride // 4, train=train)
        auxiliary = None if self.auxiliary is None else self.auxiliary(layer3, train=train)
        return Outputs(self.classifier(features), features, auxiliary)


def classifier(channels: int, num_classes: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """A 1×1 convolution with bias, in float32 for inputs of any dtype."""
    initializer = nnx.initializers.normal(0.01)
    return nnx.Linear(channels, num_classes, kernel_init=initializer, dtype=jnp.float32, rngs=rngs)


def spatial_mean(
    x: Float[Array, "b h w c"], valid: Bool[Array, "b h w"] | None
) -> Float[Array, "b 1 1 c"]:
    """Mean over the valid cells in float32; 0 where none is valid. None means all."""
    weight = jnp.ones(x.shape[:3], bool) if valid is None else valid
    weight = weight[..., None]
    total = jnp.sum(x, axis=(1, 2), keepdims=True, where=weight, dtype=jnp.float32)
    count = jnp.sum(weight, axis=(1, 2), keepdims=True, dtype=jnp.float32)
    return total / jnp.maximum(count, 1)


def _check(images: Array, valid: Array | None) -> None:
    """Raises a ValueError unless images are [B,H,W,3] floats and valid is [B,H,W] bool or None."""
    if images.ndim != 4 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are {images.dtype} {images.shape}; expected normalised floats [B, H, W, 3]"
        )
    if valid is not None and (valid.shape != images.shape[:3] or valid.dtype != bool):
        raise ValueError(
            f"valid is {valid.dtype} {valid.shape}; expected bool {images.shape[:3]} for images "
            f"{images.shape}"
        )
