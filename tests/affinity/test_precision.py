"""What rounding does, in float32 and bfloat16, where cosines nearly cancel or weights vanish."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from implementations import call, draw, each_implementation, each_implementation_of

from pals_jax import affinity
from pals_jax.affinity import kernels

each_dtype = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize("scale", [1e-3, 1e3, 1e-30, 1e30, 7e37])
def test_scale_of_features_does_not_matter(implementation, similarity, scale):
    _, features, values = draw(seed=1)
    expected, _ = reference.aggregate(features, values, similarity=similarity)
    found, _ = call(implementation, features * np.float32(scale), values, similarity=similarity)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_implementation
def test_large_power_does_not_underflow(implementation):
    features = np.array([[[1, 0], [0.1, 1]]], np.float32)
    values = np.eye(2, dtype=np.float32)[None]
    found, has_source = call(implementation, features, values, similarity="relu_cosine", power=80.0)
    assert has_source.all()
    np.testing.assert_allclose(found[0], [[0, 1], [1, 0]], atol=1e-6)


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
@each_dtype
def test_opposite_features_are_no_source_of_linear_cosine(implementation, similarity, dtype):
    features = np.random.default_rng(0).normal(size=(20, 1, 64)).astype(np.float32)
    features = jnp.asarray(features, dtype)
    features = jnp.concatenate([features, -2 * features], axis=1)
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


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize(("temperature", "atol"), [(0.1, 1e-5), (0.005, 3e-5)])
@pytest.mark.parametrize("scale", [1, 1e-20, 1e20])
def test_bfloat16_features_are_not_rounded_further(
    implementation, similarity, temperature, atol, scale
):
    _, features, _ = draw(seed=3, batch=1, pixels=200, dimension=24)
    features = (scale * features).astype(jnp.bfloat16)
    values = np.eye(5, dtype=np.float32)[np.arange(200) % 5][None]
    options = {"similarity": similarity, "temperature": temperature}
    expected, expected_has = reference.aggregate(features.astype(np.float64), values, **options)
    found, has_source = call(implementation, jnp.asarray(features), values, **options)
    np.testing.assert_array_equal(has_source, expected_has)
    np.testing.assert_allclose(found, expected, atol=atol)


@each_implementation
@pytest.mark.parametrize("dimension", [256, 1024])
def test_near_duplicates_are_told_apart_at_small_temperatures(implementation, dimension):
    # Features of one sign, whose products add up to nearly 1: rounding of their sum is largest.
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(40, dimension)), 3, axis=0) + rng.normal(size=dimension)
    features = np.abs(features + 0.05 * rng.normal(size=features.shape)).astype(np.float32)[None]
    values = np.eye(5, dtype=np.float32)[rng.integers(0, 5, (1, 120))]
    expected, _ = reference.aggregate(features, values, temperature=0.005)
    found, _ = call(implementation, features, values, temperature=0.005)
    np.testing.assert_allclose(found, expected, atol=3e-5)


@pytest.mark.parametrize(("temperature", "atol"), [(0.05, 1e-5), (0.01, 3e-5), (0.005, 1e-5)])
@pytest.mark.parametrize("same_class", [True, False])
def test_thousands_of_near_duplicates_that_share_a_strong_channel(temperature, atol, same_class):
    # The first product is nearly the whole sum, so that each of the others is rounded to its ulp.
    rng = np.random.default_rng(1)
    features = np.repeat(rng.normal(size=(1000, 256)), 3, axis=0)
    features += 1e-3 * rng.normal(size=features.shape)
    features[:, 0] += 2 * np.sqrt(256)
    features = features.astype(np.float32)[None]
    values = np.eye(3, dtype=np.float32)[np.arange(3000) % 3][None]
    labels = np.arange(3000)[None] // 3 if same_class else None
    options = {"labels": labels, "temperature": temperature}
    expected, _ = reference.aggregate(features, values, **options)
    for implementation in ("dense", "tiled"):
        found, _ = affinity.aggregate(features, values, implementation=implementation, **options)
        np.testing.assert_allclose(found, expected, atol=atol)


def assert_two_classes_are_told_apart(features, temperature):
    """Of [N,D] features, those of even and of odd pixels."""
    features = features.astype(np.float32)[None]
    values = np.eye(2, dtype=np.float32)[np.arange(features.shape[1]) % 2][None]
    expected, _ = reference.aggregate(features, values, temperature=temperature)
    for implementation in ("dense", "tiled"):
        found, _ = call(implementation, features, values, temperature=temperature)
        np.testing.assert_allclose(found, expected, atol=1e-5)


# How XLA adds up on a CPU depends on the number of pixels.
@pytest.mark.parametrize("pixels", [64, 96, 640])
@pytest.mark.parametrize("temperature", [0.2, 0.1, 0.05])
def test_small_products_are_not_lost_in_a_large_one(temperature, pixels):
    # Each is below half an ulp of the first.
    sign = np.where(np.arange(pixels) % 2 == 0, 1, -1)[:, None]
    features = 1.7e-4 * sign * np.ones((pixels, 256))
    features[:, 0] = 1
    assert_two_classes_are_told_apart(features, temperature)


@pytest.mark.parametrize("temperature", [0.1, 0.05])
def test_the_worst_for_the_sums_that_make_a_cosine(temperature):
    # Fifteen sums of those products begin with a strong channel, each just above 1/16: nearly twice
    # what one strong channel can do.
    longest, strong, pixels = int(320 * temperature), 15, 640
    length = 24 * longest  # cosines of more sums are exact
    starts = np.arange(0, length, longest)[: strong + 1]
    product, lost = 1.002 / 16, 0.97 * 2.0**-28
    sign = np.where(np.arange(pixels) % 2 == 0, 1, -1)[:, None]
    features = np.sqrt(lost) * sign * np.ones((pixels, length))
    features[:, starts[:strong]] = np.sqrt(product)
    features[:, starts[strong]] = np.sqrt(1 - strong * product)
    assert_two_classes_are_told_apart(features, temperature)


def test_small_weights_are_not_lost_in_a_large_one():
    # Two pixels that are alike, 4094 whose weight is just below half an ulp of theirs.
    cosine = 1 - 24.05 * np.log(2) * 0.1
    features = np.tile(np.array([cosine, np.sqrt(1 - cosine**2)], np.float32), (1, 4096, 1))
    features[0, :2] = [1, 0]
    values = np.eye(2, dtype=np.float32)[np.minimum(np.arange(4096) // 2, 1)][None]
    expected, _ = reference.aggregate(features, values)
    for options in ({"implementation": "dense"}, {"tile_size": 4096}):
        found, _ = affinity.aggregate(features, values, **{"implementation": "tiled"} | options)
        np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=1e-5)


def test_small_weights_of_many_tiles_are_not_lost_in_a_large_one():
    # Likewise, where each tile of 64 comes to the sum of the tiles before it.
    cosine = 1 - 24.02 * np.log(2) * 0.1
    features = np.tile(np.array([cosine, np.sqrt(1 - cosine**2)], np.float32), (1, 16384, 1))
    features[0, :2] = [1, 0]
    values = np.eye(2, dtype=np.float32)[np.minimum(np.arange(16384) // 2, 1)][None]
    found, _ = affinity.aggregate(features, values, implementation="tiled", tile_size=64)
    weight = np.exp((float(features[0, 2, 0]) - 1) / 0.1)
    expected = np.array([1, 16382 * weight]) / (1 + 16382 * weight)
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=2e-6)


def test_cosines_that_would_take_many_sums_are_exact():
    kernel = affinity.Kernel("exp_cosine", 0.1, 1.0)
    for channels, parts in ((32, 1), (256, 8), (768, 24), (800, 1)):
        features = jax.ShapeDtypeStruct((1, 4, channels), jnp.float32)
        found = jax.eval_shape(
            functools.partial(kernels.directions_in_parts, kernel=kernel), features
        )
        assert len(found.parts) == parts
        assert found.exact == (channels == 800)


@each_implementation_of("relu_cosine", "linear_cosine")
@pytest.mark.parametrize("power", [1, 4])
def test_small_weights_of_terms_that_cancel(implementation, similarity, power):
    features = np.zeros((1, 3, 2048), np.float32)
    features[0, :, 1:-2] = 1.2e-4 * np.array([[1], [1], [-1]])
    # Small cosines for the one, cosines near -1 for the other.
    first = 1 if similarity == "relu_cosine" else -0.9
    features[0, :, [0, -2, -1]] = [[1, first, first], [1, -1, -1], [0.1, 0.1, 0.1]]
    values = np.eye(3, dtype=np.float32)[None]
    options = {"similarity": similarity, "power": power}
    expected, _ = reference.aggregate(features, values, **options)
    found, _ = call(implementation, features, values, **options)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_implementation_of("linear_cosine")
def test_thousands_of_equal_thin_features(implementation, similarity):
    if implementation == "pallas":
        pytest.skip("interpreted, which takes minutes")
    features = np.ones((1, 8192, 2), np.float32)
    values = np.stack([np.full((1, 8192), share, np.float32) for share in (0.9999, 0.0001)], -1)
    found, _ = affinity.aggregate(
        features, values, similarity=similarity, implementation=implementation
    )
    np.testing.assert_allclose(found, values, atol=1e-5)


def test_exact_cosines_are_so_to_the_last_digit():
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(1, 300, 2000))) + 50 * np.eye(2000)[0]
    features = jnp.asarray(features, jnp.float32).at[0, 0].set(0)
    directions = kernels.directions(features, exact=True)
    found = kernels.cosine(directions, directions)[0]
    unit = np.asarray(features[0], np.float64)
    unit[1:] /= np.linalg.norm(unit[1:], axis=1, keepdims=True)
    # Three roundings to float32, of a sum and two inverse norms, and those of the features.
    np.testing.assert_allclose(found, unit @ unit.T, rtol=0, atol=1.8e-7)


@each_implementation_of(*affinity.SIMILARITIES)
def test_large_values_do_not_overflow(implementation, similarity):
    _, features, values = draw(seed=3, batch=1, pixels=200)
    options = {"similarity": similarity, "temperature": 1 / 32}
    expected, _ = reference.aggregate(features, values.astype(np.float64) * 1e33, **options)
    found, _ = call(implementation, features, values * np.float32(1e33), **options)
    np.testing.assert_allclose(found / 1e33, expected / 1e33, atol=1e-5)


@each_implementation_of("linear_cosine")
def test_bfloat16_values_do_not_round_float32_features(implementation, similarity):
    feature = np.random.default_rng(0).normal(size=8)
    features = np.stack([feature, -feature, -feature])[None].astype(np.float32)
    values = jnp.eye(3, dtype=jnp.bfloat16)[None]
    found, has_source = call(implementation, features, values, similarity=similarity)
    assert has_source[0].tolist() == [False, True, True]
    np.testing.assert_array_equal(found[0], [[0, 0, 0], [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("above_opposite", [0.0205, 0.03, 0.06, 0.2])
def test_two_nearly_opposite_pixels(above_opposite):
    # Each has one source, and what is left of the sums after the self-pair is 1 + c.
    rng = np.random.default_rng(0)
    images = 40
    first = rng.normal(size=(images, 64))
    aside = rng.normal(size=(images, 64))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    aside -= np.sum(aside * first, 1, keepdims=True) * first
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    cosine = above_opposite - 1
    second = cosine * first + np.sqrt(1 - cosine**2) * aside
    features = np.stack([first, second], axis=1).astype(np.float32)
    values = rng.dirichlet(np.ones(5), size=(images, 2)).astype(np.float32)
    found, _ = affinity.aggregate(
        features, values, similarity="linear_cosine", implementation="linear"
    )
    np.testing.assert_allclose(found, values[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("cosine", [-0.9685, -0.95, -0.9])
def test_a_row_whose_sources_all_have_one_cosine_near_opposite(cosine):
    # The coordinate that all sources share is rounded alike in each, so that errors add up.
    rng = np.random.default_rng(0)
    aside = rng.normal(size=(300, 3))
    aside *= np.sqrt(1 - cosine**2) / np.linalg.norm(aside, axis=1, keepdims=True)
    features = np.concatenate([np.full((300, 1), cosine), aside], axis=1)
    features[0] = [1, 0, 0, 0]
    features = features.astype(np.float32)[None]
    values = np.eye(5, dtype=np.float32)[rng.integers(0, 5, (1, 300))]
    expected, _ = reference.aggregate(features, values, similarity="linear_cosine")
    found, _ = affinity.aggregate(
        features, values, similarity="linear_cosine", implementation="linear"
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
