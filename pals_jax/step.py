"""One training step, jitted over the data mesh."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pals_jax import optimizer as optimizers
from pals_jax import sharding
from pals_jax.downsample import box_downsample
from pals_jax.errors import ConfigError
from pals_jax.models import Apply
from pals_jax.objectives import Supervised
from pals_jax.state import Network, TrainState, tree_finite

Batch = dict[str, dict[str, Array]]
Metrics = dict[str, Array]


def normalise(
    images: Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "*shape 3"]:
    """(x - mean) / std in float32, with x in [0, 1]: uint8 images are divided by 255 first."""
    scaled = images.astype(jnp.float32) / (255.0 if images.dtype == jnp.uint8 else 1.0)
    return (scaled - jnp.array(mean)) / jnp.array(std)


def _prepare(batch: Batch, config: ConfigDict) -> Batch:
    """The batch with its images as the network and the targets see them."""
    labeled = batch["labeled"]
    images = normalise(labeled["image"], config.model.mean, config.model.std)
    images = box_downsample(images, config.data.downsample)
    return {**batch, "labeled": {**labeled, "image": images}}


def check_parts(config: ConfigDict, mesh: Mesh) -> None:
    """Checks that a batch divides into parts that each device can train on.

    Raises:
      ConfigError: it does not.
    """
    part = config.batch_size // config.accumulation
    if part % mesh.size:
        raise ConfigError(
            f"config.batch_size = {config.batch_size} in config.accumulation = "
            f"{config.accumulation} parts makes parts of {part}, which do not divide by "
            f"{mesh.size} devices: use a multiple of {config.accumulation * mesh.size}"
        )
    if part == 1 and not config.model.freeze_batch_norm:
        raise ConfigError(
            f"config.batch_size = {config.batch_size} in config.accumulation = "
            f"{config.accumulation} parts makes parts of 1 image, on which BatchNorm cannot train: "
            "use parts of at least 2, or config.model.freeze_batch_norm=True"
        )


def make_train_step(
    config: ConfigDict,
    objective: Supervised,
    apply: dict[str, Apply],
    mesh: Mesh,
    steps_per_epoch: int,
) -> tuple[optax.GradientTransformation, Callable[[TrainState, Batch], tuple[TrainState, Metrics]]]:
    """Builds the optimiser and the jitted step.

    The step takes a batch with leaves [parts, batch / parts, ...]. Gradients of the parts are
    added, not averaged: each part's loss is already divided by the label mass of the whole batch,
    so that ignored pixels may be spread unevenly over parts and devices. BatchNorm statistics are
    updated part by part.

    A step whose losses, gradient norm, new BatchNorm statistics or new state of the target is not
    finite leaves the state as it was, with metrics["finite"] = False. The old state is donated.

    Args:
      config: the resolved configuration.
      objective: what to minimise.
      apply: the pure function of each network, by name.
      mesh: the data mesh; the new state is replicated over it.
      steps_per_epoch: after so many steps the target's epoch ends.
    """
    optimizer = optimizers.create(config.optimizer, config.total_steps)
    schedule = optimizers.poly_schedule(config.optimizer, config.total_steps)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        progress = state.step / config.total_steps
        mass = objective.mass(batch)
        params = {name: network.params for name, network in state.networks.items()}

        def loss_of_part(params, statistics, target_state, part):
            part = _prepare(part, config)
            networks = {name: Network(params[name], statistics[name]) for name in params}
            return objective.loss(
                apply, networks, part, mass, target_state, progress, state.previous
            )

        def add_part(carry, part):
            gradients, statistics, target_state = carry
            (_, result), new = jax.value_and_grad(loss_of_part, has_aux=True)(
                params, statistics, target_state, part
            )
            total = jax.tree.map(jnp.add, gradients, new)
            return (total, result.statistics, result.target_state), result.metrics

        carry = (
            jax.tree.map(jnp.zeros_like, params),
            {name: network.statistics for name, network in state.networks.items()},
            state.target,
        )
        (gradients, statistics, target), metrics = _over_parts(add_part, carry, batch)

        gradient_norm = optax.tree.norm(gradients)
        # New parameters need no look: a finite norm bounds every gradient by 2·10¹⁹, and the
        # configuration what they are multiplied with.
        finite = tree_finite((metrics, gradient_norm, statistics, target))

        def updated(state: TrainState) -> TrainState:
            step = state.step + 1
            updates, optimizer_state = optimizer.update(gradients, state.optimizer, params)
            new_params = optax.apply_updates(params, updates)
            networks = {name: Network(new_params[name], statistics[name]) for name in params}
            ends = step % steps_per_epoch == 0
            return TrainState(
                step=step,
                networks=networks,
                optimizer=optimizer_state,
                ema=_average(state, networks, config.ema_decay),
                previous=jax.lax.cond(ends, lambda: networks, lambda: state.previous)
                if state.previous
                else {},
                target=jax.lax.cond(ends, objective.end_epoch, lambda target: target, target),
            )

        # A branch, because a choice entry by entry visits the whole state twice more.
        new_state = jax.lax.cond(finite, updated, lambda state: state, state)
        metrics |= {
            "learning_rate": jnp.asarray(schedule(state.step)),
            "gradient_norm": gradient_norm,
            "finite": finite,
        }
        return new_state, metrics

    return optimizer, jax.jit(train_step, donate_argnums=0, out_shardings=sharding.replicated(mesh))


def _over_parts(add_part, carry: Any, batch: Batch) -> tuple[Any, Metrics]:
    """Scans over the parts of a batch and sums their metrics."""
    if jax.tree.leaves(batch)[0].shape[0] == 1:
        # A loop of one would only keep XLA from fusing across its border.
        return add_part(carry, jax.tree.map(lambda leaf: leaf[0], batch))
    carry, metrics = jax.lax.scan(add_part, carry, batch)
    return carry, jax.tree.map(jnp.sum, metrics)


def _average(state: TrainState, networks: dict[str, Network], decay: float) -> dict[str, Network]:
    """d·average + (1 - d)·new; d = min(decay, (1 + t)/(10 + t)) forgets the start soon."""
    if not state.ema:
        return {}
    step = state.step.astype(jnp.float32)
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: kept * old + (1 - kept) * new, state.ema, networks)


def make_inspection(
    config: ConfigDict, objective: Supervised, apply: dict[str, Apply]
) -> Callable[[TrainState, Batch], Any]:
    """The jitted `objective.inspect` on a batch with leaves [batch, ...]; the state stays."""

    def inspect(state: TrainState, batch: Batch):
        progress = state.step / config.total_steps
        batch = _prepare(batch, config)
        return objective.inspect(
            apply, state.networks, batch, state.target, progress, state.previous
        )

    return jax.jit(inspect)
