"""Spatially varying label smoothing: the label map blurred, so that only borders are softened."""

import dataclasses
import math

import jax.numpy as jnp

from pals_jax.targets.neighbours import neighbourhood_sum
from pals_jax.targets.target import Labels, Target

# A Gaussian with σ = 1, whose centre weighs as much as all eight neighbours together.
_EDGE, _CORNER = math.exp(-1 / 2), math.exp(-1)
_WEIGHTS = (
    (_CORNER, _EDGE, _CORNER),
    (_EDGE, 4 * (_EDGE + _CORNER), _EDGE),
    (_CORNER, _EDGE, _CORNER),
)


@dataclasses.dataclass(frozen=True)
class SpatiallyVarying(Target):
    """ỹ_u = s_u Σ_v w_uv y_v / Σ_v w_uv s_v over the 3×3 pixels v around u.

    w is a Gaussian with σ = 1 whose centre is set to the sum of its neighbours (Islam and Glocker,
    IPMI 2021, arXiv 2104.05788, and their code). Beyond the border of the image labels are those of
    the border; ignored pixels have no weight.
    """

    name = "svls"

    def apply(self, inputs, state, progress):
        """Blurred labels, of the mass of the ground truth; see `Target.apply`."""
        del progress
        probs, mass = inputs.labels
        total = neighbourhood_sum(probs, _WEIGHTS, border="edge")
        weight = neighbourhood_sum(mass[..., None], _WEIGHTS, border="edge")
        share = total / jnp.where(weight > 0, weight, 1)
        return Labels(mass[..., None] * share, mass), state
