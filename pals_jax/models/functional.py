"""A network as a pure function of plain dicts of arrays."""

from typing import Any, Protocol

from flax import nnx
from jaxtyping import Array, Bool, Float

from pals_jax.outputs import Outputs

Params = dict[str, Any]
Statistics = dict[str, Any]


class Apply(Protocol):
    """What `split` makes of a network."""

    def __hash__(self) -> int: ...

    def __call__(
        self,
        params: Params,
        statistics: Statistics,
        images: Float[Array, "b h w 3"],
        *,
        train: bool,
        valid: Bool[Array, "b h w"] | None = None,
        freeze_batch_norm: bool = False,
    ) -> tuple[Outputs, Statistics]:
        """Runs the network.

        Args:
          params: nested dict of float32 arrays; the names mirror torchvision's.
          statistics: likewise, the running mean and variance of every BatchNorm.
          images: [B,H,W,3], normalised.
          train: whether BatchNorm uses the statistics of the batch. Static under jit.
          valid: [B,H,W], False where an image is padded; None for no padding.
          freeze_batch_norm: use the running statistics even in training. Static under jit.

        Returns:
          The outputs, and the statistics, updated if BatchNorm used those of the batch.
        """


def split(model: nnx.Module) -> tuple[Apply, Params, Statistics]:
    """Splits a network into a pure function, its parameters and its BatchNorm statistics.

    Args:
      model: of `create`, or its shapes by `nnx.eval_shape`. The arrays are shared with it.

    Returns:
      (apply, params, statistics), where `params["backbone"]["layer1"]["0"]["conv1"]["kernel"]` is
      the kernel that torchvision calls `layer1.0.conv1.weight`.
    """
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    initial_params, initial_statistics = (nnx.to_pure_dict(state) for state in states)

    def apply(params, statistics, images, *, train, valid=None, freeze_batch_norm=False):
        update = train and not freeze_batch_norm
        network = nnx.merge(graph, params, statistics)
        outputs = network(images, train=update, valid=valid)
        if update:
            statistics = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
        return outputs, statistics

    return apply, initial_params, initial_statistics
