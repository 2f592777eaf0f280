import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax import affinity, sharding

IMPLEMENTATIONS = {"dense": {}, "tiled": {"tile_size": 5}, "linear": {}, "pallas": {"tile_size": 8}}
ABLE = {
    "exp_cosine": ("dense", "tiled", "pallas"),
    "linear_cosine": ("dense", "tiled", "linear", "pallas"),
    "relu_cosine": ("dense", "tiled", "pallas"),
    "uniform": ("dense", "tiled", "linear", "pallas"),
}


def each_implementation_of(*similarities):
    """Every implementation of every one of these similarities."""
    cases = [(name, similarity) for similarity in similarities for name in ABLE[similarity]]
    return pytest.mark.parametrize(("implementation", "similarity"), cases)


each_implementation = pytest.mark.parametrize("implementation", ABLE["exp_cosine"])


@functools.cache
def jitted(implementation, **static):
    """Small tiles, so that every case crosses their borders and leaves a partial tile."""
    options = IMPLEMENTATIONS[implementation] | static
    return jax.jit(
        lambda features, values, masks: affinity.aggregate(
            features, values, implementation=implementation, **options, **masks
        )
    )


def call(implementation, features, values, *, valid=None, labels=None, correct=None, **static):
    masks = {"valid": valid, "labels": labels, "correct": correct}
    return jitted(implementation, **static)(features, values, masks)


def draw(seed, batch=2, pixels=13, dimension=4, classes=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(batch, pixels, dimension)).astype(np.float32)
    values = rng.dirichlet(np.ones(classes), size=(batch, pixels)).astype(np.float32)
    return rng, features, values


def everywhere(masks, shape):
    """The same masks, with those that are not given all True: that compiles once for all."""
    return {"valid": np.ones(shape, bool), "correct": np.ones(shape, bool), **masks}


def masks_of(rng, shape, chosen):
    masks = {
        "valid": rng.random(shape) < 0.7,
        "labels": rng.integers(0, 3, shape).astype(np.int32),
        "correct": rng.random(shape) < 0.6,
    }
    return {name: masks[name] for name in chosen}


MASKS = [c for n in range(4) for c in itertools.combinations(("valid", "labels", "correct"), n)]


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize("exclude_self", [True, False])
def test_agrees_with_float64_reference(implementation, similarity, exclude_self):
    for masks in MASKS:
        rng, features, values = draw(seed=len(masks))
        features[0, 3] = 0  # cosine 0 with everything, itself included
        options = {"similarity": similarity, "exclude_self": exclude_self, "power": 2.0}
        chosen = masks_of(rng, features.shape[:2], masks)
        expected, expected_has = reference.aggregate(features, values, **options, **chosen)
        found, has_source = call(
            implementation, features, values, **options, **everywhere(chosen, features.shape[:2])
        )
        np.testing.assert_array_equal(has_source, expected_has, err_msg=str(masks))
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=str(masks))


@each_implementation
def test_no_mask_is_a_mask_of_all(implementation):
    _, features, values = draw(seed=1)
    everyone = everywhere({}, features.shape[:2])
    expected, _ = call(implementation, features, values, **everyone)
    np.testing.assert_allclose(call(implementation, features, values)[0], expected, atol=1e-7)


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e-30, 1e30])
def test_scale_of_features_does_not_matter(implementation, similarity, scale):
    _, features, values = draw(seed=1)
    expected, _ = reference.aggregate(features, values, similarity=similarity)
    found, _ = call(implementation, features * np.float32(scale), values, similarity=similarity)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_implementation
def test_hand_computed_exp_cosine(implementation):
    # Pixel 0 sees pixel 1 (c = 1, weight 1) and pixel 2 (c = 0, weight e^-2 at temperature 0.5).
    features = np.array([[[2, 0], [1, 0], [0, 3]]], np.float32)
    values = np.array([[[0.5, 0.5], [1, 0], [0, 1]]], np.float32)
    found, has_source = call(implementation, features, values, temperature=0.5)
    weight = np.exp(-2)
    np.testing.assert_allclose(found[0, 0], [1 / (1 + weight), weight / (1 + weight)], rtol=1e-6)
    # Pixel 2 sees two pixels at the same cosine 0: the plain mean of their values.
    np.testing.assert_allclose(found[0, 2], [0.75, 0.25], rtol=1e-6)
    assert has_source.all()


