"""The training step: sums over devices and parts, averages, and steps that are not finite."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CLASSES, draw_batch

from configs.sweeps.camvid_search import PLAIN
from pals_jax import config as configs
from pals_jax import networks, sharding, state
from pals_jax.objectives import Supervised
from pals_jax.step import make_inspection, make_train_step, normalise


class Run:
    """A step function and a fresh state, on some devices."""

    def __init__(self, config, num_devices=1, objective=Supervised):
        config = configs.resolve(config)
        self.config, self.mesh = config, sharding.data_mesh(num_devices)
        self.objective = objective.create(config, len(CLASSES), 255)
        apply, network = networks.create(config.model, len(CLASSES), config.seed)
        self.apply = {"student": apply}
        optimizer, self.step = make_train_step(
            config, self.objective, self.apply, self.mesh, steps_per_epoch=2
        )
        fresh = state.create(
            {"student": network},
            optimizer,
            self.objective.init(),
            average=config.ema_decay > 0,
            previous=self.objective.needs_previous,
        )
        self.state = jax.device_put(fresh, sharding.replicated(self.mesh))

    def take(self, batch):
        parts = self.config.accumulation
        arrays = {
            name: array.reshape(parts, -1, *array.shape[1:])
            for name, array in batch["labeled"].items()
            if name != "id"
        }
        batch = sharding.shard_batch({"labeled": arrays}, self.mesh, axis=1)
        self.state, metrics = self.step(self.state, batch)
        return jax.device_get(metrics)


def largest_relative_difference(first, second):
    """max |a - b| / max |a| over the leaves; elementwise ratios fail near zero."""
    return max(
        float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12))
        for a, b in zip(
            jax.tree.leaves(jax.device_get(first)),
            jax.tree.leaves(jax.device_get(second)),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("network", "options", "downsample"),
    [
        ("deeplabv3plus_resnet18", PLAIN, 1),
        ("toy", {**PLAIN, "mask": "same_class_correct"}, 1),
        ("toy", {"stride": 4}, 2),
    ],
)
def test_four_devices_agree_with_one(config, network, options, downsample):
    config.batch_size = 8
    config.data.downsample = downsample
    config.model.name = network
    config.target.options.update(options, ramp="constant")
    config.model.auxiliary = True
    one, four = Run(config, 1), Run(config, 4)
    # Batches on which no activation is within rounding of 0: with seeds 0 to 2, one ReLU of a
    # hundred thousand switches in some versions of JAX, and its gradient jumps.
    for seed in range(10, 13):
        batch = draw_batch(seed, 8)
        expected, found = one.take(batch), four.take(batch)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert largest_relative_difference(one.state.networks, four.state.networks) < 1e-4


@pytest.mark.parametrize(("downsample", "how"), [(1, "soft"), (2, "soft"), (2, "nearest")])
def test_four_parts_of_two_equal_one_of_eight_where_batch_norm_is_frozen(config, downsample, how):
    config.batch_size = 8
    config.data.update(downsample=downsample, label_downsampling=how)
    config.model.freeze_batch_norm = True
    config.target.options.update(PLAIN, ramp="constant")
    whole = Run(config)
    config.accumulation = 4
    parts = Run(config)
    for seed in range(2):
        batch = draw_batch(seed, 8)
        expected, found = whole.take(batch), parts.take(batch)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
    assert largest_relative_difference(whole.state.networks, parts.state.networks) < 1e-5


def test_a_batch_without_labels_changes_nothing_but_decay_and_statistics(config):
    config.optimizer.weight_decay = 0.0
    run = Run(config)
    before = jax.device_get(run.state.networks["student"].params)
    batch = draw_batch(0, 4)
    batch["labeled"]["label"][:] = 255
    metrics = run.take(batch)
    assert metrics["loss"] == 0
    assert metrics["finite"]
    assert largest_relative_difference(before, run.state.networks["student"].params) == 0


def test_the_ramp_follows_the_steps(config):
    # The soft labels' cross-entropy leaves that of the labels with α = 0.3 · step / total_steps.
    config.target.options.update(PLAIN)
    run = Run(config)
    gaps = []
    for seed in range(3):
        metrics = run.take(draw_batch(seed, 4))
        gaps.append(abs(metrics["loss"] - metrics["cross_entropy"]))
    assert gaps[0] < 1e-6
    assert gaps[1] > 1e-4
    config.target.options.ramp = "constant"
    metrics = Run(config).take(draw_batch(0, 4))
    assert abs(metrics["loss"] - metrics["cross_entropy"]) > 1e-4


def test_accumulation_is_exact_for_a_target_with_state(config):
    config.batch_size = 8
    config.model.freeze_batch_norm = True
    config.target.options.update(PLAIN, ramp="constant", prior="dataset", alpha=1.0)
    whole = Run(config)
    config.accumulation = 4
    parts = Run(config)
    for seed in range(3):
        batch = draw_batch(seed, 8)
        expected, found = whole.take(batch), parts.take(batch)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert largest_relative_difference(whole.state.networks, parts.state.networks) < 1e-5
    assert largest_relative_difference(whole.state.target, parts.state.target) < 1e-6


def test_the_table_of_ols_changes_when_an_epoch_ends(config):
    config.target.name = "ols"
    config.target.options = {}
    run = Run(config)
    classes = len(CLASSES)
    tables = []
    for seed in range(4):  # two epochs of two steps
        run.take(draw_batch(seed, 4))
        tables.append(jax.device_get(run.state.target["table"]))
    assert (tables[0] == np.float32(1 / classes)).all()
    assert (tables[1] != tables[0]).any()
    np.testing.assert_array_equal(tables[2], tables[1])
    assert (tables[3] != tables[2]).any()
    np.testing.assert_allclose(tables[3].sum(-1), 1, atol=1e-5)
    assert (jax.device_get(run.state.target["counts"]) == 0).all()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_networks_of_the_last_epoch_are_kept(config, accumulation):
    config.target.name = "ps_kd"
    config.target.options = {}
    config.accumulation = accumulation
    run = Run(config)
    initial = jax.device_get(run.state.networks)
    after = []
    for seed in range(3):
        metrics = run.take(draw_batch(seed, 4))
        after.append(jax.device_get((run.state.networks, run.state.previous)))
    assert_same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    assert_same(after[0][1], initial)
    assert_same(after[1][1], after[1][0])
    assert_same(after[2][1], after[1][0])
    assert abs(metrics["loss"] - metrics["cross_entropy"]) > 1e-4  # α_t = 0.8 · 2 / total_steps


class Broken(Supervised):
    """Adds a term to the loss that is 0, and whose value or gradient alone is not finite."""

    which = "value"

    def loss(self, apply, networks, *arguments):
        loss, result = super().loss(apply, networks, *arguments)
        weight = jax.tree.leaves(networks["student"].params)[0].ravel()[0]
        if self.which == "gradient":
            return loss + jnp.sqrt(weight - weight), result  # 0, whose derivative is ∞ · 0
        if self.which == "auxiliary":
            result.metrics["auxiliary_loss"] = jnp.float32(jnp.inf)
            return loss, result
        result.metrics["loss"] = result.metrics["loss"] + jnp.nan
        return loss, result


@pytest.mark.parametrize("which", ["value", "gradient", "auxiliary"])
def test_a_loss_or_a_gradient_that_is_not_finite_alone_changes_nothing(config, which, monkeypatch):
    monkeypatch.setattr(Broken, "which", which)
    run = Run(config, objective=Broken)
    before = jax.device_get(run.state)
    metrics = run.take(draw_batch(0, 4))
    assert np.isfinite(metrics["loss"]) == (which != "value")
    assert np.isfinite(metrics["gradient_norm"]) == (which != "gradient")
    assert not metrics["finite"]
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(run.state))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing(config, bad):
    config.ema_decay = 0.9
    run = Run(config)
    run.take(draw_batch(0, 4))
    before = jax.device_get(run.state)
    batch = draw_batch(1, 4)
    batch["labeled"]["image"] = batch["labeled"]["image"] / np.float32(255)
    batch["labeled"]["image"][2, 5, 5, 0] = bad
    assert not run.take(batch)["finite"]
    after = jax.device_get(run.state)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old, new)


def test_average_covers_parameters_and_statistics(config):
    config.ema_decay = 0.5
    run = Run(config)
    initial = jax.device_get(run.state.networks)
    run.take(draw_batch(0, 4))
    # The first step's weight of the past is (1 + 0) / (10 + 0) = 0.1.
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, initial, run.state.networks)
    assert largest_relative_difference(expected, run.state.ema) < 1e-6
    statistics = run.state.ema["student"].statistics
    assert largest_relative_difference(initial["student"].statistics, statistics) > 0


def test_learning_rate_follows_the_polynomial(config):
    run = Run(config)
    rates = [run.take(draw_batch(seed, 4))["learning_rate"] for seed in range(3)]
    expected = [(0.01 - 1e-4) * (1 - t / 4) ** 0.9 + 1e-4 for t in range(3)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_the_step_compiles_once(config):
    config.target.options.prior = "dataset"  # a target with state
    run = Run(config)
    for seed in range(3):
        run.take(draw_batch(seed, 4))
    assert run.step._cache_size() == 1


def test_normalise_reads_bytes_and_fractions_alike():
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
    pixels = np.array([[255, 0, 51]], np.uint8)
    np.testing.assert_allclose(normalise(pixels, mean, std), [[1, -1, 0.2]], atol=1e-6)
    np.testing.assert_allclose(
        normalise(jnp.asarray(pixels / 255.0), mean, std), [[1, -1, 0.2]], atol=1e-6
    )


def test_images_are_the_mean_of_what_they_were(config):
    # A step on images of constant cells is that on the small images; their labels are soft.
    config.data.downsample = 2
    large, batch = Run(config), draw_batch(0, 4, (16, 16))
    config.data.update(downsample=1, crop_size=(16, 16))
    small = Run(config)
    expected = small.take(batch)
    batch["labeled"] = {
        key: array if key == "id" else array.repeat(2, 1).repeat(2, 2)
        for key, array in batch["labeled"].items()
    }
    found = large.take(batch)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)
    assert largest_relative_difference(small.state.networks, large.state.networks) < 1e-5


def test_inspection_leaves_the_state_and_names_diagnostics(config):
    config.target.options.update(PLAIN)
    run = Run(config)
    batch = draw_batch(0, 4)["labeled"]
    batch = {"labeled": {"image": batch["image"], "label": batch["label"]}}
    before = jax.device_get(run.state)
    inspect = make_inspection(run.config, run.objective, run.apply)
    soft, probs, diagnostics = inspect(run.state, batch)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(run.state))
    # Nothing is softened at step 0, and something at step 2.
    assert diagnostics["target_entropy"] == pytest.approx(0, abs=1e-6)
    later = dataclasses.replace(run.state, step=run.state.step + 2)
    assert inspect(later, batch)[2]["target_entropy"] > 1e-3
    assert soft.probs.shape == probs.shape == (4, 32, 32, 3)
    np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-5)
    assert {"effective_sources", "true_class_weight", "q_agreement"} <= diagnostics.keys()
