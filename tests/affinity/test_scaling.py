"""Many devices, memory, and the choice between implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from implementations import call, draw, jitted, masks_of

from pals_jax import affinity, sharding
from pals_jax.affinity import linear


@pytest.mark.parametrize(
    ("implementation", "options"),
    [
        ("dense", {}),
        ("tiled", {}),
        ("tiled", {"temperature": 0.01}),
        ("linear", {"similarity": "linear_cosine"}),
    ],
)
def test_each_device_computes_its_own_images(implementation, options):
    _, features, values = draw(seed=4, batch=4)
    masks = {"labels": np.zeros(features.shape[:2], np.int32)}
    expected, _ = call(implementation, features, values, **masks, **options)
    arrays = sharding.shard_batch((features, values, masks), sharding.data_mesh(4))
    program = jitted(implementation, **options).lower(*arrays).compile()
    assert "all-gather" not in program.as_text()
    found, _ = program(*arrays)
    assert len({str(shard.index) for shard in found.addressable_shards}) == 4
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("masks", [(), ("valid", "labels", "correct")], ids=["none", "all"])
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.1},
        {"temperature": 0.005},
        {"similarity": "relu_cosine", "power": 2.0},
        {"similarity": "relu_cosine", "power": 20.0},
        {"similarity": "linear_cosine"},
    ],
    ids=str,
)
def test_four_devices_share_the_rows_of_one_image(options, masks):
    rng, features, values = draw(seed=14, batch=2, pixels=53)
    options = options | masks_of(rng, features.shape[:2], masks) | {"tile_size": 8}
    expected, expected_has = affinity.aggregate(features, values, implementation="tiled", **options)
    mesh = sharding.data_mesh(4)
    found, has_source = jax.jit(
        lambda features, values: affinity.aggregate(features, values, mesh=mesh, **options)
    )(features, values)
    np.testing.assert_array_equal(has_source, expected_has)
    # At τ = 0.005 the rounding of a cosine by 10⁻⁷ changes a weight by 10⁻⁵.
    atol = 1e-5 if options.get("temperature") == 0.005 else 1e-6
    np.testing.assert_allclose(found, expected, atol=atol)


def test_tiled_memory_grows_linearly():
    def temporary_bytes(implementation, pixels):
        shapes = [jax.ShapeDtypeStruct((1, pixels, n), jnp.float32) for n in (8, 4)]
        compiled = jax.jit(
            lambda f, v: affinity.aggregate(f, v, implementation=implementation, tile_size=64)
        ).lower(*shapes)
        return compiled.compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes("dense", 2048) >= 2048**2 * 4
    assert temporary_bytes("tiled", 2048) < 2048**2
    assert temporary_bytes("tiled", 4096) < 2.5 * temporary_bytes("tiled", 2048)


def test_linear_memory_grows_linearly():
    def temporary_bytes(pixels):
        shapes = [jax.ShapeDtypeStruct((1, pixels, n), jnp.float32) for n in (64, 4)]
        compiled = jax.jit(lambda f, v: affinity.aggregate(f, v, similarity="linear_cosine"))
        return compiled.lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(2**15) < 3 * 2**15 * 64 * 4


def test_labels_that_no_source_has_are_no_class():
    """An image whose pixels without a label hold an id each would cost a sum over it for each."""
    labels = jnp.array([[5, 2, 5, 9, 7, 9], [1, 1, 1, 1, 1, 3]])
    is_source = jnp.array([[1, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1]], bool)
    rank, count = linear._rank_and_count(labels, is_source)
    np.testing.assert_array_equal(count, [[1, 0, 1, 2, 0, 2], [0, 0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(jnp.where(count > 0, rank, -1)[0], [0, -1, 0, 1, -1, 1])
    np.testing.assert_array_equal(jnp.max(rank, axis=1), [1, 0])


def test_choose_follows_the_similarity_the_labels_and_the_mesh():
    def choose(pixels, classes=3, labels=False, **options):
        features, values = (
            jax.ShapeDtypeStruct((2, pixels, channels), jnp.float32) for channels in (8, classes)
        )
        index = jax.ShapeDtypeStruct((2, pixels), jnp.int32)
        return affinity.choose(features, values, labels=index if labels else None, **options)

    plain, reason = choose(1024)
    assert plain == "tiled"
    assert "2 x 1024² float32 affinities would take 8 MiB" in reason
    linear, reason = choose(256, similarity="uniform")
    assert linear == "linear"
    assert "uniform" in reason
    assert choose(144, 6, labels=True, similarity="uniform")[0] == "linear"
    few, reason = choose(143, 6, labels=True, similarity="uniform")
    assert few == "tiled"
    assert "6 classes" in reason
    shared, reason = choose(256, mesh=sharding.data_mesh(4))
    assert shared == "tiled"
    assert "mesh" in reason
    with pytest.raises(ValueError, match=r"one of .*found 'cosine'"):
        choose(256, similarity="cosine")
    with pytest.raises(ValueError, match=r"features must have 3 axes .*\(256, 8\)"):
        affinity.choose(jnp.zeros((256, 8)), jnp.zeros((1, 256, 3)))
    with pytest.raises(ValueError, match=r"labels must have shape \(1, 4\).*found \(1, 3\)"):
        affinity.choose(jnp.zeros((1, 4, 8)), jnp.zeros((1, 4, 3)), labels=jnp.zeros((1, 3), int))
    with pytest.raises(ValueError, match=r"mesh must be .* found 3"):
        affinity.able("uniform", mesh=3)
