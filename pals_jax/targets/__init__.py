"""Targets: ways to make soft labels. Adding one is a new file and one line here."""

from pals_jax.targets.bake import Bake
from pals_jax.targets.label_smoothing import LabelSmoothing
from pals_jax.targets.mbls import MarginBased
from pals_jax.targets.nacl import NeighbourAware
from pals_jax.targets.ols import OnlineSmoothing
from pals_jax.targets.one_hot import OneHot
from pals_jax.targets.pals import Pals
from pals_jax.targets.ps_kd import Progressive
from pals_jax.targets.svls import SpatiallyVarying
from pals_jax.targets.target import Inputs, Labels, Target, labels_from_index
from pals_jax.targets.tf_kd import VirtualTeacher

TARGETS: dict[str, type[Target]] = {
    target.name: target
    for target in (
        OneHot,
        LabelSmoothing,
        SpatiallyVarying,
        OnlineSmoothing,
        Progressive,
        VirtualTeacher,
        MarginBased,
        NeighbourAware,
        Bake,
        Pals,
    )
}

__all__ = [
    "TARGETS",
    "Bake",
    "Inputs",
    "LabelSmoothing",
    "Labels",
    "MarginBased",
    "NeighbourAware",
    "OneHot",
    "OnlineSmoothing",
    "Pals",
    "Progressive",
    "SpatiallyVarying",
    "Target",
    "VirtualTeacher",
    "labels_from_index",
]