@each_implementation_of("linear_cosine")
def test_hand_computed_linear_cosine(implementation, similarity):
    # Cosines of pixel 0: 0.6 to pixel 1 and -1 to pixel 2.
    features = np.array([[[1, 0], [0.6, 0.8], [-2, 0]]], np.float32)
    values = np.array([[[0.3, 0.7], [1, 0], [0, 1]]], np.float32)
    found, _ = call(implementation, features, values, similarity=similarity)
    np.testing.assert_allclose(found[0, 0], [1, 0], atol=1e-6)
    # Pixel 1 weighs pixel 0 by (1 + 0.6)/2 = 0.8 and pixel 2 by (1 - 0.6)/2 = 0.2.
    np.testing.assert_allclose(found[0, 1], [0.24, 0.76], atol=1e-6)


@each_implementation
def test_hand_computed_relu_cosine(implementation):
    features = np.array([[[1, 0], [0.6, 0.8], [-2, 0]]], np.float32)
    values = np.array([[[0.3, 0.7], [1, 0], [0, 1]]], np.float32)
    found, has_source = call(
        implementation, features, values, similarity="relu_cosine", exclude_self=False, power=2.0
    )
    # Pixel 0: itself with 1, pixel 1 with 0.36.
    np.testing.assert_allclose(found[0, 0], [(0.3 + 0.36) / 1.36, 0.7 / 1.36], rtol=1e-5)
    assert has_source.all()


each_dtype = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@each_implementation_of("linear_cosine")
@each_dtype
def test_opposite_features_are_no_source_of_linear_cosine(implementation, similarity, dtype):
    features = np.random.default_rng(0).normal(size=(20, 1, 64)).astype(np.float32)
    features = jnp.asarray(np.concatenate([features, -3 * features], axis=1), dtype)
    _, has_source = call(
        implementation, features, np.ones((20, 2, 2), np.float32), similarity=similarity
    )
    assert not has_source.any()


@each_implementation
@each_dtype
def test_orthogonal_features_are_no_source_of_relu_cosine(implementation, dtype):
    features = jnp.array([[[1, 2, 3], [1, 1, -1]]], dtype)  # 1 + 2 - 3 = 0
    _, has_source = call(
        implementation, features, np.ones((1, 2, 2), np.float32), similarity="relu_cosine"
    )
    assert not has_source.any()


@each_implementation
def test_zero_features_are_no_source_of_relu_cosine(implementation):
    features = np.zeros((1, 4, 3), np.float32)
    values = np.ones((1, 4, 2), np.float32)
    for exclude_self in (True, False):
        found, has_source = call(
            implementation, features, values, similarity="relu_cosine", exclude_self=exclude_self
        )
        assert not has_source.any()
        assert (found == 0).all()


@each_implementation
def test_large_temperature_gives_mean_over_the_others(implementation):
    _, features, values = draw(seed=2, batch=1)
    found, _ = call(implementation, features, values, temperature=1e6)
    others = (values.sum(1, keepdims=True) - values) / (values.shape[1] - 1)
    np.testing.assert_allclose(found, others, atol=1e-5)


@each_implementation
def test_constant_features_give_mean_over_the_others(implementation):
    _, features, values = draw(seed=2, batch=1)
    found, _ = call(implementation, np.ones_like(features), values)
    others = (values.sum(1, keepdims=True) - values) / (values.shape[1] - 1)
    np.testing.assert_allclose(found, others, atol=1e-6)


@each_implementation
def test_small_temperature_gives_values_of_nearest_source(implementation):
    # exp((c - 1)/τ) of the nearest source is e^-2000 for τ = 1e-3 · 0.5: far below float32's range.
    angles = np.array([0.0, 1.5, 3.5])
    features = np.stack([np.cos(angles), np.sin(angles)], -1)[None].astype(np.float32)
    values = np.eye(3, dtype=np.float32)[None]
    found, has_source = call(implementation, features, values, temperature=5e-4)
    np.testing.assert_allclose(found[0], np.eye(3)[[1, 0, 1]], atol=1e-6)
    assert has_source.all()


