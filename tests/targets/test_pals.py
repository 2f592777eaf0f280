"""The exact facts about PALS, most of them on the grid of the loss, where they are sharpest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import IGNORE, jitted, make_inputs, q_of, soft_labels

from configs.sweeps.camvid_search import PLAIN
from pals_jax import losses
from pals_jax.outputs import Outputs
from pals_jax.targets import TARGETS, Inputs, Labels, Pals, labels_from_index
from pals_jax.targets.cells import measure


def loss(logits, labels):
    return losses.masked_mean(losses.soft_cross_entropy(logits, labels.probs), labels.mass)


def test_soft_labels_keep_the_mass_and_ignored_rows_are_zero():
    inputs = make_inputs()
    soft = soft_labels(inputs)
    np.testing.assert_array_equal(soft.mass, inputs.labels.mass)
    np.testing.assert_allclose(soft.probs.sum(-1), inputs.labels.mass, atol=1e-6)
    assert (np.asarray(soft.probs)[np.asarray(inputs.labels.mass) == 0] == 0).all()


def test_hand_computed():
    # Two pixels, each the other's only source: q_0 = p_1, and α = 0.3 · progress 0.5.
    logits = jnp.log(jnp.array([[[[0.9, 0.1], [0.2, 0.8]]]]))
    inputs = Inputs(
        labels_from_index(jnp.array([[[0, 1]]]), 2, IGNORE),
        Outputs(logits, jnp.ones((1, 1, 2, 4))),
        jnp.zeros((1, 1, 2, 3)),
    )
    soft = soft_labels(inputs, progress=0.5, alpha=0.3)
    expected = [[0.85 + 0.15 * 0.2, 0.15 * 0.8], [0.15 * 0.9, 0.85 + 0.15 * 0.1]]
    np.testing.assert_allclose(soft.probs[0, 0], expected, rtol=1e-5)


def test_gradient_is_the_stated_one():
    inputs = make_inputs(seed=1)
    logits = inputs.outputs.logits
    alpha = 0.4
    q = q_of(inputs)
    soft = soft_labels(inputs, alpha=alpha, ramp="constant")
    found = jax.grad(loss)(logits, soft)
    probs, (truth, mass) = jax.nn.softmax(logits), inputs.labels
    s = mass[..., None]
    expected = ((1 - alpha) * (s * probs - truth) + alpha * s * (probs - q)) / mass.sum()
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_no_gradient_reaches_the_network_through_the_target():
    inputs = make_inputs(seed=1)

    def total(outputs):
        return (soft_labels(inputs._replace(outputs=outputs)).probs ** 2).sum()

    gradients = jax.grad(total)(inputs.outputs)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_identity_only_scales_the_gradient_of_cross_entropy():
    inputs = make_inputs(seed=2)
    logits = inputs.outputs.logits
    soft = soft_labels(inputs, affinity="identity", alpha=0.3, ramp="constant")
    found = jax.grad(loss)(logits, soft)
    np.testing.assert_allclose(found, 0.7 * jax.grad(loss)(logits, inputs.labels), atol=1e-7)
    value, plain = loss(logits, soft), loss(logits, inputs.labels)
    entropy = -(jax.nn.softmax(logits) * jax.nn.log_softmax(logits)).sum(-1)
    np.testing.assert_allclose(
        value, 0.7 * plain + 0.3 * losses.masked_mean(entropy, inputs.labels.mass), rtol=1e-5
    )


@pytest.mark.parametrize("options", [{"temperature": 1e6}, {"affinity": "uniform"}])
def test_q_is_the_mean_over_the_sources(options):
    inputs = make_inputs(seed=3, batch=1)
    probs, mass = jax.nn.softmax(inputs.outputs.logits), inputs.labels.mass[..., None]
    others = (jnp.sum(probs * mass, (1, 2), keepdims=True) - probs) / (mass.sum() - 1)
    np.testing.assert_allclose(q_of(inputs, **options), others * mass, atol=1e-5)


def test_small_temperature_takes_the_nearest_source():
    inputs = make_inputs(seed=4, size=(1, 3), ignored=0, batch=1)
    features = jnp.array([[[[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]]])
    inputs = inputs._replace(outputs=inputs.outputs._replace(features=features))
    probs = jax.nn.softmax(inputs.outputs.logits)
    q = q_of(inputs, temperature=1e-3)
    np.testing.assert_allclose(q[0, 0], probs[0, 0][jnp.array([1, 0, 1])], atol=1e-6)


def test_a_rare_class_gets_little_weight_at_temperature_one():
    # 10 of 1000 pixels; own class at cosine 1, the rest at cosine 0: 0.01 / (0.01 + 0.99/e) = 2.7
    # %.
    index = jnp.zeros((1, 1, 1000), int).at[..., :10].set(1)
    features = jax.nn.one_hot(index, 2)
    logits = 50.0 * features  # certain and right, so that q shows the weights
    inputs = Inputs(labels_from_index(index, 2, IGNORE), Outputs(logits, features), features)
    q = q_of(inputs, temperature=1.0, exclude_self=False)
    assert float(q[0, 0, 0, 1]) == pytest.approx(0.01 / (0.01 + 0.99 / np.e), rel=1e-4)
    assert float(q_of(inputs, temperature=0.1)[0, 0, 0, 1]) > 0.99


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_permuting_the_pixels_permutes_the_soft_labels(seed):
    inputs = make_inputs(seed, size=(1, 12))
    order = np.random.default_rng(seed).permutation(12)
    permuted = jax.tree.map(lambda array: array[:, :, order], inputs)
    np.testing.assert_allclose(
        soft_labels(permuted).probs, soft_labels(inputs).probs[:, :, order], atol=1e-6
    )


@pytest.mark.parametrize("feature", ["decoder", "logits", "probs", "rgb"])
@pytest.mark.parametrize("mask", ["none", "same_class_correct"])
def test_ignored_pixels_change_nothing_whatever_they_contain(feature, mask):
    inputs = make_inputs(seed=5)
    ignored = np.asarray(inputs.labels.mass) == 0
    assert ignored.any()
    options = {"feature": feature, "mask": mask, "centre": True}
    expected = soft_labels(inputs, **options).probs

    def spoil(array):
        return jnp.where(ignored[..., None], jnp.nan, array)

    spoilt = inputs._replace(
        outputs=Outputs(spoil(inputs.outputs.logits), spoil(inputs.outputs.features)),
        images=spoil(inputs.images),
    )
    np.testing.assert_array_equal(soft_labels(spoilt, **options).probs, expected)


def test_masks_choose_the_sources():
    # Labels 0 0 0 1; pixel 1 is wrong. The prediction of each pixel is unique, so q tells its
    # sources.
    index = jnp.array([[[0, 0, 0, 1]]])
    probs = jnp.array([[[[0.9, 0.1], [0.3, 0.7], [0.8, 0.2], [0.4, 0.6]]]])
    inputs = Inputs(
        labels_from_index(index, 2, IGNORE),
        Outputs(jnp.log(probs), jnp.ones((1, 1, 4, 2))),
        jnp.zeros((1, 1, 4, 3)),
    )
    first = {
        mask: float(q_of(inputs, mask=mask)[0, 0, 0, 0])
        for mask in ("none", "same_class", "correct", "same_class_correct")
    }
    assert first["none"] == pytest.approx((0.3 + 0.8 + 0.4) / 3)
    assert first["same_class"] == pytest.approx((0.3 + 0.8) / 2)
    assert first["correct"] == pytest.approx((0.8 + 0.4) / 2)
    assert first["same_class_correct"] == pytest.approx(0.8)
    # The only pixel of its class has no source left, and keeps its label.
    np.testing.assert_allclose(q_of(inputs, mask="same_class")[0, 0, 3], [0, 1], atol=1e-7)


def test_centring_subtracts_the_mean_feature_of_the_sources():
    inputs = make_inputs(seed=6, batch=1)
    features, mass = inputs.outputs.features, inputs.labels.mass[..., None]
    centred = features - (features * mass).sum((1, 2), keepdims=True) / mass.sum()
    by_hand = inputs._replace(outputs=inputs.outputs._replace(features=centred))
    np.testing.assert_allclose(q_of(inputs, centre=True), q_of(by_hand, centre=False), atol=1e-6)


def test_ramp():
    inputs = make_inputs(seed=7)
    np.testing.assert_array_equal(soft_labels(inputs, progress=0.0).probs, inputs.labels.probs)
    np.testing.assert_allclose(
        soft_labels(inputs, progress=0.5, alpha=0.4).probs,
        soft_labels(inputs, progress=0.0, alpha=0.2, ramp="constant").probs,
        atol=1e-7,
    )


def test_gates():
    inputs = make_inputs(seed=8)
    truth, q = inputs.labels.probs, q_of(inputs)
    agrees = (q.argmax(-1) == truth.argmax(-1))[..., None]
    mass = inputs.labels.mass[..., None]
    options = {"alpha": 0.5, "ramp": "constant"}
    np.testing.assert_allclose(
        soft_labels(inputs, gate="agree", **options).probs,
        jnp.where(agrees, 0.5 * truth + 0.5 * mass * q, truth),
        atol=1e-6,
    )
    alpha = 0.5 * (q * truth).sum(-1, keepdims=True)
    np.testing.assert_allclose(
        soft_labels(inputs, gate="confidence", **options).probs,
        (1 - alpha) * truth + alpha * mass * q,
        atol=1e-6,
    )


def test_prior_correction_divides_by_class_frequencies():
    inputs = make_inputs(seed=9, batch=1)
    frequencies = inputs.labels.probs.sum((0, 1, 2)) / inputs.labels.mass.sum()
    corrected = q_of(inputs) / frequencies
    corrected = corrected / jnp.maximum(corrected.sum(-1, keepdims=True), 1e-12)
    np.testing.assert_allclose(q_of(inputs, prior="image"), corrected, atol=1e-6)


def test_prior_of_the_data_set_is_that_of_earlier_steps():
    first, second = make_inputs(seed=9, batch=1), make_inputs(seed=10, batch=1)
    target = Pals(3, **(PLAIN | {"prior": "dataset", "alpha": 1.0, "ramp": "constant"}))
    soft, state = target.apply(first, target.init(), jnp.float32(0))
    np.testing.assert_allclose(soft.probs, q_of(first), atol=1e-6)  # nothing seen before
    # Two parts of one step see the same labels, those of the first step.
    frequencies = first.labels.probs.sum((0, 1, 2))
    expected = q_of(second) / frequencies
    expected = expected / jnp.maximum(expected.sum(-1, keepdims=True), 1e-12)
    for _ in range(2):
        soft, state = target.apply(second, state, jnp.float32(0.1))
        np.testing.assert_allclose(soft.probs, expected, atol=1e-6)
    _, state = target.apply(second, state, jnp.float32(0.2))
    np.testing.assert_allclose(
        state["seen"], frequencies + 2 * second.labels.probs.sum((0, 1, 2)), rtol=1e-6
    )


def test_prior_gives_classes_absent_from_the_image_no_mass():
    inputs = make_inputs(seed=9, batch=1, classes=3)
    index = jnp.zeros(inputs.labels.mass.shape, int).at[0, 0, :3].set(1)
    inputs = inputs._replace(labels=labels_from_index(index, 3, IGNORE))
    q = q_of(inputs, prior="image")
    assert (q[..., 2] == 0).all()
    np.testing.assert_allclose(q.sum(-1), 1, atol=1e-6)


def test_the_softmax_temperature_does_not_decide_what_is_correct():
    # One cell of four outputs, whose mean probability of class 0 is (0.982 + 3 · 0.269) / 4 = 0.447
    # at T = 1, and (0.731 + 3 · 0.438) / 4 = 0.511 at T = 4. Its label is class 1.
    logits = jnp.array([[[[4.0, 0], [0, 1]], [[0, 1], [0, 1]]]])
    labels = labels_from_index(jnp.ones((1, 2, 2), int), 2, IGNORE)
    inputs = Inputs(labels, Outputs(logits, jnp.ones((1, 2, 2, 3))), jnp.zeros((1, 2, 2, 3)))
    for temperature in (1.0, 4.0):
        cells = measure(inputs, "decoder", 2, temperature)
        assert cells.correct.all()
        expected = jax.nn.softmax(logits / temperature).mean((1, 2))
        np.testing.assert_allclose(cells.probs[:, 0, 0], expected, rtol=1e-6)


def test_softmax_temperature():
    inputs = make_inputs(seed=10)
    cooler = inputs._replace(outputs=inputs.outputs._replace(logits=inputs.outputs.logits / 3))
    np.testing.assert_allclose(q_of(inputs, softmax_temperature=3.0), q_of(cooler), atol=1e-6)


def test_soft_ground_truth_flows_through():
    inputs = make_inputs(seed=11)
    rng = np.random.default_rng(11)
    mass = jnp.asarray(rng.random(inputs.labels.mass.shape), jnp.float32)
    probs = jnp.asarray(rng.dirichlet(np.ones(3), mass.shape), jnp.float32) * mass[..., None]
    inputs = inputs._replace(labels=Labels(probs, mass))
    soft = soft_labels(inputs, alpha=0.3, ramp="constant")
    q = jnp.where(mass[..., None] > 0, q_of(inputs) / mass[..., None], 0)
    np.testing.assert_allclose(soft.probs, 0.7 * probs + 0.3 * mass[..., None] * q, atol=1e-6)
    # A cell less than half labelled is no source: a change of its prediction changes no other q.
    weak = np.asarray(mass) < 0.5
    logits = jnp.where(weak[..., None], 9.0, inputs.outputs.logits)
    changed = q_of(inputs._replace(outputs=inputs.outputs._replace(logits=logits)))
    np.testing.assert_array_equal(np.asarray(changed)[~weak], np.asarray(q_of(inputs))[~weak])


# --- Diagnostics and options ---------------------------------------------------------------------


def diagnose(inputs, **options):
    target = Pals(inputs.labels.probs.shape[-1], **(PLAIN | options))
    found = jax.jit(target.diagnostics)(inputs, target.init(), jnp.float32(1))
    return {name: float(value) for name, value in found.items()}


def test_diagnostics_of_a_uniform_affinity():
    inputs = make_inputs(seed=17, size=(4, 5), ignored=0, batch=1)
    found = diagnose(inputs, affinity="uniform", exclude_self=False)
    assert found["effective_sources"] == pytest.approx(20, rel=1e-5)
    frequencies = np.asarray(inputs.labels.probs.mean((0, 1, 2)))
    assert found["true_class_weight"] == pytest.approx((frequencies**2).sum(), rel=1e-5)
    q = np.asarray(jax.nn.softmax(inputs.outputs.logits).mean((0, 1, 2)))
    divergence = (q * np.log(q / frequencies)).sum()
    assert found["kl_to_frequencies"] == pytest.approx(divergence, abs=1e-5)
    assert found["q_agreement"] == pytest.approx(frequencies[q.argmax()], rel=1e-5)


def test_diagnostics_of_identity_and_of_one_hot():
    inputs = make_inputs(seed=18)
    found = diagnose(inputs, affinity="identity", alpha=0.0)
    assert found["effective_sources"] == pytest.approx(1)
    assert found["true_class_weight"] == pytest.approx(1)
    assert found["target_entropy"] == pytest.approx(0, abs=1e-6)
    one_hot = TARGETS["one_hot"](3)
    entropy = one_hot.diagnostics(inputs, one_hot.init(), jnp.float32(1))["target_entropy"]
    assert float(entropy) == pytest.approx(0, abs=1e-6)


def test_diagnostics_are_of_the_corrected_distribution():
    # Class 1 is rare and never first in the mean of p; divided by the frequencies it is.
    index = jnp.zeros((1, 4, 5), int).at[0, 0, 0].set(1)
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.8, 0.2])), (1, 4, 5, 2))
    inputs = Inputs(
        labels_from_index(index, 2, IGNORE),
        Outputs(logits, jnp.ones((1, 4, 5, 3))),
        jnp.zeros((1, 4, 5, 3)),
    )
    assert diagnose(inputs)["q_agreement"] == pytest.approx(19 / 20)
    assert diagnose(inputs, prior="image")["q_agreement"] == pytest.approx(1 / 20)


def test_diagnostics_look_at_the_affinity_that_is_applied():
    inputs = make_inputs(seed=19, size=(20, 20), batch=1)
    found = diagnose(inputs, temperature=0.05, mask="same_class", centre=True)
    assert found["true_class_weight"] == pytest.approx(1, rel=1e-5)
    assert 1 < found["effective_sources"] < 400


EVERY_CHOICE = {
    "affinity": ("exp_cosine", "linear_cosine", "relu_cosine", "uniform", "identity"),
    "mask": ("none", "same_class", "correct", "same_class_correct"),
    "feature": ("decoder", "logits", "probs", "rgb"),
    "gate": ("none", "agree", "confidence"),
    "prior": ("none", "image", "dataset"),
    "ramp": ("linear", "constant"),
    "upsample": ("bilinear", "nearest_same_class"),
    "stride": (0, 1, 4, 8),
    "centre": (False, True),
    "exclude_self": (False, True),
    "implementation": ("dense", "tiled"),
}


@settings(max_examples=10, deadline=None)
@given(options=st.fixed_dictionaries({k: st.sampled_from(v) for k, v in EVERY_CHOICE.items()}))
def test_any_combination_of_options_gives_soft_labels_of_the_right_mass(options):
    inputs = make_inputs(seed=20, size=(8, 12), stride=4)
    target = Pals(3, **options)
    soft, state = jitted(target)(inputs, target.init(), jnp.float32(0.7))
    np.testing.assert_allclose(soft.probs.sum(-1), inputs.labels.mass, atol=1e-5)
    assert (soft.probs >= 0).all()
    assert jax.tree.structure(state) == jax.tree.structure(target.init())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"affinity": "cosine"}, "affinity.*exp_cosine.*identity.*'cosine'"),
        ({"mask": "same"}, "mask"),
        ({"implementation": "linear"}, "implementation.*'dense'.*exp_cosine.*'linear'"),
        ({"alpha": 1.5}, r"alpha.*\[0, 1\].*1.5"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 1e-31}, "temperature.*at least 1e-30"),
        ({"power": 0.5}, "power must be ≥ 1 .*found 0.5"),
        ({"stride": -1}, "stride"),
        ({"upsample": "cubic"}, "upsample"),
        ({"exclude_self": "no"}, "exclude_self.*type bool.*'no'"),
        ({"alpha": True}, "alpha.*type float.*True"),
        ({"stride": 1.5}, "stride.*type int.*1.5"),
    ],
)
def test_bad_options_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        Pals(3, **options)
