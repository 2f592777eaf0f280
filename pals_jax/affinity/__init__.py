"""All-pairs affinity: aggregates what pixels hold by how alike their features are."""

from pals_jax.affinity.aggregation import IMPLEMENTATIONS, LEAST_TEMPERATURE, aggregate, choose
from pals_jax.affinity.dense import affinity_matrix
from pals_jax.affinity.kernels import SIMILARITIES, unit_features

__all__ = [
    "IMPLEMENTATIONS",
    "LEAST_TEMPERATURE",
    "SIMILARITIES",
    "affinity_matrix",
    "aggregate",
    "choose",
    "unit_features",
]
