"""Targets: ways to make soft labels. Adding one is a new file and one line here."""

from pals_jax.targets.one_hot import OneHot
from pals_jax.targets.pals import Pals
from pals_jax.targets.target import Inputs, Labels, Target, labels_from_index

TARGETS: dict[str, type[Target]] = {"one_hot": OneHot, "pals": Pals}

__all__ = ["TARGETS", "Inputs", "Labels", "OneHot", "Pals", "Target", "labels_from_index"]
