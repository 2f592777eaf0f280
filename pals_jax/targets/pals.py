"""PALS: soft labels from the network's own predictions, aggregated over the image by affinity.

A reconstruction from the abstract of "Pixel-Wise Adaptive Label Smoothing for Self-Distillation in
Semantic Segmentation" (Sensors 2022, 22(7), 2623). The abstract says: an aggregated distribution
per pixel, a similarity matrix with the affinities between all pairs of pixels, one-hot ground truth
added to the result. Its equations and code are not public, so every choice beyond that is an option
here. The defaults are the setting that a search chose on CamVid (docs/study.md).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pals_jax import affinity
from pals_jax.errors import OptionError
from pals_jax.targets.cells import Cells, covered_upsample, measure, network_stride
from pals_jax.targets.target import Inputs, Labels, State, Target

_CHOICES = {
    "affinity": (*affinity.SIMILARITIES, "identity"),
    "mask": ("none", "same_class", "correct", "same_class_correct"),
    "feature": ("decoder", "logits", "probs", "rgb"),
    "gate": ("none", "agree", "confidence"),
    "prior": ("none", "image", "dataset"),
    "ramp": ("linear", "constant"),
    "upsample": ("bilinear", "nearest_same_class"),
    "implementation": affinity.IMPLEMENTATIONS,
}

# Rows of the affinity matrix that the diagnostics look at, per image.
_DIAGNOSED_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Pals(Target):
    """ỹ_u = (1 - α) y_u + α s_u q_u,  q_u = Σ_v A_uv softmax(z_v / T); a reconstruction from the
    abstract.

    A is the affinity of `pals_jax.affinity.aggregate`, s_u the label mass of pixel u. Cells of the
    grid that are less than half labelled neither serve nor are served; a pixel none of whose cells
    has a source keeps its label.

    Attributes:
      affinity: kernel κ: "exp_cosine", "linear_cosine", "relu_cosine"; controls: "uniform" and
          "identity" (A = I).
      temperature: τ of exp_cosine.
      power: exponent ≥ 1 of relu_cosine.
      mask: sources of a row: "none" = all pixels, "same_class" = those of its label, "correct" =
          those that the network gets right in this step, "same_class_correct" = both.
      feature: what is compared: "decoder" features, "logits", "probs", or the colours "rgb" of the
          image.
      centre: subtract the image's mean feature over its sources first. Features after a ReLU have
          cosines ≥ 0.
      exclude_self: whether a pixel's own prediction stays out of its q. With A = I, PALS only
          scales the gradient.
      alpha: α at the end of the ramp, in [0, 1].
      ramp: "linear" from 0 over training, or "constant".
      stride: label pixels per grid cell, 1 = full resolution; 0 = the resolution of the network's
          outputs.
      upsample: how q reaches the pixels: "bilinear", normalised by coverage, or
          "nearest_same_class", the nearest of the four surrounding cells whose label is the pixel's
          own (bilinear where none is).
      softmax_temperature: T.
      gate: "none"; "agree": α_u = 0 where argmax q_u is not the label; "confidence": α_u = α
          q_u[label]. Ours.
      prior: "none"; "image" or "dataset": q_u ← q_u / π renormalised, π the class frequencies of
          the image, or of all labels seen in earlier steps, which the progress tells apart. Classes
          with π = 0 get no mass, so labels stay as they are in an image of one class; with no label
          seen yet, q stays as it is. Ours.
      implementation: of the affinity, see `pals_jax.affinity.aggregate`.
      tile_size: of the tiled implementation; 0 = its default.

    Raises:
      OptionError: an option has a value that it cannot have.
    """

    name = "pals"

    affinity: str = "exp_cosine"
    temperature: float = 0.05
    power: float = 1.0
    mask: str = "same_class"
    feature: str = "rgb"
    centre: bool = True
    exclude_self: bool = True
    alpha: float = 0.1
    ramp: str = "constant"
    stride: int = 8
    upsample: str = "bilinear"
    softmax_temperature: float = 1.0
    gate: str = "none"
    prior: str = "image"
    implementation: str = "auto"
    tile_size: int = 0

    def __post_init__(self):
        super().__post_init__()
        for option, choices in _CHOICES.items():
            self._require(option, getattr(self, option) in choices, f"be one of {choices}")
        if self.affinity != "identity":
            able = affinity.able(self.affinity)
            self._require(
                "implementation",
                self.implementation in able,
                f"be one of {able} for affinity {self.affinity!r}",
            )
        self._require("alpha", 0 <= self.alpha <= 1, "lie in [0, 1]")
        try:
            affinity.Kernel("exp_cosine", self.temperature, self.power)
        except ValueError as error:
            raise OptionError(f"option of {self.name}: {error}") from None
        self._require_finite("softmax_temperature", positive=True)
        for option in ("stride", "tile_size"):
            self._require(option, getattr(self, option) >= 0, "be ≥ 0")

    def init(self) -> State:
        """The label mass per class, for prior="dataset"; nothing otherwise."""
        if self.prior != "dataset":
            return {}
        return {
            "seen": jnp.zeros(self.num_classes),
            "of_this_step": jnp.zeros(self.num_classes),
            "progress": jnp.array(-1.0, jnp.float32),
        }

    def apply(
        self, inputs: Inputs, state: State, progress: Float[Array, ""]
    ) -> tuple[Labels, State]:
        """Soft labels ỹ with the mass of the ground truth; see `Target.apply`."""
        inputs = jax.lax.stop_gradient(inputs)
        probs, mass = inputs.labels
        state = self._count_classes(inputs.labels, state, progress)
        cells = self._cells(inputs)
        q, has_source = self._aggregate(cells)
        q, reached = self._to_pixels(q, has_source, cells, inputs)
        if self.prior != "none":
            q = _divide(q, self._frequencies(inputs.labels, state)[:, None, None])
        truth = probs / jnp.where(mass > 0, mass, 1)[..., None]
        q = jnp.where(reached[..., None], q, truth)
        alpha = self._gated_alpha(q, truth, progress)[..., None]
        soft = (1 - alpha) * probs + alpha * mass[..., None] * q
        # q of an ignored pixel may hold anything; its row is 0.
        return Labels(jnp.where(mass[..., None] > 0, soft, 0), mass), state

    def diagnostics(
        self, inputs: Inputs, state: State, progress: Float[Array, ""]
    ) -> dict[str, Float[Array, ""]]:
        """Tells whether the affinity says more than the image's mean, and whether it is right.

        Means over the served cells, of which `_DIAGNOSED_ROWS` per image are looked at:
        effective_sources exp(H(A_u)); true_class_weight, the share of A_u on sources of the cell's
        label; kl_to_frequencies KL(q_u ‖ class frequencies of the image); q_agreement, how often
        argmax q_u is the label; q_u after the correction of the prior. Over the labelled pixels:
        target_entropy of ỹ.
        """
        inputs = jax.lax.stop_gradient(inputs)
        named = super().diagnostics(inputs, state, progress)
        flat = _flatten(self._cells(inputs))
        matrix, served, rows = self._affinity_rows(flat)
        q = jnp.einsum("brn,bnk->brk", matrix, jnp.where(flat.valid[..., None], flat.probs, 0))
        if self.prior != "none":
            state = self._count_classes(inputs.labels, state, progress)
            q = _divide(q, self._frequencies(inputs.labels, state)[:, None])
        labels = flat.labels[:, rows]
        frequencies = _image_frequencies(inputs.labels)
        # A class that the image lacks but q holds would make the divergence infinite: floor it at
        # one pixel.
        floor = 1.0 / inputs.labels.mass[0].size
        per_row = {
            "effective_sources": jnp.exp(-jnp.sum(jax.scipy.special.xlogy(matrix, matrix), -1)),
            "true_class_weight": jnp.sum(matrix * (labels[..., None] == flat.labels[:, None]), -1),
            "kl_to_frequencies": jnp.sum(
                jax.scipy.special.xlogy(q, q)
                - jax.scipy.special.xlogy(q, jnp.maximum(frequencies, floor)[:, None]),
                -1,
            ),
            "q_agreement": (jnp.argmax(q, -1) == labels).astype(jnp.float32),
        }
        count = jnp.maximum(served.sum(), 1)
        for name, value in per_row.items():
            named[name] = jnp.sum(jnp.where(served, value, 0)) / count
        return named

    def _cells(self, inputs: Inputs) -> Cells:
        stride = self.stride or network_stride(inputs)
        cells = measure(inputs, self.feature, stride, self.softmax_temperature)
        if not self.centre:
            return cells
        sources = self._sources(cells)
        features = jnp.where(cells.valid[..., None], cells.features, 0).astype(jnp.float32)
        total = jnp.sum(features * sources[..., None], (1, 2), keepdims=True)
        count = jnp.maximum(jnp.sum(sources, (1, 2)), 1)[:, None, None, None]
        return cells._replace(features=(features - total / count).astype(cells.features.dtype))

    def _sources(self, cells: Cells) -> Bool[Array, "..."]:
        return (cells.valid & cells.correct) if "correct" in self.mask else cells.valid

    def _aggregate(self, cells: Cells) -> tuple[Float[Array, "b h w k"], Bool[Array, "b h w"]]:
        """q of each cell and whether it has a source."""
        if self.affinity == "identity":
            return cells.probs, self._sources(cells)
        flat = _flatten(cells)
        q, has_source = affinity.aggregate(
            flat.features,
            flat.probs,
            similarity=self.affinity,
            temperature=self.temperature,
            power=self.power,
            valid=flat.valid,
            labels=flat.labels if "same_class" in self.mask else None,
            correct=flat.correct if "correct" in self.mask else None,
            exclude_self=self.exclude_self,
            implementation=self.implementation,
            tile_size=self.tile_size or None,
        )
        return q.reshape(cells.probs.shape), has_source.reshape(cells.valid.shape)

    def _affinity_rows(self, flat: Cells):
        """Evenly spread rows of A: A [B,R,N], whether each is served [B,R], their indices [R]."""
        pixels = flat.valid.shape[1]
        step = -(-pixels // _DIAGNOSED_ROWS)
        rows = jnp.arange(step // 2, pixels, step)
        is_source = self._sources(flat)
        if self.affinity == "identity":
            matrix = jax.nn.one_hot(rows, pixels) * is_source[:, rows, None]
            return matrix, is_source[:, rows], rows
        matrix, served = affinity.affinity_matrix(
            jnp.where(flat.valid[..., None], flat.features, 0),
            is_source,
            flat.labels if "same_class" in self.mask else None,
            affinity.Kernel(self.affinity, self.temperature, self.power),
            exclude_self=self.exclude_self,
            rows=rows,
        )
        return matrix, served & flat.valid[:, rows], rows

    def _to_pixels(
        self,
        q: Float[Array, "b h w k"],
        has_source: Bool[Array, "b h w"],
        cells: Cells,
        inputs: Inputs,
    ) -> tuple[Float[Array, "b H W k"], Bool[Array, "b H W"]]:
        """q of each pixel, and where any of its cells has a source."""
        labels = inputs.labels
        stride = self.stride or network_stride(inputs)
        smooth, reached = covered_upsample(q, has_source, stride, labels.size)
        if self.upsample == "bilinear":
            return smooth, reached
        pixel_labels = jnp.argmax(labels.probs, axis=-1)
        best_weight = jnp.zeros(labels.mass.shape)
        best = smooth
        for rows, columns, weight in _surrounding_cells(labels.size, stride):
            served = has_source[:, rows][:, :, columns]
            same_class = cells.labels[:, rows][:, :, columns] == pixel_labels
            better = served & same_class & (weight > best_weight)
            best = jnp.where(better[..., None], q[:, rows][:, :, columns], best)
            best_weight = jnp.where(better, weight, best_weight)
        return best, reached

    def _count_classes(self, labels: Labels, state: State, progress: Float[Array, ""]) -> State:
        """For prior="dataset": adds the labels of this part of a step to those of the step.

        All parts of an accumulated batch have one progress and must divide by one π, that of the
        steps before; so a step is counted as seen only when the progress has moved on.
        """
        if self.prior != "dataset":
            return state
        is_new = progress != state["progress"]
        seen = state["seen"] + jnp.where(is_new, state["of_this_step"], 0)
        of_this_step = jnp.where(is_new, 0, state["of_this_step"]) + labels.probs.sum((0, 1, 2))
        progress = jnp.asarray(progress, jnp.float32)
        return {"seen": seen, "of_this_step": of_this_step, "progress": progress}

    def _frequencies(self, labels: Labels, state: State) -> Float[Array, "b k"]:
        """π of each image, or of the data set."""
        if self.prior == "image":
            return _image_frequencies(labels)
        return (state["seen"] / jnp.maximum(state["seen"].sum(), 1e-12))[None]

    def _gated_alpha(
        self, q: Float[Array, "b h w k"], truth: Float[Array, "b h w k"], progress: Float[Array, ""]
    ) -> Float[Array, "b h w"]:
        """α_u: the ramp, then the gate. For a soft label, "confidence" weighs q by the label."""
        alpha = self.alpha * (progress if self.ramp == "linear" else 1.0)
        if self.gate == "agree":
            return alpha * (jnp.argmax(q, axis=-1) == jnp.argmax(truth, axis=-1))
        if self.gate == "confidence":
            return alpha * jnp.sum(q * truth, axis=-1)
        return jnp.full(q.shape[:-1], alpha)


def _flatten(cells: Cells) -> Cells:
    """Cells of an image in a row: [B,h,w,...] -> [B,h·w,...]."""
    return jax.tree.map(lambda array: array.reshape(array.shape[0], -1, *array.shape[3:]), cells)


def _image_frequencies(labels: Labels) -> Float[Array, "b k"]:
    """Share of each class in the label mass of an image, 0 without any."""
    mass = labels.probs.sum((1, 2))
    return mass / jnp.maximum(mass.sum(-1, keepdims=True), 1e-12)


def _divide(q: Float[Array, "*b k"], frequencies: Float[Array, "*b k"]) -> Float[Array, "*b k"]:
    """q / π renormalised; q itself where nothing of it is left."""
    seen = frequencies > 0
    corrected = jnp.where(seen, q / jnp.where(seen, frequencies, 1), 0)
    total = corrected.sum(-1, keepdims=True)
    return jnp.where(total > 0, corrected / jnp.where(total > 0, total, 1), q)


def _surrounding_cells(size: tuple[int, int], stride: int):
    """Row indices [H], column indices [W] and weights [H,W] of the four cells around each pixel."""
    axes = []
    for length in size:
        cells = -(-length // stride)
        position = (jnp.arange(length) + 0.5) / stride - 0.5
        low = jnp.floor(position)
        near = position - low
        axes.append(
            [
                (jnp.clip(low, 0, cells - 1).astype(int), 1 - near),
                (jnp.clip(low + 1, 0, cells - 1).astype(int), near),
            ]
        )
    for rows, row_weight in axes[0]:
        for columns, column_weight in axes[1]:
            yield rows, columns, row_weight[:, None] * column_weight[None, :]
