"""A narrow network with reproducible, uneven parameters, and all that it computes on the way."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pals_jax import models

FROZEN_IMAGES = (1, 65, 99)  # batch, height, width
OPTIONS = {"num_classes": 5, "decoder_channels": 8, "width": 4, "auxiliary": True}


def build(name, output_stride):
    """Shapes of the network; `fill` gives it parameters."""
    return nnx.eval_shape(
        lambda: models.create(name, **OPTIONS, output_stride=output_stride, rngs=nnx.Rngs(0))
    )


def wave(shape, phase):
    """Noise of variance 1 / 2 in [-1, 1], the same with every library: sin(i² + phase)."""
    return np.sin(np.arange(np.prod(shape)) ** 2.0 + phase).reshape(shape).astype(np.float32)


def fill(params, statistics):
    """Kernels of about Kaiming's size, and BatchNorm parameters and statistics near their usual."""
    phases = itertools.count()

    def value(path, leaf):
        noise = wave(leaf.shape, next(phases))
        match path[-1].key:
            case "kernel":
                return jnp.asarray(noise * (4 / np.prod(leaf.shape[:-1])) ** 0.5)
            case "scale" | "var":
                return jnp.asarray(1 + 0.5 * noise)
            case "bias" | "mean":
                return jnp.asarray(0.5 * noise)

    return jax.tree_util.tree_map_with_path(value, (params, statistics))


def images(batch, height, width):
    return wave((batch, height, width, 3), 0.5) * 2


def stages(model, params, statistics, images):
    """Name → output in evaluation, of every part of the network."""
    graph, *_ = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def run(params, statistics, images):
        network = nnx.merge(graph, params, statistics)
        *lower, layer4 = network.backbone(images, train=False)
        context = network.aspp(layer4, None, train=False)
        outputs = network(images)._asdict()
        names = ("layer1", "layer2", "layer3", "layer4")
        return dict(zip(names, (*lower, layer4), strict=True)) | {"context": context} | outputs

    return run(params, statistics, images)


def assert_close(ours, theirs, tolerance=1e-4):
    """max |a − b| ≤ tolerance · max |b|, by name; elementwise ratios mean nothing near zero."""
    assert set(ours) == set(theirs)
    for name in ours:
        ours_, theirs_ = np.asarray(ours[name]), np.asarray(theirs[name])
        assert ours_.shape == theirs_.shape, name
        error = np.abs(ours_ - theirs_).max() / np.abs(theirs_).max()
        assert error <= tolerance, f"{name}: {error:.2e}"