@each_implementation
def test_large_power_does_not_underflow(implementation):
    features = np.array([[[1, 0], [0.1, 1]]], np.float32)
    values = np.eye(2, dtype=np.float32)[None]
    found, has_source = call(implementation, features, values, similarity="relu_cosine", power=80.0)
    assert has_source.all()
    np.testing.assert_allclose(found[0], [[0, 1], [1, 0]], atol=1e-6)


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_invalid_pixels_may_hold_anything(implementation, similarity, bad):
    rng, features, values = draw(seed=3)
    valid = rng.random(features.shape[:2]) < 0.6
    expected, _ = call(implementation, features, values, valid=valid, similarity=similarity)
    features[~valid], values[~valid] = bad, bad
    found, has_source = call(implementation, features, values, valid=valid, similarity=similarity)
    np.testing.assert_array_equal(found, expected)
    assert (np.asarray(found)[~valid] == 0).all()
    assert not np.asarray(has_source)[~valid].any()


@each_implementation
def test_adding_an_invalid_pixel_changes_nothing(implementation):
    _, features, values = draw(seed=4)
    expected, _ = call(implementation, features, values)
    valid = np.ones((2, 14), bool)
    valid[:, 6] = False
    found, _ = call(
        implementation,
        np.insert(features, 6, np.nan, axis=1),
        np.insert(values, 6, 7.0, axis=1),
        valid=valid,
    )
    np.testing.assert_allclose(np.delete(found, 6, axis=1), expected, atol=1e-6)


@each_implementation
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), temperature=st.sampled_from([0.02, 0.1, 1.0]))
def test_permuting_the_pixels_permutes_the_result(implementation, seed, temperature):
    rng, features, values = draw(seed)
    order = rng.permutation(features.shape[1])
    masks = masks_of(rng, features.shape[:2], ("valid", "labels", "correct"))
    found, has = call(implementation, features, values, temperature=temperature, **masks)
    permuted, permuted_has = call(
        implementation,
        features[:, order],
        values[:, order],
        temperature=temperature,
        **{name: mask[:, order] for name, mask in masks.items()},
    )
    np.testing.assert_allclose(permuted, np.asarray(found)[:, order], atol=2e-6)
    np.testing.assert_array_equal(permuted_has, np.asarray(has)[:, order])


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    pixels=st.integers(1, 20),
    tile_size=st.integers(1, 25),
    similarity=st.sampled_from(affinity.SIMILARITIES),
)
def test_tiled_agrees_with_dense_for_any_tile(seed, pixels, tile_size, similarity):
    rng, features, values = draw(seed, pixels=pixels)
    masks = masks_of(rng, features.shape[:2], ("valid", "labels"))
    options = dict(similarity=similarity, **masks)
    expected, expected_has = affinity.aggregate(features, values, implementation="dense", **options)
    found, has_source = affinity.aggregate(
        features, values, implementation="tiled", tile_size=tile_size, **options
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(has_source, expected_has)


@each_implementation
def test_rows_of_probabilities_stay_probabilities(implementation):
    _, features, values = draw(seed=5)
    found, _ = call(implementation, features, values)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


@each_implementation
def test_no_gradient_flows(implementation):
    _, features, values = draw(seed=6)
    gradients = jax.grad(
        lambda f, v: call(implementation, f, v)[0].sum() + f.sum(), argnums=(0, 1)
    )(jnp.asarray(features), jnp.asarray(values))
    assert (gradients[0] == 1).all()
    assert (gradients[1] == 0).all()


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize("values_dtype", [jnp.float32, jnp.bfloat16])
def test_bfloat16_accumulates_in_float32(implementation, similarity, values_dtype):
    # In bfloat16, 256 + 1 = 256: a sum over these 1500 pixels would stop growing.
    rng, features, values = draw(seed=7, batch=1, pixels=1500, dimension=32)
    labels = rng.integers(0, 2, (1, 1500))
    options = {"similarity": similarity, "labels": labels}
    expected, _ = reference.aggregate(features, values, **options)
    options["tile_size"] = 200
    found, _ = affinity.aggregate(
        jnp.asarray(features, jnp.bfloat16),
        jnp.asarray(values, values_dtype),
        implementation=implementation,
        **options,
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=2e-2)


@each_implementation
@pytest.mark.parametrize(
    ("temperature", "atol"), [(1.0, 1e-5), (0.05, 1e-5), (0.02, 2e-5), (0.01, 3e-5), (0.005, 3e-5)]
)
def test_small_temperatures_are_exact(implementation, temperature, atol):
    # Features around few directions, as those of a trained network: cosines from -1 to nearly 1.
    rng, features, values = draw(seed=12, batch=1, pixels=300, dimension=64)
    centres = rng.normal(size=(6, 64)) * 2
    features = (centres[rng.integers(0, 6, 300)] + 0.5 * features).astype(np.float32)
    expected, expected_has = reference.aggregate(features, values, temperature=temperature)
    found, has_source = affinity.aggregate(
        features, values, temperature=temperature, implementation=implementation, tile_size=64
    )
    np.testing.assert_array_equal(has_source, expected_has)
    np.testing.assert_allclose(found, expected, atol=atol)


@each_implementation_of("uniform", "linear_cosine")
def test_labels_of_any_value_make_their_own_classes(implementation, similarity):
    rng, features, values = draw(seed=13, batch=2, pixels=40)
    labels = rng.choice([-7, 3, 2**30], (2, 40)).astype(np.int32)
    labels[0] = 5  # one class only
    labels[1, 0] = 77  # nobody else
    expected, expected_has = reference.aggregate(
        features, values, similarity=similarity, labels=labels
    )
    found, has_source = call(implementation, features, values, similarity=similarity, labels=labels)
    np.testing.assert_array_equal(has_source, expected_has)
    assert not has_source[1, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_implementation_of(*affinity.SIMILARITIES)
def test_a_valid_pixel_that_is_not_finite_makes_its_image_nan(implementation, similarity):
    _, features, values = draw(seed=3)
    features[0, 3, 1] = np.nan
    found, has_source = call(implementation, features, values, similarity=similarity)
    assert np.isnan(found[0]).all()
    assert has_source.all()
    assert np.isfinite(found[1]).all()


def test_linear_leaves_no_rounding_of_the_self_pair():
    # Nearly all mass on one class: what a row holds itself is subtracted from a sum of nearly it.
    rng, features, _ = draw(seed=0, pixels=256, dimension=32)
    logits = np.where(np.arange(256)[:, None] % 50 == 0, 12 * rng.normal(size=(256, 11)), 0)
    logits[..., 3] += 30
    values = jnp.broadcast_to(jax.nn.softmax(jnp.asarray(logits)), (2, 256, 11))
    labels = rng.integers(0, 11, (2, 256))
    found, _ = call("linear", features, values, labels=labels, similarity="linear_cosine")
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)


@each_implementation_of("linear_cosine")
@pytest.mark.parametrize("pixels", [2, 5])
def test_bfloat16_leaves_no_rest_of_the_self_pair(implementation, similarity, pixels):
    # As many classes as pixels: what a row holds of its own class is the weight of the self-pair.
    features = np.random.default_rng(0).normal(size=(40, pixels, 3)) + 1
    values = np.broadcast_to(np.eye(pixels, dtype=np.float32), (40, pixels, pixels))
    found, has_source = call(
        implementation, jnp.asarray(features, jnp.bfloat16), values, similarity=similarity
    )
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), 0, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), has_source, atol=1e-5)


