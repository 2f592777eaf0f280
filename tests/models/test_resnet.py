import functools

import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest
from flax import nnx

from pals_jax.models import resnet

BACKBONES = {"resnet18": resnet.resnet18, "resnet50": resnet.resnet50}


@functools.cache
def shapes(name, *, width=4, output_stride=32):
    options = {"width": width, "output_stride": output_stride, "dtype": jnp.float32}
    return nnx.eval_shape(lambda: BACKBONES[name](**options, rngs=nnx.Rngs(0)))


def test_names_and_shapes_are_torchvisions():
    stage = nnx.to_pure_dict(nnx.state(shapes("resnet50", width=64), nnx.Param))["layer2"]
    kernels = {
        ".".join(str(entry.key) for entry in path[:-1]): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(stage)
        if path[-1].key == "kernel"
    }
    later = {"conv1": (1, 1, 512, 128), "conv2": (3, 3, 128, 128), "conv3": (1, 1, 128, 512)}
    assert kernels == {
        "0.conv1": (1, 1, 256, 128),
        "0.conv2": (3, 3, 128, 128),
        "0.conv3": (1, 1, 128, 512),
        "0.downsample.0": (1, 1, 256, 512),
        **{f"{i}.{name}": shape for i in (1, 2, 3) for name, shape in later.items()},
    }
    assert set(stage["0"]) == {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample"}
    assert set(stage["0"]["downsample"]["1"]) == {"scale", "bias"}


@pytest.mark.parametrize(("name", "expansion"), [("resnet18", 1), ("resnet50", 4)])
@pytest.mark.parametrize(
    ("output_stride", "strides"),
    [(8, (4, 8, 8, 8)), (16, (4, 8, 16, 16)), (32, (4, 8, 16, 32))],
)
def test_stages_have_their_strides_and_channels(name, expansion, output_stride, strides):
    model = shapes(name, output_stride=output_stride)
    images = jax.ShapeDtypeStruct((1, 75, 130, 3), jnp.float32)
    outputs = nnx.eval_shape(lambda model, x: model(x, train=False), model, images)
    channels = [4 * expansion * 2**i for i in range(4)]
    assert model.channels == tuple(channels)
    assert [output.shape for output in outputs] == [
        (1, -(-75 // s), -(-130 // s), c) for s, c in zip(strides, channels, strict=True)
    ]


@pytest.mark.parametrize(
    ("output_stride", "stage", "first", "following", "stride"),
    [
        (32, "layer3", 1, 1, 2),
        (32, "layer4", 1, 1, 2),
        (16, "layer3", 1, 1, 2),
        (16, "layer4", 1, 2, 1),
        (8, "layer2", 1, 1, 2),
        (8, "layer3", 1, 2, 1),
        (8, "layer4", 2, 4, 1),
    ],
)
def test_the_first_block_of_a_dilated_stage_keeps_the_dilation_before(
    output_stride, stage, first, following, stride
):
    bottlenecks = getattr(shapes("resnet50", output_stride=output_stride), stage)
    assert bottlenecks["0"].conv2.dilation == first
    assert bottlenecks["0"].conv2.stride == stride
    assert bottlenecks["0"].downsample["0"].stride == stride
    assert {bottlenecks[str(i)].conv2.dilation for i in range(1, len(bottlenecks))} == {following}
    assert {bottlenecks[str(i)].conv2.stride for i in range(1, len(bottlenecks))} == {1}

    basic = getattr(shapes("resnet18", output_stride=output_stride), stage)
    assert (basic["0"].conv1.dilation, basic["0"].conv2.dilation) == (first, following)
    assert (basic["1"].conv1.dilation, basic["1"].conv2.dilation) == (following, following)
    assert basic["0"].conv1.stride == stride


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_dilated_network_is_the_strided_one_at_more_places(block):
    images = narrow.images(1, 65, 91)

    def run(output_stride):
        options = {"width": 4, "output_stride": output_stride, "dtype": jnp.float32}
        shapes = nnx.eval_shape(
            lambda: resnet.ResNet(block, (1, 1, 2, 2), **options, rngs=nnx.Rngs(0))
        )
        return nnx.jit(lambda model, x: model(x, train=False))(narrow.fill(shapes), images)[-1]

    strided, dilated = run(32), run(8)
    narrow.assert_close(dilated[:, ::4, ::4], strided, 1e-5)


def test_blocks_run_in_the_order_of_their_numbers():
    """Also merged by `narrow.fill`, whose order is that of strings: 0, 1, 10, 2."""
    options = {"sampling": resnet.Sampling(1, 1, 1), "dtype": jnp.float32}
    stage = narrow.fill(
        nnx.eval_shape(
            lambda: resnet.Stage(resnet.BasicBlock, 12, 4, 4, **options, rngs=nnx.Rngs(0))
        )
    )
    x = narrow.wave((1, 3, 3, 4), 0)
    expected = x
    for index in range(12):
        expected = stage[str(index)](expected, train=False)
    np.testing.assert_array_equal(stage(x, train=False), expected)


def test_the_output_stride_is_checked():
    with pytest.raises(ValueError, match=r"output_stride is 4; expected one of \[8, 16, 32\]"):
        shapes("resnet18", output_stride=4)
