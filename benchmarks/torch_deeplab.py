"""DeepLabV3+ in PyTorch, by torchvision's rules, to compare with; submodules have our names.

ReLUs and sums work in place, as in torchvision.
"""

import torch
from torch import nn
from torch.nn import functional

from pals_jax.models import weights

DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def conv(inputs, outputs, size, stride=1, dilation=1):
    padding = size // 2 * dilation
    return nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, planes, stride, previous_dilation, dilation, downsample):
        super().__init__()
        self.conv1 = conv(inputs, planes, 3, stride, previous_dilation)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv(planes, planes, 3, 1, dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_()))
        y += self.downsample(x)
        return y.relu_()


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, planes, stride, previous_dilation, dilation, downsample):
        super().__init__()
        self.conv1 = conv(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = conv(planes, planes, 3, stride, previous_dilation)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = conv(planes, 4 * planes, 1)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = downsample

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_())).relu_()
        y = self.bn3(self.conv3(y))
        y += self.downsample(x)
        return y.relu_()


class Backbone(nn.Module):
    def __init__(self, name, width, output_stride):
        super().__init__()
        self.block = BasicBlock if name == "resnet18" else Bottleneck
        self.inputs, self.dilation = width, 1
        self.conv1 = conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        first, second, third, fourth = DEPTHS[name]
        self.layer1 = self.stage(width, first, 1, dilate=False)
        self.layer2 = self.stage(2 * width, second, 2, dilate=False)
        self.layer3 = self.stage(4 * width, third, 2, dilate=output_stride < 16)
        self.layer4 = self.stage(8 * width, fourth, 2, dilate=output_stride < 32)

    def stage(self, planes, depth, stride, dilate):
        previous = self.dilation
        if dilate:
            self.dilation *= stride
            stride = 1
        outputs = self.block.expansion * planes
        downsample = nn.Identity()
        if stride != 1 or self.inputs != outputs:
            downsample = nn.Sequential(
                conv(self.inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            )
        first = self.block(self.inputs, planes, stride, previous, self.dilation, downsample)
        others = [
            self.block(outputs, planes, 1, self.dilation, self.dilation, nn.Identity())
            for _ in range(1, depth)
        ]
        self.inputs = outputs
        return nn.Sequential(first, *others)

    def forward(self, x):
        x = self.layer1(self.maxpool(self.bn1(self.conv1(x)).relu_()))
        outputs = [x]
        for stage in (self.layer2, self.layer3, self.layer4):
            outputs.append(stage(outputs[-1]))
        return outputs


class ConvBlock(nn.Module):
    def __init__(self, inputs, outputs, size, dilation=1):
        super().__init__()
        self.conv = conv(inputs, outputs, size, dilation=dilation)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.bn(self.conv(x)).relu_()


class DeepLabV3Plus(nn.Module):
    """Returns name → output of every stage, as [B,C,H,W]."""

    def __init__(self, name, classes, *, output_stride, channels, width, auxiliary):
        super().__init__()
        self.factor = output_stride // 4
        self.backbone = Backbone(name, width, output_stride)
        expansion = self.backbone.block.expansion
        low, middle, high = expansion * width, expansion * width * 4, expansion * width * 8
        rates = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}[output_stride]
        self.aspp = nn.ModuleDict(
            {
                "pointwise": ConvBlock(high, channels, 1),
                "dilated1": ConvBlock(high, channels, 3, rates[0]),
                "dilated2": ConvBlock(high, channels, 3, rates[1]),
                "dilated3": ConvBlock(high, channels, 3, rates[2]),
                "image_level": ConvBlock(high, channels, 1),
                "project": ConvBlock(5 * channels, channels, 1),
            }
        )
        self.decoder = nn.ModuleDict(
            {
                "low_level": ConvBlock(low, 48, 1),
                "block1": ConvBlock(channels + 48, channels, 3),
                "block2": ConvBlock(channels, channels, 3),
            }
        )
        self.classifier = nn.Conv2d(channels, classes, 1)
        self.auxiliary = None
        if auxiliary:
            self.auxiliary = nn.ModuleDict(
                {
                    "block": ConvBlock(middle, middle // 4, 3),
                    "classifier": nn.Conv2d(middle // 4, classes, 1),
                }
            )

    def forward(self, images):
        layer1, layer2, layer3, layer4 = self.backbone(images)
        branches = [
            self.aspp[name](layer4) for name in ("pointwise", "dilated1", "dilated2", "dilated3")
        ]
        pooled = self.aspp["image_level"](functional.adaptive_avg_pool2d(layer4, 1))
        branches.append(pooled.expand_as(branches[0]))
        context = self.aspp["project"](torch.cat(branches, 1))
        wide = functional.interpolate(
            context, scale_factor=self.factor, mode="bilinear", align_corners=False
        )[:, :, : layer1.shape[2], : layer1.shape[3]]
        joined = torch.cat([wide, self.decoder["low_level"](layer1)], 1)
        features = self.decoder["block2"](self.decoder["block1"](joined))
        outputs = {
            "layer1": layer1,
            "layer2": layer2,
            "layer3": layer3,
            "layer4": layer4,
            "context": context,
            "features": features,
            "logits": self.classifier(features),
        }
        if self.auxiliary is not None:
            head = self.auxiliary
            outputs["auxiliary"] = head["classifier"](head["block"](layer3))
        return outputs


def to_torch(params, statistics):
    """Our parameters and statistics as tensors under PyTorch's names, in PyTorch's layout."""
    state = weights.to_state_dict(params, statistics)
    return {name: torch.tensor(array) for name, array in state.items()}


def load(name, classes, params, statistics, **options):
    """The network with our parameters."""
    network = DeepLabV3Plus(name, classes, **options)
    missing, unexpected = network.load_state_dict(to_torch(params, statistics), strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return network


def to_nchw(images):
    """[B,H,W,C] in NumPy as [B,C,H,W] in PyTorch."""
    return torch.tensor(images).permute(0, 3, 1, 2)
