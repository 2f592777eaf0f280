"""ResNet v1.5 (stride in the 3×3) with torchvision's names, geometry and dilation rule.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

import abc
import functools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from pals_jax.models.layers import BatchNorm, Conv, max_pool, zero_padding


class Sampling(NamedTuple):
    """The stride of a stage or block, and the dilations that belong to its grids.

    Attributes:
      stride: 1 or 2.
      dilation_before: of 3×3 convolutions on the grid of its input.
      dilation: of 3×3 convolutions on the grid of its output.
    """

    stride: int
    dilation_before: int
    dilation: int


# By output stride, for layer1 to layer4. A stage that gives up its stride of 2 doubles the dilation
# of everything behind that stride.
SAMPLINGS = {
    8: (Sampling(1, 1, 1), Sampling(2, 1, 1), Sampling(1, 1, 2), Sampling(1, 2, 4)),
    16: (Sampling(1, 1, 1), Sampling(2, 1, 1), Sampling(2, 1, 1), Sampling(1, 1, 2)),
    32: (Sampling(1, 1, 1), Sampling(2, 1, 1), Sampling(2, 1, 1), Sampling(2, 1, 1)),
}


class ResidualBlock(nnx.Module):
    """relu(shortcut(x) + residual(x)); the shortcut is a projection where shapes differ.

    The first 3×3 carries the stride and sees the grid of the input, any other that of the output.
    With the dilations of these grids, a dilated network computes exactly what the strided one does,
    at more places.
    """

    expansion: ClassVar[int]
    downsample: nnx.Dict | None

    def __init__(
        self,
        in_channels: int,
        channels: int,
        sampling: Sampling,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Builds the projection; subclasses add the residual.

        Args:
          in_channels: of the input.
          channels: of the 3×3 convolutions; the output has `expansion` times as many.
          sampling: stride and dilations.
          dtype: to compute in.
          rngs: for the parameters.
        """
        out_channels = self.expansion * channels
        if sampling.stride == 1 and in_channels == out_channels:
            self.downsample = None
        else:
            projection = Conv(
                in_channels, out_channels, 1, stride=sampling.stride, dtype=dtype, rngs=rngs
            )
            self.downsample = nnx.Dict({"0": projection, "1": BatchNorm(out_channels, rngs=rngs)})

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        *,
        train: bool,
        valid: Bool[Array, "b H W"] | None = None,
    ) -> Float[Array, "b p q o"]:
        """Output [B, ceil(H / stride), ceil(W / stride), expansion · channels]."""
        y = self.residual(x, train=train, valid=valid)
        if self.downsample is not None:
            x = self.downsample["1"](self.downsample["0"](x), train=train)
        return nnx.relu(x + y)

    @abc.abstractmethod
    def residual(
        self, x: Float[Array, "b h w i"], *, train: bool, valid: Bool[Array, "b H W"] | None
    ) -> Float[Array, "b p q o"]:
        """What the block adds to its shortcut."""


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        sampling: Sampling,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_channels, channels, sampling, dtype=dtype, rngs=rngs)
        conv = functools.partial(Conv, dtype=dtype, rngs=rngs)
        self.conv1 = conv(
            in_channels, channels, 3, stride=sampling.stride, dilation=sampling.dilation_before
        )
        self.bn1 = BatchNorm(channels, rngs=rngs)
        self.conv2 = conv(channels, channels, 3, dilation=sampling.dilation)
        self.bn2 = BatchNorm(channels, rngs=rngs)

    def residual(
        self, x: Float[Array, "b h w i"], *, train: bool, valid: Bool[Array, "b H W"] | None
    ) -> Float[Array, "b p q o"]:
        """3×3, BatchNorm, ReLU, 3×3, BatchNorm."""
        x = nnx.relu(self.bn1(self.conv1(x, valid), train=train))
        return self.bn2(self.conv2(x, valid), train=train)


