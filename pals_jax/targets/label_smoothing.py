"""Label smoothing: the same part of every label goes to all classes alike."""

import dataclasses

from pals_jax.targets.target import Labels, Target


@dataclasses.dataclass(frozen=True)
class LabelSmoothing(Target):
    """ỹ_u = (1 - ε) y_u + ε s_u / K  (Szegedy et al., CVPR 2016, arXiv 1512.00567).

    Attributes:
      epsilon: ε in [0, 1].

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "label_smoothing"

    epsilon: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        self._require("epsilon", 0 <= self.epsilon <= 1, "lie in [0, 1]")

    def apply(self, inputs, state, progress):
        """Smoothed labels, of the mass of the ground truth; see `Target.apply`."""
        del progress
        probs, mass = inputs.labels
        uniform = mass[..., None] / self.num_classes
        return Labels((1 - self.epsilon) * probs + self.epsilon * uniform, mass), state
