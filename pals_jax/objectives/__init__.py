"""Objectives: what a training step minimises. Adding one is a new file and one line here."""

from pals_jax.objectives.supervised import Result, Supervised

OBJECTIVES: dict[str, type[Supervised]] = {"supervised": Supervised}

__all__ = ["OBJECTIVES", "Result", "Supervised"]
