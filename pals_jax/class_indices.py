"""What counts as a class index, the same for files, batches, targets and metrics."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


def outside_classes(
    index: Int[Array, "*shape"] | np.ndarray, num_classes: int, ignore: int
) -> Bool[Array, "*shape"] | np.ndarray:
    """Where an index is neither one of 0..K-1 nor the ignore index."""
    return ((index < 0) | (index >= num_classes)) & (index != ignore)


def require_classes(
    name: str, index: Int[Array, "*shape"] | np.ndarray, num_classes: int, ignore: int
) -> None:
    """Refuses indices that are no integers or lie outside the classes; inside a jitted function,
    whose values are not known yet, only the type is looked at.

    Raises:
      ValueError: naming the argument, and its type or the values and the number of pixels.
    """
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise ValueError(f"{name} must be an integer, found {index.dtype}")
    if isinstance(index, jax.core.Tracer):
        return
    index = np.asarray(index)
    outside = np.asarray(outside_classes(index, num_classes, ignore))
    if outside.any():
        raise ValueError(
            f"{name}: label values outside the classes 0..{num_classes - 1} and ignore={ignore}: "
            f"{np.unique(index[outside])[:10].tolist()} ({outside.sum()} pixels)"
        )
