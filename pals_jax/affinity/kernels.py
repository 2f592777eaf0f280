"""Cosine kernels κ(f_u, f_v) between pixel features.

A kernel is evaluated as itself where float32 holds every weight that it can give an image, and as
its logarithm elsewhere: then the largest exponent of a row is subtracted before exponentiating, so
that a small temperature or a large power never underflows a whole row to zero.
"""

import dataclasses
import functools
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

SIMILARITIES = ("exp_cosine", "linear_cosine", "relu_cosine", "uniform")

# A computed cosine misses its value by some ulp of 1. Within this margin, that of two opposite
# features is read as -1 and that of two orthogonal ones as 0, so that a pair of weight 0 in exact
# arithmetic does not become a source by rounding.
_MARGIN = 3e-6

# 2 / τ, the largest exponent, must stay far below the largest float32 of 3·10³⁸.
_LEAST_TEMPERATURE = 1e-30
# Of τ and of the power, so that float32 holds either.
_MOST = 1e30
# exp(-64) = 2·10⁻²⁸: values of 10⁻¹⁰ stay normal, and no weight above 1 makes large ones overflow.
_BOUNDED_EXPONENT = 64.0
# The least positive cosine is 3·10⁻⁶, and its fourth power leaves as much room.
_BOUNDED_POWER = 4.0

# XLA may add up the products of a cosine from first to last. At worst, all of a sum are lost in the
# first, each by half an ulp, and the same in all pairs of a class: then L products at a time change
# a result by L·2⁻²⁶/τ, or by twice as much if many sums begin with a strong channel just above a
# power of two. That is 10⁻⁵ for so many at τ = 1.
_LONGEST_SUM = 320
# More of them take about as long as exact cosines, with more memory, and much longer to compile.
_MOST_SUMS = 24
# Below the one temperature, sums would have to be shorter than is affordable and stay as they are;
# below the other, cosines are exact.
_LEAST_ACCURATE_TEMPERATURE, _SUM_BELOW, _LEAST_ROUNDED_TEMPERATURE = 0.05, 64, 0.01
# Multiples of 2⁻¹¹ have products that are multiples of 2⁻²²: float32 adds them up without rounding
# as long as sums stay below 4, and those of unit vectors do.
_COARSE = 2.0**-11


