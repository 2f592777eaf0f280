import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pals_jax.objectives import Supervised
from pals_jax.outputs import Outputs
from pals_jax.state import Network
from pals_jax.targets import TARGETS, Labels


def network(params, statistics, images, *, train, valid=None, freeze_batch_norm=False):
    """Logits that are the parameters themselves, at half the resolution of the labels."""
    del valid
    assert train or params["logits"].sum() == 0  # that of the last epoch
    logits = params["logits"]
    outputs = Outputs(logits, images[:, ::2, ::2], 2 * logits)
    return outputs, statistics if freeze_batch_norm else {"mean": statistics["mean"] + 1}


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (2, 4, 6))
    label[0, :3] = 255
    batch = {
        "labeled": {
            "image": jnp.asarray(rng.normal(size=(2, 4, 6, 3))),
            "label": jnp.asarray(label),
        }
    }
    logits = jnp.asarray(rng.normal(size=(2, 2, 3, 3)), jnp.float32)
    return batch, {"student": Network({"logits": logits}, {"mean": jnp.zeros(())})}


def compute(problem, target="one_hot", weight=0.4, frozen=False, **options):
    batch, networks = problem
    objective = Supervised(TARGETS[target](3, **options), 255, weight, frozen)
    return objective.loss(
        {"student": network},
        networks,
        batch,
        objective.mass(batch),
        objective.init(),
        jnp.float32(1),
        {},
    )


def cross_entropy(logits, label):
    """Mean over the labelled pixels in NumPy, logits upsampled by jax.image.resize."""
    wide = np.asarray(jax.image.resize(logits, (2, 4, 6, 3), "linear"), np.float64)
    log_probs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    valid = np.asarray(label) != 255
    return -np.take_along_axis(log_probs[valid], np.asarray(label)[valid][:, None], 1).mean()


def test_one_hot_loss_is_cross_entropy_plus_the_auxiliary_one(problem):
    loss, result = compute(problem, weight=0.4)
    logits, label = problem[1]["student"].params["logits"], problem[0]["labeled"]["label"]
    main, auxiliary = cross_entropy(logits, label), cross_entropy(2 * logits, label)
    assert float(result.metrics["loss"]) == pytest.approx(main, rel=1e-5)
    assert float(result.metrics["auxiliary_loss"]) == pytest.approx(auxiliary, rel=1e-5)
    assert float(loss) == pytest.approx(main + 0.4 * auxiliary, rel=1e-5)
    assert float(result.statistics["student"]["mean"]) == 1


def test_pals_is_logged_beside_plain_cross_entropy(problem):
    _, plain = compute(problem)
    _, soft = compute(problem, "pals", stride=2, alpha=0.5)
    assert float(soft.metrics["cross_entropy"]) == pytest.approx(
        float(plain.metrics["loss"]), rel=1e-6
    )
    assert float(soft.metrics["loss"]) != pytest.approx(float(plain.metrics["loss"]), rel=1e-3)


def test_frozen_batch_norm_keeps_its_statistics(problem):
    _, result = compute(problem, frozen=True)
    assert float(result.statistics["student"]["mean"]) == 0


def test_mass_counts_labelled_pixels_of_any_leading_shape(problem):
    objective = Supervised(TARGETS["one_hot"](3), 255, 0.4, False)
    batch, _ = problem
    count = (batch["labeled"]["label"] != 255).sum()
    assert float(objective.mass(batch)) == count
    in_parts = jax.tree.map(lambda array: array[None], batch)
    assert float(objective.mass(in_parts)) == count


