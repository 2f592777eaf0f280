"""Networks by configuration: freshly initialised, as shapes, or out of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from pals_jax import models
from pals_jax.checkpoints import Checkpoints, Meta
from pals_jax.errors import ConfigError
from pals_jax.models import Apply, weights
from pals_jax.state import Network


def create(model: Mapping[str, Any], num_classes: int, seed: int) -> tuple[Apply, Network]:
    """A network with random parameters.

    Args:
      model: `config.model`.
      num_classes: K.
      seed: of the parameters.
    """
    module = _module(model, num_classes, seed)
    apply, params, statistics = models.split(module)
    return apply, Network(params, statistics)


def check_weights(config: ConfigDict) -> None:
    """Looks whether `with_weights` will take the weights, without a network.

    Raises:
      WeightsError: see there.
    """
    path = Path(config.weights)
    weights.check_normalisation(path, config.model.mean, config.model.std)
    _, network = shapes(config.model, num_classes=1)
    weights.load_backbone(path, *network)


def with_weights(network: Network, config: ConfigDict) -> Network:
    """The network with the weights of a file in its backbone; tells what was taken.

    Args:
      network: freshly initialised.
      config: names the file as `config.weights`, see `weights.load_backbone`, and the input
          normalisation, which must be that of the weights.

    Raises:
      WeightsError: the file is damaged, is of another network, or was trained on other inputs.
    """
    path = Path(config.weights)
    weights.check_normalisation(path, config.model.mean, config.model.std)
    params, statistics, report = weights.load_backbone(path, *network)
    print(report, flush=True)
    return Network(params, statistics)


def shapes(model: Mapping[str, Any], num_classes: int) -> tuple[Apply, Network]:
    """Like `create`, with shapes and dtypes in place of arrays."""
    module = nnx.eval_shape(lambda: _module(model, num_classes, seed=0))
    apply, params, statistics = models.split(module)
    return apply, Network(params, statistics)


def restore(checkpoints: Checkpoints, step: int, mesh: Mesh) -> tuple[Apply, Network, Meta]:
    """The student network of a checkpoint (its average, if the run kept one) and what it is."""
    meta = checkpoints.meta(step)
    apply, student = shapes(meta.model, len(meta.classes))
    restored = checkpoints.restore_networks(step, {"student": student}, mesh)
    return apply, restored["student"], meta


def restore_chosen(
    config: ConfigDict, workdir: Path, mesh: Mesh
) -> tuple[int, Apply, Network, Meta]:
    """The network of the checkpoint that `config.eval.checkpoint` names, with its step.

    Raises:
      CheckpointError: there is no such checkpoint.
      ConfigError: `config.model` or `config.data.downsample` is that of another network.
    """
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.find(config.eval.checkpoint)
        apply, network, meta = restore(checkpoints, step, mesh)
    compared = [(f"model.{name}", asked, meta.model[name]) for name, asked in config.model.items()]
    compared.append(("data.downsample", config.data.downsample, meta.downsample))
    for field, asked, trained in compared:
        asked = list(asked) if isinstance(asked, tuple) else asked
        if asked != trained:
            raise ConfigError(
                f"config.{field} is {asked!r}, but the network in {workdir} has {trained!r}: leave "
                f"config.{field} as it was trained"
            )
    return step, apply, network, meta


def _module(model: Mapping[str, Any], num_classes: int, seed: int) -> nnx.Module:
    return models.create(
        model["name"],
        num_classes,
        output_stride=model["output_stride"],
        decoder_channels=model["decoder_channels"],
        width=model["width"],
        auxiliary=model["auxiliary"],
        dtype=jnp.dtype(model["dtype"]),
        rngs=nnx.Rngs(jax.random.key(seed)),
    )
