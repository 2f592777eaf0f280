"""Progressive self-knowledge distillation: the label moves towards what the network said an epoch
ago.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pals_jax.resize import upsample
from pals_jax.targets.target import Labels, Target


@dataclasses.dataclass(frozen=True)
class Progressive(Target):
    """ỹ_u = (1 - α_t) y_u + α_t s_u p_u of the weights at the end of the last epoch, α_t = α t/T.

    Kim et al., "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV 2021,
    arXiv 2006.12000, and their code; t counts steps instead of epochs. In the first epoch the label
    stays as it is.

    Attributes:
      alpha: α in [0, 1], reached at the end of training.

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "ps_kd"
    needs_previous = True

    alpha: float = 0.8

    def __post_init__(self):
        super().__post_init__()
        self._require("alpha", 0 <= self.alpha <= 1, "lie in [0, 1]")

    def init(self):
        """Whether there is an epoch before this one."""
        return {"has_previous": jnp.zeros((), bool)}

    def apply(self, inputs, state, progress):
        """Soft labels, of the mass of the ground truth; see `Target.apply`.

        Raises:
          ValueError: `inputs.previous` is None.
        """
        if inputs.previous is None:
            raise ValueError("target ps_kd needs inputs.previous, found None")
        probs, mass = inputs.labels
        predicted = jax.nn.softmax(upsample(inputs.previous.logits, inputs.labels.size))
        alpha = self.alpha * progress * state["has_previous"]
        soft = (1 - alpha) * probs + alpha * mass[..., None] * jax.lax.stop_gradient(predicted)
        # What the network says of an ignored pixel may be NaN.
        return Labels(jnp.where(mass[..., None] > 0, soft, 0), mass), state

    def end_epoch(self, state):
        """From now on there is an epoch before; see `Target.end_epoch`."""
        return {"has_previous": jnp.ones_like(state["has_previous"])}
