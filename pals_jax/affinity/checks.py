"""Checks of what comes in, which name the argument, what was found and what fits."""

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh


def require_array(name: str, array) -> None:
    """Raises ValueError for a list or a scalar."""
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        raise ValueError(f"{name} must be an array, found {type(array).__name__}")


def require_channels(name: str, array) -> None:
    """Raises ValueError unless it is float32 or bfloat16 [B,N,C] and not empty."""
    require_array(name, array)
    if array.ndim != 3:
        raise ValueError(
            f"{name} must have 3 axes [batch, pixels, channels], found shape {array.shape}"
        )
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, found shape {array.shape}")
    if array.dtype not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"{name} must be float32 or bfloat16, found {array.dtype}: cast it first")


def require_mask(name: str, array, features) -> None:
    """Raises ValueError unless it is None or bool [B,N] for features [B,N,D]."""
    _require_pixels(name, array, features, jnp.bool_, "bool")


def require_labels(labels, features) -> None:
    """Raises ValueError unless they are None or integers [B,N] in the range of int32."""
    _require_pixels("labels", labels, features, jnp.integer, "an integer")
    if isinstance(labels, np.ndarray):  # JAX would cut off what an int32 does not hold
        limits = np.iinfo(np.int32)
        for found in (labels.min(), labels.max()):
            if not limits.min <= int(found) <= limits.max:
                raise ValueError(f"labels must fit int32, found {found} in {labels.dtype}")


def require_mesh(mesh) -> None:
    """Raises ValueError unless it is None or a mesh."""
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh or None, found {mesh!r}")


def _require_pixels(name: str, array, features, kind, called: str) -> None:
    if array is None:
        return
    require_array(name, array)
    pixels = features.shape[:2]
    if array.shape != pixels:
        raise ValueError(
            f"{name} must have shape {pixels}, that of features {features.shape} without "
            f"channels, found {array.shape}"
        )
    if not jnp.issubdtype(array.dtype, kind):
        raise ValueError(f"{name} must be {called}, found {array.dtype}")
