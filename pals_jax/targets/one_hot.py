"""The baseline: plain cross-entropy on the ground truth."""

import dataclasses

from pals_jax.targets.target import Target


@dataclasses.dataclass(frozen=True)
class OneHot(Target):
    """ỹ_u = y_u: the labels as they are, hard or soft."""

    name = "one_hot"

    def apply(self, inputs, state, progress):
        """Returns the ground truth; see `Target.apply`."""
        del progress
        return inputs.labels, state