class Bottleneck(ResidualBlock):
    """A 3×3 convolution between two 1×1, of which the last widens fourfold."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        sampling: Sampling,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_channels, channels, sampling, dtype=dtype, rngs=rngs)
        conv = functools.partial(Conv, dtype=dtype, rngs=rngs)
        self.conv1 = conv(in_channels, channels, 1)
        self.bn1 = BatchNorm(channels, rngs=rngs)
        self.conv2 = conv(
            channels, channels, 3, stride=sampling.stride, dilation=sampling.dilation_before
        )
        self.bn2 = BatchNorm(channels, rngs=rngs)
        self.conv3 = conv(channels, self.expansion * channels, 1)
        self.bn3 = BatchNorm(self.expansion * channels, rngs=rngs)

    def residual(
        self, x: Float[Array, "b h w i"], *, train: bool, valid: Bool[Array, "b H W"] | None
    ) -> Float[Array, "b p q o"]:
        """1×1, BatchNorm, ReLU, 3×3, BatchNorm, ReLU, 1×1, BatchNorm."""
        x = nnx.relu(self.bn1(self.conv1(x), train=train))
        x = nnx.relu(self.bn2(self.conv2(x, valid), train=train))
        return self.bn3(self.conv3(x), train=train)


class Stage(nnx.Dict):
    """Residual blocks in a row, named "0", "1", …; only the first changes grid and channels."""

    def __init__(
        self,
        block: type[ResidualBlock],
        depth: int,
        in_channels: int,
        channels: int,
        sampling: Sampling,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        following = Sampling(1, sampling.dilation, sampling.dilation)
        super().__init__()
        for index in range(depth):
            self[str(index)] = block(
                in_channels if index == 0 else block.expansion * channels,
                channels,
                sampling if index == 0 else following,
                dtype=dtype,
                rngs=rngs,
            )

    def __call__(
        self,
        x: Float[Array, "b h w i"],
        *,
        train: bool,
        valid: Bool[Array, "b H W"] | None = None,
    ) -> Float[Array, "b p q o"]:
        """Output [B, ceil(H / stride), ceil(W / stride), expansion · channels]."""
        # Counted, because nnx.merge brings the names back in the order of strings: 0, 1, 10, 2.
        for index in range(len(self)):
            x = self[str(index)](x, train=train, valid=valid)
        return x


class ResNet(nnx.Module):
    """A residual network without its classifier, which returns the output of every stage.

    Attributes:
      channels: of the outputs of the four stages.
      output_stride: of the last stage.
    """

    def __init__(
        self,
        block: type[ResidualBlock],
        depths: Sequence[int],
        *,
        width: int,
        output_stride: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        """Builds the network.

        Args:
          block: `BasicBlock` or `Bottleneck`.
          depths: number of blocks in each of the four stages.
          width: channels of the stem and of the 3×3 in layer1; each stage doubles them.
          output_stride: 8, 16 or 32.
          dtype: to compute in.
          rngs: for the parameters.

        Raises:
          ValueError: for another output stride.
        """
        if output_stride not in SAMPLINGS:
            raise ValueError(f"output_stride is {output_stride}; expected one of {list(SAMPLINGS)}")
        self.output_stride = output_stride
        self.channels = tuple(block.expansion * width * 2**index for index in range(4))
        self.conv1 = Conv(3, width, 7, stride=2, dtype=dtype, rngs=rngs)
        self.bn1 = BatchNorm(width, rngs=rngs)
        in_channels = (width, *self.channels)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            Stage(block, depths[i], in_channels[i], width * 2**i, sampling, dtype=dtype, rngs=rngs)
            for i, sampling in enumerate(SAMPLINGS[output_stride])
        )

    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        *,
        train: bool,
        valid: Bool[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, "b p q c"], ...]:
        """Outputs of layer1 to layer4, of size ceil(H / s) × ceil(W / s) at their strides s."""
        x = nnx.relu(self.bn1(self.conv1(images, valid), train=train))
        # After a ReLU, zeros change no maximum.
        x = self.layer1(max_pool(zero_padding(x, valid)), train=train, valid=valid)
        outputs = [x]
        for stage in (self.layer2, self.layer3, self.layer4):
            outputs.append(stage(outputs[-1], train=train, valid=valid))
        return tuple(outputs)


resnet18 = functools.partial(ResNet, BasicBlock, (2, 2, 2, 2))
resnet34 = functools.partial(ResNet, BasicBlock, (3, 4, 6, 3))
resnet50 = functools.partial(ResNet, Bottleneck, (3, 4, 6, 3))
resnet101 = functools.partial(ResNet, Bottleneck, (3, 4, 23, 3))
