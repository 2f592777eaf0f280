"""Objectives: what a training step minimises. Adding one is a new file and one line here."""

from pals_jax.objectives.supervised import LABEL_DOWNSAMPLING, Result, Supervised

OBJECTIVES: dict[str, type[Supervised]] = {"supervised": Supervised}

__all__ = ["LABEL_DOWNSAMPLING", "OBJECTIVES", "Result", "Supervised"]
