"""The state of a training run: named networks, optimiser, averages and what the target keeps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int

Tree = Any  # a pure nested dict of arrays


class Network(NamedTuple):
    """One network: parameters and BatchNorm statistics, both pure nested dicts of arrays."""

    params: Tree
    statistics: Tree


@struct.dataclass
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: optimiser steps taken.
      networks: by name; "student" is the one that is evaluated.
      optimizer: optax state over {name: params}.
      ema: exponential moving averages of `networks`, or {} without.
      previous: `networks` at the end of the last epoch, for a target that needs them, else {}.
      target: what the target keeps between steps.
    """

    step: Int[Array, ""]
    networks: dict[str, Network]
    optimizer: optax.OptState
    ema: dict[str, Network]
    previous: dict[str, Network]
    target: Tree

    def evaluated(self) -> dict[str, Network]:
        """The networks to evaluate: the averages where there are any."""
        return self.ema or self.networks


def create(
    networks: dict[str, Network],
    optimizer: optax.GradientTransformation,
    target: Tree,
    *,
    average: bool,
    previous: bool,
) -> TrainState:
    """The state before the first step.

    Args:
      networks: freshly initialised, by name.
      optimizer: over the parameters of all networks.
      target: initial state of the target.
      average: whether to keep moving averages.
      previous: whether to keep the networks of the last epoch.
    """
    params = {name: network.params for name, network in networks.items()}
    # What starts equal are copies: two names for one buffer could not both be donated to the step.
    ema, earlier = (
        jax.tree.map(jnp.copy, networks) if kept else {} for kept in (average, previous)
    )
    start = jnp.zeros((), jnp.int32)
    return TrainState(start, networks, optimizer.init(params), ema, earlier, target)


def tree_finite(tree: Tree) -> Array:
    """Whether every floating-point entry of a pytree is finite."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in floats]))