@pytest.fixture
def downsampled():
    """A problem whose images are half as large as its labels; some cells are void in part."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 3, (2, 8, 12))
    label[rng.random(label.shape) < 0.3] = 255
    label[0, :4, :6] = 255
    image = jnp.asarray(rng.normal(size=(2, 4, 6, 3)), jnp.float32)
    batch = {"labeled": {"image": image, "label": jnp.asarray(label)}}
    logits = jnp.asarray(rng.normal(size=(2, 2, 3, 3)), jnp.float32)
    return batch, {"student": Network({"logits": logits}, {"mean": jnp.zeros(())})}


def hard_labels(label, how):
    """Labels [B,h,w,K] in NumPy."""
    one_hot = (np.asarray(label)[..., None] == np.arange(3)).astype(np.float64)
    if how == "nearest":
        return one_hot[:, 1::2, 1::2]
    return one_hot.reshape(2, 4, 2, 6, 2, 3).mean((2, 4))


@pytest.mark.parametrize("how", ["soft", "nearest"])
def test_labels_follow_their_images_down(downsampled, how):
    batch, networks = downsampled
    objective = Supervised(TARGETS["one_hot"](3), 255, 0.0, False, 2, how)
    expected = hard_labels(batch["labeled"]["label"], how)
    labels = objective.labels(batch)
    np.testing.assert_array_equal(labels.probs, expected)
    np.testing.assert_array_equal(labels.mass, expected.sum(-1))
    assert ((labels.mass > 0) & (labels.mass < 1)).any() == (how == "soft")
    assert float(objective.mass(batch)) == expected.sum()
    in_parts = jax.tree.map(lambda array: array[None], batch)
    assert float(objective.mass(in_parts)) == expected.sum()

    found, _ = objective.loss(
        {"student": network}, networks, batch, objective.mass(batch), {}, jnp.float32(1), {}
    )
    logits = networks["student"].params["logits"]
    wide = np.asarray(jax.image.resize(logits, (2, 4, 6, 3), "linear"), np.float64)
    log_probs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    by_hand = -(expected * log_probs).sum() / expected.sum()
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("how", ["soft", "nearest"])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_takes_labels_of_partial_mass(downsampled, name, how):
    batch, networks = downsampled
    objective = Supervised(TARGETS[name](3), 255, 0.4, False, 2, how)
    earlier = {"student": Network({"logits": jnp.zeros((2, 2, 3, 3))}, {"mean": jnp.zeros(())})}
    mass = objective.mass(batch)

    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, target_state, progress):
        changed = {"student": networks["student"]._replace(params=params)}
        return objective.loss(
            {"student": network}, changed, batch, mass, target_state, progress, earlier
        )

    params, state = networks["student"].params, objective.init()
    for progress in (0.5, 1.0):
        (value, result), gradient = loss(params, state, jnp.float32(progress))
        state = objective.end_epoch(result.target_state)
    assert np.isfinite(value)
    assert np.isfinite(gradient["logits"]).all()
    assert (np.abs(gradient["logits"]) > 0).any()
    leaves = jax.tree.leaves(state)
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    soft, probs, diagnostics = objective.inspect(
        {"student": network}, networks, batch, objective.init(), jnp.float32(1), earlier
    )
    assert soft.probs.shape == probs.shape == (2, 4, 6, 3)
    np.testing.assert_allclose(soft.probs.sum(-1), soft.mass, atol=1e-5)
    np.testing.assert_array_equal(soft.mass, objective.labels(batch).mass)
    assert all(np.isfinite(value) for value in diagnostics.values())


def test_a_batch_without_labels_has_loss_zero_and_no_gradient(problem):
    batch, networks = problem
    batch["labeled"]["label"] = jnp.full_like(batch["labeled"]["label"], 255)
    objective = Supervised(TARGETS["pals"](3), 255, 0.4, False)

    def loss(params):
        changed = {"student": networks["student"]._replace(params=params)}
        return objective.loss(
            {"student": network}, changed, batch, objective.mass(batch), {}, jnp.float32(1), {}
        )[0]

    value, gradient = jax.value_and_grad(loss)(networks["student"].params)
    assert float(value) == 0
    assert (gradient["logits"] == 0).all()


def test_a_penalty_of_the_target_is_added_per_labelled_pixel(problem):
    one_hot = TARGETS["one_hot"]

    class Penalised(one_hot):
        def penalty(self, logits, labels: Labels):
            return jnp.full(labels.mass.shape, 0.25)

    batch, networks = problem
    objective = Supervised(Penalised(3), 255, 0.0, False)
    plain, _ = compute(problem, weight=0.0)
    found, _ = objective.loss(
        {"student": network}, networks, batch, objective.mass(batch), {}, jnp.float32(1), {}
    )
    assert float(found) == pytest.approx(float(plain) + 0.25, rel=1e-5)


def test_the_network_of_the_last_epoch_is_mixed_into_the_label(problem):
    batch, networks = problem
    objective = Supervised(TARGETS["ps_kd"](3, alpha=1.0), 255, 0.0, False)
    earlier = {"student": Network({"logits": jnp.zeros((2, 2, 3, 3))}, {"mean": jnp.zeros(())})}
    state = objective.end_epoch(objective.init())
    found, result = objective.loss(
        {"student": network},
        networks,
        batch,
        objective.mass(batch),
        state,
        jnp.float32(1),
        earlier,
    )
    # At α_t = 1 the label is what the earlier network says, 1/3 for each class.
    logits = jax.image.resize(networks["student"].params["logits"], (2, 4, 6, 3), "linear")
    valid = np.asarray(batch["labeled"]["label"]) != 255
    expected = -np.asarray(jax.nn.log_softmax(logits)).mean(-1)[valid].mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(result.statistics["student"]["mean"]) == 1  # of the student alone
