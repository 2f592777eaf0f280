"""PALS: pixel-wise adaptive label smoothing for semantic segmentation with few labels, in JAX."""

__version__ = "0.1.0"
