"""The public function: checks what comes in, picks an implementation, and applies it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from pals_jax.affinity import checks, dense, kernels, linear, pallas, tiled
from pals_jax.affinity.kernels import Kernel


class _Implementation(NamedTuple):
    aggregate: Callable[..., tuple[Array, Array]]
    similarities: tuple[str, ...] = kernels.SIMILARITIES
    shares_an_image: bool = False  # among the devices of a mesh


# Adding an implementation is one file and one line.
_IMPLEMENTATIONS = {
    "dense": _Implementation(dense.aggregate),
    "tiled": _Implementation(tiled.aggregate, shares_an_image=True),
    "linear": _Implementation(linear.aggregate, linear.SIMILARITIES),
    "pallas": _Implementation(pallas.aggregate),
}
IMPLEMENTATIONS = ("auto", *_IMPLEMENTATIONS)


def able(similarity: str, mesh: Mesh | None = None) -> list[str]:
    """The implementations that can do a similarity, on a mesh if one is given, "auto" first.

    Raises:
      ValueError: there is no such similarity, or the mesh is none.
    """
    kernels.check_similarity(similarity)
    checks.require_mesh(mesh)
    return ["auto"] + [
        name
        for name, known in _IMPLEMENTATIONS.items()
        if similarity in known.similarities and (mesh is None or known.shares_an_image)
    ]


def choose(
    features: Float[Array, "b n d"],
    values: Float[Array, "b n k"],
    *,
    similarity: str = "exp_cosine",
    labels: Int[Array, "b n"] | None = None,
    mesh: Mesh | None = None,
) -> tuple[str, str]:
    """The implementation that `implementation="auto"` picks, and why.

    Args:
      features: that of `aggregate`; of all arrays only shape and dtype are read, so a
        `jax.ShapeDtypeStruct` does as well.
      values: likewise.
      similarity: likewise.
      labels: likewise.
      mesh: likewise.

    Returns:
      The name of the implementation and the reason in words.

    Raises:
      ValueError: an argument has a wrong shape or value.
    """
    _check_arrays(features, values, None, labels, None)
    kernels.check_similarity(similarity)
    checks.require_mesh(mesh)
    if mesh is not None:
        return "tiled", "a mesh is given, to divide the work on each image among its devices"
    batch, pixels, _ = features.shape
    if similarity in linear.SIMILARITIES:
        is_linear = f"{similarity} is linear in the cosine"
        if labels is None:
            return "linear", f"{is_linear}: sums over the image serve all rows"
        classes = values.shape[2]  # labels may have as many
        if pixels >= linear.PIXELS_PER_SUM * classes**2:
            return "linear", f"{is_linear}: sums over each class serve its rows"
        return "tiled", f"sums over up to {classes} classes take longer than {pixels}² pairs"
    mib = batch * pixels**2 * 4 / 2**20
    needed = f"{batch} x {pixels}² float32 affinities would take {mib:.3g} MiB"
    return "tiled", f"{needed}; tile by tile they need O(N), and no more time on a CPU"


def aggregate(
    features: Float[Array, "b n d"],
    values: Float[Array, "b n k"],
    *,
    similarity: str = "exp_cosine",
    temperature: float = 0.1,
    power: float = 1.0,
    valid: Bool[Array, "b n"] | None = None,
    labels: Int[Array, "b n"] | None = None,
    correct: Bool[Array, "b n"] | None = None,
    exclude_self: bool = True,
    implementation: str = "auto",
    tile_size: int | None = None,
    mesh: Mesh | None = None,
) -> tuple[Float[Array, "b n k"], Bool[Array, "b n"]]:
    """Aggregates the values of all pixels of an image by the affinity of their features.

        q_u = Σ_v A_uv values_v,   A_uv = M_uv κ(f_u, f_v) / Σ_w M_uw κ(f_u, f_w)

    A reconstruction from the abstract of PALS (Sensors 2022, 22(7), 2623): the abstract names a
    similarity matrix that encodes the affinities between all pairs of pixels; κ, its temperature
    and the masks are ours.

    With c the cosine of f_u and f_v, κ is exp((c - 1)/τ) for "exp_cosine", (1 + c)/2 for
    "linear_cosine", relu(c)^power for "relu_cosine" and 1 for "uniform". A zero feature has cosine
    0 with everything, itself included. Source v serves row u iff valid_v ∧ correct_v ∧ (labels_u =
    labels_v, if given) ∧ (u ≠ v, if exclude_self).

    float32 inputs are multiplied at `Precision.HIGHEST`; bfloat16 inputs in bfloat16 with float32
    accumulation, by "linear" as float32. Features are never rounded further, so bfloat16 ones give
    the result of what they hold, to some 10⁻⁶/τ or 10⁻⁶·power; weights are rounded to the dtype of
    the values. No gradient flows through the result.

    Compiled at the first call with new shapes or options.

    Args:
      features: [B,N,D] float32 or bfloat16. One that is NaN or inf in a valid pixel makes the whole
        image NaN, so that it is noticed.
      values: [B,N,K] float32 or bfloat16, for PALS the class probabilities of each pixel. A source
        that is NaN makes its rows NaN, for some implementations the image.
      similarity: "exp_cosine", "linear_cosine", "relu_cosine" or "uniform".
      temperature: τ ≥ 10⁻³⁰, used by exp_cosine only. A static Python number.
      power: exponent ≥ 1, used by relu_cosine only. A static Python number.
      valid: [B,N]; False takes the pixel out as a row and as a source, whatever it holds, NaN and
          inf included.
      labels: [B,N] integers in the range of int32; restricts the sources of a row to pixels of its
          own label.
      correct: [B,N]; False takes the pixel out as a source only.
      exclude_self: whether a pixel never serves itself.
      implementation: "dense" (one matrix, the reference), "tiled" (O(N) memory), "linear" (for
          linear_cosine and uniform: no pairs, unless the sources of a row are nearly all opposite
          to it or labels have more classes than √(N/4); under `vmap` pairs are computed in any
          case), "pallas" (fused kernels for
          GPU and TPU, interpreted elsewhere), or "auto" (see `choose`).
      tile_size: rows and sources per tile of "tiled", which takes 512 at most, and "pallas"; both
        have defaults. No matter to the others. That of "pallas" must be a power of two from 16 on a
        GPU, a multiple of 128 on a TPU.
      mesh: divides the work on each image among its devices, "tiled" only, for one large image.
        Inputs that are sharded themselves must be so over axes of type Auto.
        None leaves the distribution to JAX, which divides a batch over devices by itself; only of
        "pallas" each device then computes the whole batch.

    Returns:
      aggregated: [B,N,K] float32, 0 in rows without a source.
      has_source: [B,N] bool, valid_u ∧ (Σ_v M_uv κ_uv > 0). Underflow never turns it off. A cosine
        within 3·10⁻⁶ of the value where relu_cosine or linear_cosine become 0 counts as that value;
        where all sources of a row are within 10⁻³ of it, for relu_cosine within power·10⁻³, the
        rounding of the cosines shows.

    Raises:
      ValueError: a shape, dtype or option is wrong; the message names the argument, what was found
          and what fits.

    Example:
      >>> features = jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
      >>> values = jnp.eye(3)[None]
      >>> q, _ = aggregate(features, values, similarity="uniform")
      >>> q[0, 0].tolist()
      [0.0, 0.5, 0.5]
    """
    _check_arrays(features, values, valid, labels, correct)
    kernel = Kernel(similarity, temperature, power)
    whole = isinstance(tile_size, int | np.integer) and not isinstance(tile_size, bool)
    if tile_size is not None and not (whole and tile_size >= 1):
        raise ValueError(f"tile_size must be a whole number from 1 or None, found {tile_size!r}")
    if not isinstance(exclude_self, bool | np.bool_):
        raise ValueError(
            f"exclude_self must be True or False, known when a function is compiled; found "
            f"{exclude_self!r}"
        )
    checks.require_mesh(mesh)
    if implementation not in ("auto", *_IMPLEMENTATIONS):
        raise ValueError(
            f"implementation must be one of {['auto', *_IMPLEMENTATIONS]}, found {implementation!r}"
        )
    if implementation not in (can := able(similarity, mesh)):
        raise ValueError(
            f"implementation {implementation!r} cannot do similarity {similarity!r}"
            + (" on a mesh" if mesh is not None else "")
            + f"; these can: {can}"
        )
    if implementation == "auto":
        implementation, _ = choose(
            features, values, similarity=similarity, labels=labels, mesh=mesh
        )
    return _apply(
        features,
        values,
        valid,
        labels,
        correct,
        implementation=implementation,
        kernel=kernel,
        exclude_self=bool(exclude_self),
        tile_size=None if tile_size is None else int(tile_size),
        mesh=mesh,
    )


# Compiled here, because loops without a `jit` around them would be compiled at each call.
@functools.partial(
    jax.jit, static_argnames=("implementation", "kernel", "exclude_self", "tile_size", "mesh")
)
def _apply(features, values, valid, labels, correct, *, implementation, kernel, **options):
    """`aggregate` of what it has checked."""
    features, values = jax.lax.stop_gradient((features, values))
    if valid is None:
        valid = jnp.ones(features.shape[:2], bool)
    features = jnp.where(valid[..., None], features, 0)
    is_source = valid if correct is None else valid & correct
    values = jnp.where(is_source[..., None], values, 0)
    aggregated, served = _IMPLEMENTATIONS[implementation].aggregate(
        features, values, is_source, labels, kernel, **options
    )
    # The comparisons of the masks are False for NaN, which would pass for a row without sources.
    broken = ~jnp.isfinite(jnp.max(jnp.abs(features), axis=(1, 2)))[:, None]
    has_source = valid & (served | broken)
    aggregated = jnp.where(broken[..., None], jnp.nan, aggregated)
    return jnp.where(has_source[..., None], aggregated, 0), has_source


def _check_arrays(features, values, valid, labels, correct) -> None:
    checks.require_channels("features", features)
    checks.require_channels("values", values)
    if values.shape[:2] != features.shape[:2]:
        raise ValueError(
            f"values must have the batch and pixels of features {features.shape}, found "
            f"{values.shape}"
        )
    checks.require_mask("valid", valid, features)
    checks.require_labels(labels, features)
    checks.require_mask("correct", correct, features)
