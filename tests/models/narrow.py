"""Narrow networks with reproducible, uneven parameters, which cost no compilation."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pals_jax import models

WIDTH, CHANNELS, CLASSES = 4, 8, 5


@functools.cache
def shapes(name="deeplabv3plus_resnet18", **options):
    """The network, with shapes in place of arrays."""
    options = {"width": WIDTH, "decoder_channels": CHANNELS} | options
    return nnx.eval_shape(lambda: models.create(name, CLASSES, **options, rngs=nnx.Rngs(0)))


def build(name="deeplabv3plus_resnet18", **options):
    """The network, filled."""
    return fill(shapes(name, **options))


def fill(model):
    """Kernels of about Kaiming's size, BatchNorm parameters and statistics near their usual."""
    graph, state = nnx.split(model)
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

    state = jax.tree_util.tree_map_with_path(value, nnx.to_pure_dict(state))
    return nnx.merge(graph, state)


def wave(shape, phase):
    """Noise of variance 1 / 2 in [-1, 1], the same with every library: sin(i² + phase)."""
    return np.sin(np.arange(np.prod(shape)) ** 2.0 + phase).reshape(shape).astype(np.float32)


def images(batch, height, width):
    """Images of variance 2."""
    return wave((batch, height, width, 3), 0.5) * 2


@nnx.jit
def evaluate(model, images, valid=None):
    return model(images, valid=valid)


@nnx.jit
def stages(model, images):
    """Name → output in evaluation, of every part of the network."""
    *lower, layer4 = model.backbone(images, train=False)
    names = ("layer1", "layer2", "layer3", "layer4")
    context = model.aspp(layer4, None, train=False)
    outputs = model(images)._asdict()
    return dict(zip(names, (*lower, layer4), strict=True)) | {"context": context} | outputs


def assert_close(ours, theirs, tolerance):
    """max |a − b| ≤ tolerance · max |b| for each array; elementwise ratios mean nothing near 0."""
    leaves = jax.tree_util.tree_leaves_with_path(theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, (path, b) in zip(jax.tree.leaves(ours), leaves, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        name = jax.tree_util.keystr(path)
        assert a.shape == b.shape, name
        error = np.abs(a - b).max() / np.abs(b).max()
        assert error <= tolerance, f"{name}: {error:.2e}"
