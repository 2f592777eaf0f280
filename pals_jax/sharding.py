"""Data parallelism: the batch is split over the mesh axis "data", all else is replicated."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pals_jax.errors import ConfigError


def data_mesh(num_devices: int = 0) -> Mesh:
    """A mesh with the one axis "data" over the first `num_devices` devices, all of them if 0.

    The axis is Auto: with explicit axes, indexing a batch by a permutation would raise.

    Raises:
      ConfigError: there are fewer devices.
    """
    devices = jax.devices()
    if num_devices > len(devices):
        raise ConfigError(
            f"config.num_devices is {num_devices}, but JAX sees {len(devices)}: {devices}"
        )
    devices = devices[: num_devices or None]
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_over(mesh: Mesh, axis: int) -> NamedSharding:
    """Axis number `axis` of the array is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), "data"))


def shard_batch(batch: Any, mesh: Mesh, axis: int = 0) -> Any:
    """Puts a pytree of host arrays on the devices, split along `axis`.

    Raises:
      ValueError: an axis does not divide by the number of devices.
    """
    for leaf in jax.tree.leaves(batch):
        if leaf.shape[axis] % mesh.size:
            raise ValueError(
                f"a batch of {leaf.shape[axis]} does not divide by {mesh.size} devices: change "
                "config.batch_size"
            )
    return jax.device_put(batch, split_over(mesh, axis))