@each_implementation_of("linear_cosine")
def test_one_source_among_many_opposite_ones(implementation, similarity):
    # In bfloat16, row 0 sees pixel 1 at cosine 0 and 298 pixels at cosine -1.
    features = np.zeros((1, 300, 2), np.float32)
    features[0, 0], features[0, 1], features[0, 2:] = (1, 0), (0, 1), (-1, 0)
    values = np.eye(3, dtype=np.float32)[[0, 1] + [2] * 298][None]
    found, has_source = call(
        implementation, features.astype(jnp.bfloat16), values, similarity=similarity
    )
    np.testing.assert_allclose(found[0, 0], [0, 1, 0], atol=1e-6)
    assert has_source[0, 0]


@each_implementation_of("linear_cosine")
def test_bfloat16_counts_as_opposite_what_is_within_its_rounding(implementation, similarity):
    # Row 0 sees 97 pixels at cosine -0.992 and 3 at cosine 0.
    features = np.zeros((1, 101, 2), np.float32)
    features[0, 0], features[0, 1:98], features[0, 98:] = (1, 0), (-0.9915, 0.13), (0, 1)
    values = np.eye(3, dtype=np.float32)[[0] + [1] * 97 + [2] * 3][None]
    found, _ = call(implementation, features.astype(jnp.bfloat16), values, similarity=similarity)
    np.testing.assert_allclose(found[0, 0], [0, 0, 1], atol=1e-6)


