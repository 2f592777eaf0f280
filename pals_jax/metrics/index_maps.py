"""Index maps as metrics take them: checked, and with one value for all that does not count."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from pals_jax.class_indices import outside_classes, require_classes


def check_pair(
    labels: Int[Array, "*shape"], predictions: Int[Array, "*shape"], num_classes: int, ignore: int
) -> None:
    """Refuses a truth and a prediction that do not fit each other or the classes.

    Raises:
      ValueError: the shapes differ, a type is no integer, or values lie outside the classes; values
        inside a jitted function are not known yet.
    """
    if labels.shape != predictions.shape:
        raise ValueError(
            f"labels and predictions must have one shape, found {labels.shape} and "
            f"{predictions.shape}"
        )
    require_classes("labels", labels, num_classes, ignore)
    require_classes("predictions", predictions, num_classes, ignore=0)


def valid_pixels(
    labels: Int[Array, "b h w"], valid: Bool[Array, "b h w"] | None
) -> Bool[Array, "b h w"]:
    """`valid`, by default everywhere.

    Raises:
      ValueError: the shapes are not one [B,H,W].
    """
    if valid is None:
        valid = jnp.ones(labels.shape, bool)
    if labels.ndim != 3 or valid.shape != labels.shape:
        raise ValueError(
            f"labels and valid must have one shape [B,H,W], found {labels.shape} and {valid.shape}"
        )
    return valid


def only_classes(
    index: Int[Array, "*shape"],
    num_classes: int,
    ignore: int | None = None,
    valid: Bool[Array, "*shape"] | bool = True,
) -> Int[Array, "*shape"]:
    """The index map with K, in int32, for all that is no class, is ignored or is not valid."""
    index = index.astype(jnp.int32)  # in bytes, an ignore index of -1 would equal 255
    counts = valid & ~outside_classes(index, num_classes, num_classes)
    if ignore is not None:
        counts &= index != ignore
    return jnp.where(counts, index, num_classes)