@dataclasses.dataclass(frozen=True)
class Kernel:
    """κ as a function of the cosine c.

    "exp_cosine" exp((c - 1)/τ), "linear_cosine" (1 + c)/2, "relu_cosine" relu(c)^power, "uniform"
    1.

    Attributes:
      similarity: one of SIMILARITIES.
      temperature: τ of exp_cosine, in [10⁻³⁰, 10³⁰]; 1 for the others.
      power: in [1, 10³⁰], of relu_cosine; below, the slope at 0 is infinite and rounding decides. 1
        for the others.

    Raises:
      ValueError: an attribute has a value that it cannot have.
    """

    similarity: str
    temperature: float
    power: float

    def __post_init__(self):
        check_similarity(self.similarity)
        for name in ("temperature", "power"):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or isinstance(value, bool):
                raise ValueError(
                    f"{name} must be a number, known when a function is compiled; found {value!r}"
                )
        if not _LEAST_TEMPERATURE <= self.temperature <= _MOST:
            raise ValueError(
                f"temperature must be > 0 (and for the sake of float32 at least "
                f"{_LEAST_TEMPERATURE} and at most {_MOST:g}), found {self.temperature}"
            )
        if not 1 <= self.power <= _MOST:
            raise ValueError(f"power must be ≥ 1 and at most {_MOST:g}, found {self.power}")
        # Of any type of number; one that κ does not have does not tell kernels apart.
        for name, similarity in (("temperature", "exp_cosine"), ("power", "relu_cosine")):
            value = float(getattr(self, name)) if self.similarity == similarity else 1.0
            object.__setattr__(self, name, value)

    @property
    def is_bounded(self) -> bool:
        """Whether float32 holds `weight` for all cosines, and sums of them over an image."""
        if self.similarity == "exp_cosine":
            return 2 / self.temperature <= _BOUNDED_EXPONENT
        return self.similarity != "relu_cosine" or self.power <= _BOUNDED_POWER

    @property
    def is_steep(self) -> bool:
        """Whether κ magnifies the rounding of a cosine so much that those of float32 features must
        be exact.

        |d log κ / dc| is 1/τ for exp_cosine and, without bound, 1/(1 + c) for linear_cosine and
        power/c for relu_cosine.
        """
        if self.similarity == "exp_cosine":
            return self.temperature < _LEAST_ROUNDED_TEMPERATURE
        return self.similarity != "uniform"

    @property
    def longest_sum(self) -> int:
        """How many products of a cosine to add up at once, where it is not exact."""
        if self.similarity == "exp_cosine" and self.temperature >= _LEAST_ACCURATE_TEMPERATURE:
            return int(_LONGEST_SUM * self.temperature)
        return _SUM_BELOW

    def weight(self, cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """κ up to a constant factor, which the normalisation of A cancels; if `is_bounded` only."""
        if self.similarity == "exp_cosine":
            return jnp.exp((cosine - 1) * (1 / self.temperature))
        if self.similarity == "linear_cosine":
            return jnp.where(cosine > _MARGIN - 1, 1 + cosine, 0)
        if self.similarity == "relu_cosine":
            positive = cosine > _MARGIN
            base = jnp.where(positive, cosine, 1)
            # A power that is not whole takes XLA three times as long.
            whole = self.power.is_integer()
            powers = base**self.power if whole else jnp.exp(self.power * jnp.log(base))
            return jnp.where(positive, powers, 0)
        return jnp.ones_like(cosine)

    def log_weight(self, cosine: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """log κ, -inf where κ = 0."""
        if self.similarity == "exp_cosine":
            return (cosine - 1) / self.temperature
        if self.similarity == "linear_cosine":
            positive = cosine > _MARGIN - 1
            return jnp.where(positive, jnp.log(jnp.where(positive, 1 + cosine, 1) / 2), -jnp.inf)
        if self.similarity == "relu_cosine":
            positive = cosine > _MARGIN
            return jnp.where(
                positive, self.power * jnp.log(jnp.where(positive, cosine, 1)), -jnp.inf
            )
        return jnp.zeros_like(cosine)


def check_similarity(name: str) -> None:
    """Raises ValueError unless it is one of SIMILARITIES."""
    if name not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {SIMILARITIES}, found {name!r}")


def unit_features(features: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
    """L2-normalises each feature in float32 and returns it in the dtype of the input; a zero
    feature stays zero.

    Scaling by a power of two first keeps the norm of very large or very small features in range.
    Differentiable; the gradient of a zero feature is finite.
    """
    wide = features.astype(jnp.float32)
    # The result does not depend on this scale, so its derivative is left out. In two steps, because
    # the inverse of the largest float32 would be subnormal, and flushed to 0.
    _, exponent = jnp.frexp(jnp.max(jnp.abs(jax.lax.stop_gradient(wide)), axis=-1, keepdims=True))
    half = exponent // 2
    wide = wide * jnp.ldexp(jnp.float32(1), -half) * jnp.ldexp(jnp.float32(1), half - exponent)
    squares = jnp.sum(jnp.square(wide), axis=-1, keepdims=True)
    return (wide / jnp.sqrt(jnp.where(squares > 0, squares, 1))).astype(features.dtype)


def _coarse(unit: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """The nearest multiples of `_COARSE`."""
    return jnp.floor(unit / _COARSE + 0.5) * _COARSE  # Triton has no round


def _inverse_norm(unit: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """1/‖f̂‖ of a vector that is a unit vector but for rounding; of any size for the zero vector.

    With the coarse part g, ‖f̂‖² - 1 = (Σ g² - 1) + Σ (f̂ + g)(f̂ - g): the first is free of
    rounding and the second is small.
    """
    coarse = _coarse(unit)
    terms = (jnp.square(coarse), (unit + coarse) * (unit - coarse))
    zeros = (jnp.float32(0), jnp.float32(0))
    # In one pass, for which XLA does not write the terms to memory.
    squares, rest = jax.lax.reduce(
        terms, zeros, lambda x, y: (x[0] + y[0], x[1] + y[1]), (unit.ndim - 1,)
    )
    return 1 - 0.5 * (squares - 1 + rest)


class Directions(NamedTuple):
    """Features whose cosines are wanted.

    float32 features are unit vectors. bfloat16 ones are not normalised, which would round them once
    more, by more than a small temperature bears: the cosine is divided by their norms instead.

    Attributes:
      parts: of the channels, [...,D/P] in the dtype of the input: the products of a part are added
        up at once. They are apart in memory, so that no tile has to take them apart.
      inverse_norm: [...] float32, finite for a zero feature; None where the features are as good as
        unit vectors.
    """

    parts: tuple[Float[Array, "*n d"], ...]
    inverse_norm: Float[Array, "*n"] | None

    @property
    def exact(self) -> bool:
        """Whether `cosine` is to be exact to the last digit."""
        return self.parts[0].dtype == jnp.float32 and self.inverse_norm is not None

    def map(self, function) -> "Directions":
        """The result of a function of each array."""
        norm = None if self.inverse_norm is None else function(self.inverse_norm)
        return Directions(tuple(function(part) for part in self.parts), norm)


def directions(features: Float[Array, "b n d"], *, exact: bool) -> Directions:
    """Those of features of any scale that are free of NaN, in one part.

    Args:
      features: float32 or bfloat16.
      exact: whether cosines of float32 features are to be exact to the last digit.
    """
    if features.dtype == jnp.float32:
        unit = unit_features(features)
        # An exact kernel notices that unit vectors are rounded; their norms have no derivative.
        norm = _inverse_norm(jax.lax.stop_gradient(unit)) if exact else None
        return Directions((unit,), norm)
    wide = features.astype(jnp.float32)
    # A power of two scales without rounding.
    _, exponent = jnp.frexp(jnp.max(jnp.abs(wide), axis=-1, keepdims=True))
    wide = jnp.ldexp(wide, -exponent)
    norm = jnp.sqrt(jnp.sum(jnp.square(wide), axis=-1))
    inverse = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)
    return Directions((wide.astype(features.dtype),), inverse)


def directions_in_parts(features: Float[Array, "b n d"], kernel: Kernel) -> Directions:
    """`directions` whose cosines are as exact as a kernel needs them, of bfloat16 ones only as a
    whole: they are far from exact anyway.
    """
    longest, channels = kernel.longest_sum, features.shape[-1]
    exact = kernel.is_steep or channels > _MOST_SUMS * longest
    found = directions(features, exact=exact)
    if exact or features.dtype != jnp.float32:
        return found
    (whole,) = found.parts
    parts = tuple(whole[..., part] for part in short_slices(channels, longest))
    return Directions(parts, found.inverse_norm)


def product(
    subscripts: str, left: Float[Array, "..."], right: Float[Array, "..."]
) -> Float[Array, "..."]:
    """An einsum of two arrays in the dtype of the second, with float32 results.

    float32 operands, which a TPU or a GPU would round, are multiplied at HIGHEST precision;
    bfloat16 operands as they are, with float32 accumulation.
    """
    exact = right.dtype == jnp.float32
    return jnp.einsum(
        subscripts,
        left.astype(right.dtype),
        right,
        precision=jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )


def cosine(rows: Directions, sources: Directions) -> Float[Array, "*b r s"]:
    """c = f̂_u·f̂_v in float32, of R and of S pixels in the same parts."""
    products = functools.partial(product, "...rd,...sd->...rs")
    if rows.exact:
        (left,), (right,) = rows.parts, sources.parts
        total = exact_products(products, left, right)
    else:
        pairs = zip(rows.parts, sources.parts, strict=True)
        total = sum_in_pairs([products(left, right) for left, right in pairs])
    if rows.inverse_norm is None or sources.inverse_norm is None:
        return total
    return total * rows.inverse_norm[..., :, None] * sources.inverse_norm[..., None, :]


def short_slices(length: int, longest: int) -> list[slice]:
    """[0, length) in parts of at most so many, all but the last of the same size."""
    count = -(-length // longest)
    size = -(-length // count)  # not a short one at the end, which would take as long to add
    return [slice(start, start + size) for start in range(0, length, size)]


def sum_in_pairs(terms: list[Float[Array, "*shape"]]) -> Float[Array, "*shape"]:
    """Their sum, with the roundings of a tree instead of those of a chain."""
    while len(terms) > 1:
        terms = [functools.reduce(jnp.add, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return terms[0]


def exact_products(
    products, left: Float[Array, "*b r d"], right: Float[Array, "*b s d"]
) -> Float[Array, "*b r s"]:
    """f_u·f_v of unit vectors, with no more rounding than that of the result: at three times the
    cost.

    Each vector f is divided into a coarse part g, whose products float32 adds up without rounding,
    and a small rest: f_u·f_v = g_u·g_v + f_u·(f_v - g_v) + (f_u - g_u)·g_v.

    Args:
      products: of two arrays as these.
      left: of R pixels.
      right: of S pixels.
    """
    left_coarse, right_coarse = _coarse(left), _coarse(right)
    rest = products(left, right - right_coarse) + products(left - left_coarse, right_coarse)
    return products(left_coarse, right_coarse) + rest


def with_ones(
    values: Float[Array, "b n k"], is_source: Bool[Array, "b n"]
) -> Float[Array, "b n k+1"]:
    """[values, 1] of the sources, else 0: one product with it gives Σ κ·values and Σ κ."""
    held = jnp.concatenate([values, jnp.ones((*values.shape[:2], 1), values.dtype)], axis=-1)
    return jnp.where(is_source[..., None], held, 0)


def pair_mask(
    row_index: Int[Array, " r"],
    source_index: Int[Array, " s"],
    is_source: Bool[Array, "*b s"],
    row_labels: Int[Array, "*b r"] | None,
    source_labels: Int[Array, "*b s"] | None,
    exclude_self: bool,
) -> Bool[Array, "*b r s"]:
    """M_uv: v is a source ∧ of the class of u, if labels are given ∧ not u, if exclude_self."""
    mask = is_source[..., None, :]
    if row_labels is not None and source_labels is not None:
        mask = mask & (row_labels[..., :, None] == source_labels[..., None, :])
    if exclude_self:
        mask = mask & (row_index[:, None] != source_index[None, :])
    shape = (*is_source.shape[:-1], row_index.size, source_index.size)
    return jnp.broadcast_to(mask, shape)
