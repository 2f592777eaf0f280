import jax
import jax.numpy as jnp
import narrow
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pals_jax import models
from pals_jax.models import layers

# Every image has another mean and contrast, so that statistics of parts would differ.
NUMBER = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
IMAGES = narrow.images(4, 48, 64) * (NUMBER + 1) + NUMBER


@pytest.fixture(scope="module")
def network():
    apply, params, statistics = models.split(narrow.build(auxiliary=True))
    return jax.jit(apply, static_argnames=("train", "freeze_batch_norm")), params, statistics


@pytest.fixture(scope="module")
def trained(network):
    """Gradients, outputs and new statistics of a training step."""
    apply, params, statistics = network

    def loss(params):
        outputs, new = apply(params, statistics, IMAGES, train=True)
        return jnp.sum(outputs.logits**2) + jnp.sum(outputs.auxiliary**2), (outputs, new)

    gradients, (outputs, new) = jax.jit(jax.grad(loss, has_aux=True))(params)
    return gradients, outputs, new


def test_state_is_plain_dicts_of_arrays_by_name(network):
    _, params, statistics = network
    for tree in (params, statistics):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            assert all(type(entry) is jax.tree_util.DictKey for entry in path)
            assert all(type(entry.key) is str for entry in path)
            assert isinstance(leaf, jax.Array)
            assert leaf.dtype == jnp.float32
    assert params["backbone"]["layer1"]["0"]["conv1"]["kernel"].shape == (3, 3, 4, 4)
    assert params["backbone"]["layer2"]["0"]["downsample"]["1"]["scale"].shape == (8,)
    assert set(statistics["backbone"]["bn1"]) == {"mean", "var"}
    assert set(params) == {"backbone", "aspp", "decoder", "classifier", "auxiliary"}


def test_apply_is_the_model():
    model, images = narrow.build(), narrow.images(1, 40, 72)
    apply, params, statistics = models.split(model)
    ours, _ = jax.jit(apply, static_argnames="train")(params, statistics, images, train=False)
    narrow.assert_close(ours, narrow.evaluate(model, images), 1e-6)


def test_evaluation_returns_the_statistics_that_it_was_given():
    apply, params, statistics = models.split(narrow.shapes())
    seen = []

    def run(params, statistics):
        seen.append((statistics, apply(params, statistics, IMAGES, train=False)[1]))

    jax.eval_shape(run, params, statistics)
    ((given, returned),) = seen
    assert returned is given


def test_training_with_frozen_batch_norm_is_the_program_of_evaluation(network):
    apply, params, statistics = network

    def program(**options):
        return apply.lower(params, statistics, IMAGES, **options).as_text()

    frozen = program(train=True, freeze_batch_norm=True)
    assert frozen == program(train=False)
    assert frozen != program(train=True)


def test_training_moves_every_statistic_and_those_of_the_stem_by_a_tenth(network, trained):
    _, params, statistics = network
    _, _, new = trained
    assert jax.tree.structure(new) == jax.tree.structure(statistics)
    moved = jax.tree.map(lambda a, b: (np.asarray(a) != np.asarray(b)).all(), new, statistics)
    assert all(jax.tree.leaves(moved))

    kernel = params["backbone"]["conv1"]["kernel"]
    stem = np.asarray(layers.convolve(IMAGES, kernel, stride=2, dilation=1), np.float64)
    old, new = statistics["backbone"]["bn1"], new["backbone"]["bn1"]
    narrow.assert_close(new["mean"], 0.9 * old["mean"] + 0.1 * stem.mean((0, 1, 2)), 1e-5)
    narrow.assert_close(new["var"], 0.9 * old["var"] + 0.1 * stem.var((0, 1, 2)), 1e-5)


def test_statistics_of_a_sharded_batch_are_global(network, trained):
    apply, params, statistics = network
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    images = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("batch")))
    replicated = jax.device_put((params, statistics), NamedSharding(mesh, PartitionSpec()))
    ours, new = apply(*replicated, images, train=True)
    assert len(ours.logits.sharding.device_set) == 4
    _, theirs, expected = trained
    narrow.assert_close(new, expected, 1e-4)
    narrow.assert_close(ours, theirs, 1e-3)


def test_every_parameter_has_a_gradient(trained):
    gradients, _, _ = trained
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf), path
