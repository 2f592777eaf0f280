"""Margin-based label smoothing: only logits that lag by more than a margin are drawn closer."""

import dataclasses

import jax
import jax.numpy as jnp

from pals_jax.targets.target import Target


@dataclasses.dataclass(frozen=True)
class MarginBased(Target):
    """Cross-entropy with the penalty λ mean_k relu(max_j z_uj - z_uk - m).

    Liu et al., "The Devil is in the Margin", CVPR 2022, arXiv 2111.15430, and their code.

    Attributes:
      weight: λ ≥ 0.
      margin: m ≥ 0.

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "mbls"

    weight: float = 0.1
    margin: float = 10.0

    def __post_init__(self):
        super().__post_init__()
        self._require_finite("weight")
        self._require_finite("margin")

    def apply(self, inputs, state, progress):
        """The ground truth as it is; see `Target.apply`."""
        del progress
        return inputs.labels, state

    def penalty(self, logits, labels):
        """λ mean_k relu(max_j z_j - z_k - m); see `Target.penalty`."""
        del labels
        lag = jnp.max(logits, axis=-1, keepdims=True) - logits
        return self.weight * jnp.mean(jax.nn.relu(lag - self.margin), axis=-1)
