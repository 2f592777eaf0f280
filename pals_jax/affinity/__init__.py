"""All-pairs affinity: aggregates what pixels hold by how alike their features are."""

from pals_jax.affinity.aggregation import IMPLEMENTATIONS, able, aggregate, choose
from pals_jax.affinity.dense import affinity_matrix
from pals_jax.affinity.kernels import LEAST_TEMPERATURE, SIMILARITIES, Kernel, unit_features

__all__ = [
    "IMPLEMENTATIONS",
    "LEAST_TEMPERATURE",
    "SIMILARITIES",
    "Kernel",
    "able",
    "affinity_matrix",
    "aggregate",
    "choose",
    "unit_features",
]
