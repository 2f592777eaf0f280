"""Teacher-free knowledge distillation: the teacher is a soft label made by hand."""

import dataclasses

import jax
import jax.numpy as jnp

from pals_jax import losses
from pals_jax.targets.target import Target


@dataclasses.dataclass(frozen=True)
class VirtualTeacher(Target):
    """(1 - α) CE + α T² KL(t ‖ softmax(z / T)),  t = softmax(log u / T).

    The virtual teacher u has a on the true class and shares the rest out evenly (Yuan et al.,
    CVPR 2020, arXiv 1909.11723, there TF-KD_reg; from the paper). For a soft label, u is the mean
    of those of its classes.

    Attributes:
      alpha: α in [0, 1].
      softmax_temperature: T > 0.
      confidence: a in (0, 1).

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "tf_kd"

    alpha: float = 0.1
    softmax_temperature: float = 20.0
    confidence: float = 0.99

    def __post_init__(self):
        super().__post_init__()
        self._require("alpha", 0 <= self.alpha <= 1, "lie in [0, 1]")
        self._require_finite("softmax_temperature", positive=True)
        self._require("confidence", 0 < self.confidence < 1, "lie in (0, 1)")

    def apply(self, inputs, state, progress):
        """The ground truth as it is; see `Target.apply`."""
        del progress
        return inputs.labels, state

    def penalty(self, logits, labels):
        """α (T² KL - CE), which the objective adds to CE; see `Target.penalty`."""
        truth = labels.probs / jnp.where(labels.mass > 0, labels.mass, 1)[..., None]
        rest = (1 - self.confidence) / max(self.num_classes - 1, 1)
        virtual = self.confidence * truth + rest * (1 - truth)
        temperature = self.softmax_temperature
        teacher = jax.nn.softmax(jnp.log(virtual) / temperature)
        distance = temperature**2 * losses.kl_divergence(teacher, logits / temperature)
        return self.alpha * (distance - losses.soft_cross_entropy(logits, truth))
