import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from pals_jax import models


def build():
    return models.create(
        "deeplabv3plus_resnet18",
        5,
        decoder_channels=8,
        width=4,
        auxiliary=True,
        rngs=nnx.Rngs(0),
    )


@pytest.fixture(scope="module")
def network():
    apply, params, statistics = models.split(build())
    return jax.jit(apply, static_argnames=("train", "freeze_batch_norm")), params, statistics


# Every image has another mean and contrast, so that statistics of parts would differ.
IMAGES = jax.random.normal(jax.random.key(0), (4, 48, 64, 3)) * jnp.arange(1.0, 5.0).reshape(
    4, 1, 1, 1
) + jnp.arange(4.0).reshape(4, 1, 1, 1)


def assert_trees_close(ours, theirs, tolerance):
    def check(a, b):
        assert jnp.max(jnp.abs(a - b)) <= tolerance * jnp.maximum(jnp.max(jnp.abs(b)), 1e-3)

    jax.tree.map(check, ours, theirs)


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


def test_apply_is_the_model(network):
    apply, params, statistics = network
    ours, new = apply(params, statistics, IMAGES, train=True)
    model = build()
    theirs = nnx.jit(lambda model, x: model(x, train=True))(model, IMAGES)
    assert_trees_close(ours, theirs, 1e-5)
    assert_trees_close(new, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), 1e-5)


def test_evaluation_returns_the_statistics_that_it_was_given():
    apply, params, statistics = models.split(nnx.eval_shape(build))
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


def test_training_moves_every_statistic_and_those_of_the_stem_by_a_tenth(network):
    apply, params, statistics = network
    _, new = apply(params, statistics, IMAGES, train=True)
    assert jax.tree.structure(new) == jax.tree.structure(statistics)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), new, statistics)))

    stem = jax.lax.conv_general_dilated(
        IMAGES,
        params["backbone"]["conv1"]["kernel"],
        window_strides=(2, 2),
        padding=[(3, 3), (3, 3)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    bn1 = new["backbone"]["bn1"]
    np.testing.assert_allclose(bn1["mean"], 0.1 * stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bn1["var"], 0.9 + 0.1 * stem.var((0, 1, 2)), rtol=1e-4)


def test_statistics_of_a_sharded_batch_are_global(network):
    apply, params, statistics = network
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    images = jax.device_put(IMAGES, NamedSharding(mesh, PartitionSpec("batch")))
    replicated = jax.device_put((params, statistics), NamedSharding(mesh, PartitionSpec()))
    ours, new = apply(*replicated, images, train=True)
    assert len(ours.logits.sharding.device_set) == 4
    theirs, expected = apply(params, statistics, IMAGES, train=True)
    assert_trees_close(new, expected, 1e-4)
    assert_trees_close(ours, theirs, 1e-3)


def test_every_parameter_has_a_gradient(network):
    apply, params, statistics = network

    @jax.jit
    @jax.grad
    def gradient(params):
        outputs, _ = apply(params, statistics, IMAGES, train=True)
        return jnp.sum(outputs.logits**2) + jnp.sum(outputs.auxiliary**2)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert jnp.isfinite(leaf).all(), path
        assert (leaf != 0).any(), path
