"""Online label smoothing: the soft label of a class is what the network says of it on average."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from pals_jax.resize import upsample
from pals_jax.targets.target import Labels, Target

# Accelerators would round the table, and soft labels would not sum to their mass.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class OnlineSmoothing(Target):
    """ỹ_u = (1 - α) y_u + α Σ_k y_uk S_k.

    Row S_k of the table is the mean softmax(z) over the pixels of class k that the network got
    right in the epoch before; it starts at 1/K, and a class without such a pixel keeps its row
    (Zhang et al., "Delving Deep into Label Smoothing", IEEE TIP 2021, arXiv 2011.12562, and their
    code). Sums are over the batches of all devices.

    Attributes:
      alpha: α in [0, 1]; at ½ hard and soft label count alike.

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "ols"

    alpha: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        self._require("alpha", 0 <= self.alpha <= 1, "lie in [0, 1]")

    def init(self):
        """The table, and the sums of which the next one is made."""
        classes = self.num_classes
        return {
            "table": jnp.full((classes, classes), 1 / classes),
            "sums": jnp.zeros((classes, classes)),
            "counts": jnp.zeros(classes),
        }

    def apply(self, inputs, state, progress):
        """Soft labels of the last epoch's table, of the mass of the ground truth; the sums go on.

        See `Target.apply`.
        """
        del progress
        probs, mass = inputs.labels
        predicted = jax.lax.stop_gradient(
            jax.nn.softmax(upsample(inputs.outputs.logits, inputs.labels.size))
        )
        label = jnp.argmax(probs, axis=-1)
        right = (mass > 0) & (jnp.argmax(predicted, axis=-1) == label)
        # What the network says of an ignored pixel may be NaN.
        predicted = jnp.where(right[..., None], predicted, 0)
        weight = jax.nn.one_hot(label, self.num_classes) * jnp.where(right, mass, 0)[..., None]
        sums = state["sums"] + _einsum("bhwc,bhwk->ck", weight, predicted)
        counts = state["counts"] + weight.sum((0, 1, 2))
        soft = (1 - self.alpha) * probs + self.alpha * _einsum(
            "bhwc,ck->bhwk", probs, state["table"]
        )
        return Labels(soft, mass), {**state, "sums": sums, "counts": counts}

    def end_epoch(self, state):
        """The table of the epoch that ends, and empty sums; see `Target.end_epoch`."""
        counts = state["counts"][:, None]
        means = state["sums"] / jnp.where(counts > 0, counts, 1)
        return {
            "table": jnp.where(counts > 0, means, state["table"]),
            "sums": jnp.zeros_like(state["sums"]),
            "counts": jnp.zeros_like(state["counts"]),
        }
