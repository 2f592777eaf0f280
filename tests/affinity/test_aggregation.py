"""What all implementations compute: hand-computed values, masks and properties."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from implementations import (
    call,
    draw,
    each_implementation,
    each_implementation_of,
    masks_of,
)

from pals_jax import affinity, sharding


def everywhere(masks, shape):
    """The same masks, with those that are not given all True: that compiles once for all."""
    return {"valid": np.ones(shape, bool), "correct": np.ones(shape, bool), **masks}


MASKS = [c for n in range(4) for c in itertools.combinations(("valid", "labels", "correct"), n)]


@each_implementation_of(*affinity.SIMILARITIES)
@pytest.mark.parametrize("exclude_self", [True, False])
def test_agrees_with_float64_reference(implementation, similarity, exclude_self):
    for masks in MASKS:
        rng, features, values = draw(seed=len(masks))
        features[0, 3] = 0  # cosine 0 with everything, itself included
        power = 2.0 if exclude_self else 1.5
        options = {"similarity": similarity, "exclude_self": exclude_self, "power": power}
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


@each_implementation
def test_masks_may_be_numpy_inside_a_jitted_function(implementation):
    rng, features, values = draw(seed=15)
    masks = masks_of(rng, features.shape[:2], ("valid", "labels", "correct"))
    options = {"implementation": implementation, "tile_size": 8} | masks
    found, _ = jax.jit(lambda f, v: affinity.aggregate(f, v, **options))(features, values)
    expected, _ = affinity.aggregate(features, values, **options)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("similarity", ["linear_cosine", "uniform"])
@pytest.mark.parametrize("exclude_self", [True, False])
@pytest.mark.parametrize("classes", [3, 100])  # sums over each, or too many for that
def test_sums_over_each_class(similarity, exclude_self, classes):
    rng, features, values = draw(seed=4, pixels=300, dimension=8)
    masks = masks_of(rng, features.shape[:2], ("valid", "correct"))
    masks["labels"] = rng.integers(0, classes, features.shape[:2]).astype(np.int32)
    options = {"similarity": similarity, "exclude_self": exclude_self, **masks}
    expected = reference.aggregate(features, values, **options)
    found = call("linear", features, values, **options)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)


def test_any_number_is_a_temperature_and_any_int32_a_label():
    _, features, values = draw(seed=2)
    labels = np.full(features.shape[:2], -(2**31), np.int32)
    exact, _ = affinity.aggregate(features, values, temperature=Fraction(1, 10), labels=labels)
    expected, _ = affinity.aggregate(features, values, temperature=0.1)
    np.testing.assert_array_equal(exact, expected)


@each_implementation_of(*affinity.SIMILARITIES)
def test_a_valid_pixel_that_is_not_finite_makes_its_image_nan(implementation, similarity):
    _, features, values = draw(seed=3)
    features[0, 3, 1] = np.nan
    found, has_source = call(implementation, features, values, similarity=similarity)
    assert np.isnan(found[0]).all()
    assert has_source.all()
    assert np.isfinite(found[1]).all()


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
        ({"power": 0.5}, "power must be ≥ 1 and at most 1e\\+30, found 0.5"),
        ({"power": float("inf")}, "power must be ≥ 1 and at most 1e\\+30, found inf"),
        ({"power": 2**2000}, "power must be ≥ 1 and at most"),
        ({"temperature": 1e305}, "temperature must be .*at most 1e\\+30"),
        ({"temperature": "0.1"}, "temperature must be a number, .*found '0.1'"),
        ({"power": None}, "power must be a number, .*found None"),
        ({"features": [[[1.0, 0.0]]]}, "features must be an array, found list"),
        ({"valid": True}, "valid must be an array, found bool"),
        ({"labels": np.array([[0, 2**32, 1, 2]])}, "labels must fit int32, found 4294967296"),
        ({"exclude_self": "no"}, "exclude_self must be True or False.*found 'no'"),
        ({"mesh": 4}, "mesh must be a .*Mesh or None, found 4"),
        ({"tile_size": True}, "tile_size must be a whole number .*found True"),
        ({"tile_size": 0}, "tile_size"),
        ({"tile_size": 2.5}, "tile_size must be a whole number .*found 2.5"),
        ({"similarity": "cosine"}, "exp_cosine"),
        ({"implementation": "fast"}, "implementation must be one of .*'tiled'.*found 'fast'"),
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": np.ones((4, 2), np.float32)}, "features must have 3 axes"),
        ({"features": np.ones((1, 4, 2))}, "features must be float32 or bfloat16, found float64"),
        ({"is_source": np.ones((1, 3), bool)}, r"is_source must have shape \(1, 4\)"),
        ({"labels": np.ones((1, 4), np.float32)}, "labels must be an integer, found float32"),
    ],
)
def test_affinity_matrix_names_what_is_wrong(changes, said):
    arguments = {
        "features": np.ones((1, 4, 2), np.float32),
        "is_source": np.ones((1, 4), bool),
        "labels": np.ones((1, 4), np.int32),
    } | changes
    kernel = affinity.Kernel("exp_cosine", 0.1, 1.0)
    with pytest.raises(ValueError, match=said):
        affinity.affinity_matrix(**arguments, kernel=kernel, exclude_self=True)


def test_rows_of_the_affinity_matrix_may_be_a_list():
    features = np.eye(3, dtype=np.float32)[None]
    matrix, served = affinity.affinity_matrix(
        features,
        np.ones((1, 3), bool),
        np.array([[0, 0, 1]]),
        affinity.Kernel("uniform", 1.0, 1.0),
        exclude_self=False,
        rows=[0, 2],
    )
    np.testing.assert_array_equal(matrix[0], [[0.5, 0.5, 0], [0, 0, 1]])
    assert served.all()


def test_the_affinity_matrix_has_a_gradient():
    features = jnp.asarray(draw(seed=2, batch=1, pixels=6)[1], jnp.float32)
    is_source, kernel = jnp.ones((1, 6), bool), affinity.Kernel("exp_cosine", 0.1, 1.0)

    @jax.jit
    def of(features):
        matrix, _ = affinity.affinity_matrix(features, is_source, None, kernel, exclude_self=True)
        return jnp.sum(matrix[0, 0, 1] - matrix[0, 3, 2])

    gradient = jax.jit(jax.grad(of))(features)
    step = 1e-2 * np.random.default_rng(0).normal(size=features.shape).astype(np.float32)
    found = float(jnp.sum(gradient * step))
    expected = float(of(features + step) - of(features - step)) / 2
    np.testing.assert_allclose(found, expected, rtol=0.05)
