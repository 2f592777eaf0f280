"""The interface of a target, which makes soft labels of labels and stopped outputs."""

import abc
import dataclasses
import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pals_jax.class_indices import outside_classes, require_classes
from pals_jax.errors import OptionError
from pals_jax.outputs import Outputs

# Numbers of NumPy do as well.
_ACCEPTED = {int: numbers.Integral, float: numbers.Real}

State = Any  # a pytree of arrays, {} for a target that keeps nothing


class Labels(NamedTuple):
    """Soft labels; `probs` sum over classes to `mass`.

    Attributes:
      probs: [B,H,W,K] float32, ≥ 0.
      mass: [B,H,W] float32 in [0, 1]: 1 = fully labelled, 0 = ignored.
    """

    probs: Float[Array, "b h w k"]
    mass: Float[Array, "b h w"]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.mass.shape[1], self.mass.shape[2]


class Inputs(NamedTuple):
    """What a target may look at; nothing here carries a gradient.

    Attributes:
      labels: the ground truth.
      outputs: this step's training-mode outputs of the network.
      images: [B,H,W,3], normalised as the network sees them.
      previous: outputs of earlier weights on the same batch, for a target with `needs_previous`.
    """

    labels: Labels
    outputs: Outputs
    images: Float[Array, "b h w 3"]
    previous: Outputs | None = None


def labels_from_index(index: Int[Array, "b h w"], num_classes: int, ignore: int) -> Labels:
    """One-hot labels with mass 1, or 0 where the index is `ignore`.

    Args:
      index: class of each pixel.
      num_classes: K.
      ignore: the index of pixels that have no label.

    Raises:
      ValueError: the type is no integer, or values lie outside the classes. Inside a jitted
        function values cannot be checked; there a pixel with such a value has no label.
    """
    require_classes("index", index, num_classes, ignore)
    index = index.astype(jnp.int32)  # in bytes, 300 would equal 44
    unlabelled = (index == ignore) | outside_classes(index, num_classes, ignore)
    # -1 has a row of zeros.
    probs = jax.nn.one_hot(jnp.where(unlabelled, -1, index), num_classes, dtype=jnp.float32)
    return Labels(probs, 1 - unlabelled.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Target(abc.ABC):
    """Base of all targets. The fields of a subclass are its options; all methods are pure.

    The loss of a step is Σ(CE(soft labels) + mass · penalty) / Σ mass over the global batch.

    Raises:
      OptionError: an option is of another type than its default.
    """

    name = ""  # by which a configuration chooses the target
    needs_previous = False  # whether Inputs.previous must be filled

    num_classes: int

    def __post_init__(self):
        for field in dataclasses.fields(self):
            kind = int if field.default is dataclasses.MISSING else type(field.default)
            value = getattr(self, field.name)
            fits = isinstance(value, _ACCEPTED.get(kind, kind))
            if not fits or (isinstance(value, bool) and kind is not bool):
                raise OptionError(
                    f"option {field.name} of {self.name} must be of type {kind.__name__}, found "
                    f"{value!r}"
                )

    def _require(self, option: str, holds: bool, expected: str) -> None:
        """Raises an OptionError unless an option holds what it must."""
        if not holds:
            raise OptionError(
                f"option {option} of {self.name} must {expected}, found {getattr(self, option)!r}"
            )

    def _require_finite(self, option: str, *, positive: bool = False) -> None:
        """Raises an OptionError unless an option is finite and ≥ 0, or > 0."""
        value = getattr(self, option)
        holds = 0 <= value < math.inf and not (positive and value == 0)
        self._require(option, holds, f"be {'>' if positive else '≥'} 0 and finite")

    def init(self) -> State:
        """The state before the first step."""
        return {}

    @abc.abstractmethod
    def apply(
        self, inputs: Inputs, state: State, progress: Float[Array, ""]
    ) -> tuple[Labels, State]:
        """Soft labels at the resolution of `inputs.labels`, without gradient, and the next state.

        Args:
          inputs: see `Inputs`.
          state: from `init` or the step before.
          progress: step / total_steps, in [0, 1].
        """

    def penalty(
        self, logits: Float[Array, "b h w k"], labels: Labels
    ) -> Float[Array, "b h w"] | None:
        """What is added to the cross-entropy of a pixel of mass 1, or None.

        Args:
          logits: at the resolution of the labels; carries the gradient.
          labels: the ground truth. Where its mass is 0 the result does not matter.
        """
        del logits, labels
        return None

    def end_epoch(self, state: State) -> State:
        """The state after the last step of an epoch."""
        return state

    def diagnostics(
        self, inputs: Inputs, state: State, progress: Float[Array, ""]
    ) -> dict[str, Float[Array, ""]]:
        """Scalars that tell what the target does on this batch, by name."""
        labels, _ = self.apply(inputs, state, progress)
        mass = labels.mass
        share = labels.probs / jnp.maximum(mass, 1e-12)[..., None]
        entropy = -jnp.sum(jax.scipy.special.xlogy(share, share), axis=-1)
        return {"target_entropy": jnp.sum(entropy * mass) / jnp.maximum(jnp.sum(mass), 1e-12)}
