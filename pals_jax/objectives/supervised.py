"""Training on labelled images only: cross-entropy against the soft labels of a target."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from pals_jax import losses
from pals_jax.downsample import nearest_downsample, soft_downsample
from pals_jax.models import Apply
from pals_jax.outputs import Outputs
from pals_jax.resize import upsample
from pals_jax.state import Network
from pals_jax.targets import TARGETS, Inputs, Labels, Target, labels_from_index

LABEL_DOWNSAMPLING = ("soft", "nearest")


class Result(NamedTuple):
    """What an objective returns beside its loss.

    Attributes:
      statistics: the next BatchNorm statistics of each network, by name.
      target_state: the next state of the target.
      metrics: scalars that add up over the parts of a batch.
    """

    statistics: dict[str, Any]
    target_state: Any
    metrics: dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Supervised:
    """L = Σ_u (CE(ỹ_u, p_u) + penalty_u) / Σ_u s_u + w Σ_u CE(y_u, p_u of the auxiliary head) / Σ_u
    s_u.

    Sums run over the global batch, over all devices and all accumulated parts; without a labelled
    pixel L is 0. The metric "loss" is its first term, to compare with "cross_entropy", Σ_u CE(y_u,
    p_u) / Σ_u s_u; "auxiliary_loss" is the other without w.

    Attributes:
      target: makes ỹ and the penalty.
      ignore: index of pixels without a label.
      auxiliary_weight: w.
      freeze_batch_norm: whether BatchNorm keeps its statistics.
      downsample: factor by which the images of a batch are smaller than its labels; u are the
        pixels that are left.
      label_downsampling: how the labels follow: "soft", y_u and s_u by the kernel of the image, see
        `soft_downsample`, or "nearest", one-hot.
    """

    target: Target
    ignore: int
    auxiliary_weight: float
    freeze_batch_norm: bool
    downsample: int = 1
    label_downsampling: str = "soft"

    networks = ("student",)

    @classmethod
    def create(cls, config: ConfigDict, num_classes: int, ignore: int) -> "Supervised":
        """Builds the target that the configuration names."""
        target = TARGETS[config.target.name](num_classes, **config.target.options)
        return cls(
            target,
            ignore,
            config.auxiliary_weight,
            config.model.freeze_batch_norm,
            config.data.downsample,
            config.data.label_downsampling,
        )

    @property
    def needs_previous(self) -> bool:
        """Whether the state must keep the networks of the last epoch."""
        return self.target.needs_previous

    @property
    def has_epochs(self) -> bool:
        """Whether the end of an epoch changes anything."""
        return self.needs_previous or type(self.target).end_epoch is not Target.end_epoch

    def init(self) -> Any:
        """The state of the target before the first step."""
        return self.target.init()

    def end_epoch(self, target_state: Any) -> Any:
        """The state of the target after the last step of an epoch."""
        return self.target.end_epoch(target_state)

    def labels(self, batch: dict[str, dict[str, Array]]) -> Labels:
        """The ground truth of a batch at the resolution of its images, with mass."""
        index, classes = batch["labeled"]["label"], self.target.num_classes
        if self._has_soft_labels:
            return Labels(*soft_downsample(index, self.downsample, classes, self.ignore))
        index = nearest_downsample(index, self.downsample, self.ignore)
        return labels_from_index(index, classes, self.ignore)

    def mass(self, batch: dict[str, dict[str, Array]]) -> Float[Array, ""]:
        """Σ s of a batch of any leading shape, the divisor of the loss; at least a tiny number."""
        labels = batch["labeled"]["label"].astype(jnp.int32)
        if not self._has_soft_labels:
            labels = nearest_downsample(labels, self.downsample, self.ignore)
        count = jnp.sum((labels != self.ignore).astype(jnp.float32))
        if self._has_soft_labels:
            count = count / self.downsample**2  # the mean conserves what is labelled
        return jnp.maximum(count, 1e-12)

    @property
    def _has_soft_labels(self) -> bool:
        return self.downsample > 1 and self.label_downsampling == "soft"

    def loss(
        self,
        apply: dict[str, Apply],
        networks: dict[str, Network],
        batch: dict[str, dict[str, Array]],
        mass: Float[Array, ""],
        target_state: Any,
        progress: Float[Array, ""],
        previous: dict[str, Network],
    ) -> tuple[Float[Array, ""], Result]:
        """The loss of one part of a batch.

        Args:
          apply: the pure function of each network.
          networks: parameters and statistics of each network.
          batch: {"labeled": {"image": [B,h,w,3] down-sampled and normalised, "label": [B,H,W]}},
              with h = ceil(H / downsample).
          mass: of the whole batch that this is a part of; the losses of all parts add up to the
              loss of the batch.
          target_state: from `init` or the part before.
          progress: step / total_steps.
          previous: the networks of the last epoch, if `needs_previous`.
        """
        outputs, statistics = self._forward(apply, networks, batch)
        inputs = self._inputs(apply, outputs, batch, previous)
        labels = inputs.labels
        soft, target_state = self.target.apply(inputs, target_state, progress)
        logits = upsample(outputs.logits, labels.size)
        per_pixel = losses.soft_cross_entropy(logits, soft.probs)
        penalty = self.target.penalty(logits, labels)
        if penalty is not None:
            per_pixel = per_pixel + penalty * labels.mass
        loss = losses.masked_sum(per_pixel, (labels.mass > 0).astype(jnp.float32)) / mass
        hard = losses.soft_cross_entropy(logits, labels.probs).sum() / mass
        metrics = {"loss": loss, "cross_entropy": hard}
        if outputs.auxiliary is not None:
            auxiliary = losses.soft_cross_entropy(
                upsample(outputs.auxiliary, labels.size), labels.probs
            )
            metrics["auxiliary_loss"] = auxiliary.sum() / mass
            loss = loss + self.auxiliary_weight * metrics["auxiliary_loss"]
        return loss, Result({"student": statistics}, target_state, jax.lax.stop_gradient(metrics))

    def inspect(
        self,
        apply: dict[str, Apply],
        networks: dict[str, Network],
        batch: dict[str, dict[str, Array]],
        target_state: Any,
        progress: Float[Array, ""],
        previous: dict[str, Network],
    ) -> tuple[Labels, Float[Array, "b h w k"], dict[str, Float[Array, ""]]]:
        """Soft labels, predicted probabilities and the target's diagnostics."""
        outputs, _ = self._forward(apply, networks, batch)
        inputs = self._inputs(apply, outputs, batch, previous)
        soft, _ = self.target.apply(inputs, target_state, progress)
        probs = jax.nn.softmax(upsample(outputs.logits, soft.size))
        return soft, probs, self.target.diagnostics(inputs, target_state, progress)

    def _inputs(self, apply, outputs, batch, previous) -> Inputs:
        """What the target sees; of the network of the last epoch what it says in evaluation."""
        images = batch["labeled"]["image"]
        earlier = None
        if self.needs_previous:
            student = previous["student"]
            earlier, _ = apply["student"](student.params, student.statistics, images, train=False)
        outputs, earlier = jax.lax.stop_gradient((outputs, earlier))
        return Inputs(self.labels(batch), outputs, images, earlier)

    def _forward(self, apply, networks, batch) -> tuple[Outputs, Any]:
        student = networks["student"]
        return apply["student"](
            student.params,
            student.statistics,
            batch["labeled"]["image"],
            train=True,
            freeze_batch_norm=self.freeze_batch_norm,
        )
