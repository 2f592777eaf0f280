"""BAKE: like PALS, with predictions that spread along the affinities several times."""

import dataclasses

import jax.numpy as jnp

from pals_jax.targets.pals import Pals


@dataclasses.dataclass(frozen=True)
class Bake(Pals):
    """ỹ_u = (1 - α) y_u + α s_u Q_u,  Q ≈ (1 - ω) (I - ω A)⁻¹ softmax(Z / T).

    Computed by Q ← ω A Q + (1 - ω) P from Q = P. In the manner of Ge et al., "Self-distillation
    with Batch Knowledge Ensembling", arXiv 2104.13298, and their code, which spread predictions
    among the images of a batch; here they spread among the pixels of one image, by the affinity of
    PALS and in its mix with the label.

    Attributes:
      omega: ω in [0, 1).
      iterations: at least 1.

    All other options, and their defaults, are those of `Pals`; they were not chosen for BAKE.

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "bake"

    omega: float = 0.5
    iterations: int = 5

    def __post_init__(self):
        super().__post_init__()
        self._require("omega", 0 <= self.omega < 1, "lie in [0, 1)")
        self._require("iterations", self.iterations >= 1, "be at least 1")

    def _aggregate(self, cells):
        """Q of each cell and whether it has a source."""
        spread = cells.probs
        for _ in range(self.iterations):
            aggregated, has_source = super()._aggregate(cells._replace(probs=spread))
            # A cell without a source keeps its own prediction, and still serves others with it.
            spread = jnp.where(
                has_source[..., None],
                self.omega * aggregated + (1 - self.omega) * cells.probs,
                cells.probs,
            )
        return spread, has_source
