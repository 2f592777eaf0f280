"""SGD with momentum, weight decay, polynomial decay and a learning-rate multiplier for the head."""

from typing import Any

import jax
import optax
from ml_collections import ConfigDict


def poly_schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """lr(t) = (lr_0 - lr_end) (1 - t / total_steps)^power + lr_end.

    lr_end is the smaller of the two learning rates, so that it never rises.

    Args:
      config: `config.optimizer`.
      total_steps: steps of the whole run.
    """
    end = min(config.end_learning_rate, config.learning_rate)
    return optax.polynomial_schedule(config.learning_rate, end, config.power, total_steps)


def create(config: ConfigDict, total_steps: int) -> optax.GradientTransformation:
    """Momentum SGD in PyTorch's order: decay is added to the gradient, then momentum, then the
    learning rate.

    Parameters below "backbone" get the learning rate itself, all others `head_multiplier` times it.

    Args:
      config: `config.optimizer`.
      total_steps: steps of the whole run.
    """
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.trace(config.momentum),
        optax.masked(optax.scale(config.head_multiplier), _is_head),
        optax.scale_by_learning_rate(poly_schedule(config, total_steps)),
    )


def _is_head(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(getattr(key, "key", None) == "backbone" for key in path), params
    )