@each_implementation_of("linear_cosine")
def test_nearly_opposite_features_are_exact(implementation, similarity):
    rng, _, values = draw(seed=5, batch=1, pixels=256)
    direction = np.array([1.0, 0, 0, 0])
    features = (0.05 * rng.normal(size=(1, 256, 4)) - direction).astype(np.float32)
    features[0, 0] = direction
    expected, _ = reference.aggregate(features, values, similarity=similarity)
    found, _ = call(implementation, features, values, similarity=similarity)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_implementation_of("linear_cosine")
def test_bfloat16_values_do_not_round_float32_features(implementation, similarity):
    feature = np.random.default_rng(0).normal(size=8)
    features = np.stack([feature, -feature, -feature])[None].astype(np.float32)
    values = jnp.eye(3, dtype=jnp.bfloat16)[None]
    found, has_source = call(implementation, features, values, similarity=similarity)
    assert has_source[0].tolist() == [False, True, True]
    np.testing.assert_array_equal(found[0], [[0, 0, 0], [0, 0, 1], [0, 1, 0]])


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


def test_choose_follows_the_size_of_the_matrix():
    small, reason = affinity.choose(jax.ShapeDtypeStruct((2, 256, 8), jnp.float32))
    assert small == "dense"
    assert "256²" in reason
    large, reason = affinity.choose(jax.ShapeDtypeStruct((2, 9216, 8), jnp.float32))
    assert large == "tiled"
    assert "MiB" in reason
    linear, reason = affinity.choose(
        jax.ShapeDtypeStruct((2, 256, 8), jnp.float32), similarity="uniform"
    )
    assert linear == "linear"
    assert "uniform" in reason
    shared, reason = affinity.choose(
        jax.ShapeDtypeStruct((2, 256, 8), jnp.float32), mesh=sharding.data_mesh(4)
    )
    assert shared == "tiled"
    assert "mesh" in reason
    with pytest.raises(ValueError, match=r"one of .*found 'cosine'"):
        affinity.choose(jax.ShapeDtypeStruct((2, 256, 8), jnp.float32), similarity="cosine")


GOOD = {"features": np.ones((1, 4, 2), np.float32), "values": np.ones((1, 4, 3), np.float32)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": np.ones((4, 2), np.float32)}, r"features .* \(4, 2\)"),
        ({"values": np.ones((1, 5, 3), np.float32)}, r"values .*\(1, 4, 2\).*\(1, 5, 3\)"),
        ({"features": np.ones((1, 4, 2), np.int32)}, "features .*int32"),
        ({"values": np.ones((1, 4, 3), np.float16)}, "values .*float16"),
        ({"valid": np.ones((1, 3), bool)}, r"valid .*\(1, 4\).*\(1, 3\)"),
        ({"valid": np.ones((1, 4), np.float32)}, "valid .*float32"),
        ({"labels": np.ones((1, 4), np.float32)}, "labels .*float32"),
        ({"correct": np.ones((4,), bool)}, "correct"),
        ({"temperature": 0.0}, "temperature must be > 0 .*found 0"),
        ({"temperature": 1e-39}, "temperature must be .*at least 1e-30"),
        ({"features": np.ones((1, 0, 2), np.float32)}, r"features must not be empty.*\(1, 0, 2\)"),
        ({"values": np.ones((1, 4, 0), np.float32)}, r"values must not be empty"),
        ({"temperature": float("nan")}, "temperature"),
        ({"power": -1.0}, "power"),
        ({"power": float("inf")}, "power must be > 0 and finite, found inf"),
        ({"tile_size": 0}, "tile_size"),
        ({"similarity": "cosine"}, "exp_cosine"),
        ({"implementation": "fast"}, "'fast' cannot .*'dense', 'tiled'"),
        ({"implementation": "linear"}, "'linear' cannot do similarity 'exp_cosine'.*'dense'"),
        (
            {"implementation": "dense", "mesh": sharding.data_mesh(1)},
            r"'dense' cannot .*on a mesh.*\['auto', 'tiled'\]",
        ),
    ],
)
def test_bad_input_is_named(change, told):
    with pytest.raises(ValueError, match=told):
        affinity.aggregate(**(GOOD | change))
