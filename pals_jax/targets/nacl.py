"""Neighbour-aware calibration: logits are drawn to the class proportions around a pixel."""

import dataclasses

import jax.numpy as jnp

from pals_jax.targets.neighbours import neighbourhood_sum
from pals_jax.targets.target import Target

_ALIKE = ((1.0,) * 3,) * 3


@dataclasses.dataclass(frozen=True)
class NeighbourAware(Target):
    """Cross-entropy with the penalty λ mean_k |z_uk - π_uk|.

    π_u are the class proportions among the labelled pixels of the 3×3 around u, inside the image
    (Murugesan et al., arXiv 2401.14487, and their code).

    Attributes:
      weight: λ ≥ 0.

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "nacl"

    weight: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        self._require_finite("weight")

    def apply(self, inputs, state, progress):
        """The ground truth as it is; see `Target.apply`."""
        del progress
        return inputs.labels, state

    def penalty(self, logits, labels):
        """λ mean_k |z_k - π_k|; see `Target.penalty`."""
        total = neighbourhood_sum(labels.probs, _ALIKE, border="constant")
        mass = neighbourhood_sum(labels.mass[..., None], _ALIKE, border="constant")
        proportions = total / jnp.where(mass > 0, mass, 1)
        return self.weight * jnp.mean(jnp.abs(logits - proportions), axis=-1)
