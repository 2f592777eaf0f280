"""All-pairs affinity: aggregates what pixels hold by how alike their features are."""

from pals_jax.affinity.aggregation import IMPLEMENTATIONS, able, aggregate, choose
from pals_jax.affinity.dense import affinity_matrix
from pals_jax.affinity.kernels import SIMILARITIES, Kernel, unit_features

__all__ = [
    "IMPLEMENTATIONS",
    "SIMILARITIES",
    "Kernel",
    "able",
    "affinity_matrix",
    "aggregate",
    "choose",
    "unit_features",
]
