"""Predictions at each image's own resolution, in batches of a few fixed shapes.

A set whose images have few sizes is predicted without any padding. A set of many sizes is padded at
the right and the bottom to few shapes, because every shape is compiled once; the network is told
which pixels are real, and the padding changes nothing for them.
"""

import collections
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from pals_jax import data
from pals_jax.downsample import box_downsample
from pals_jax.models import Apply
from pals_jax.progress import format_duration
from pals_jax.resize import upsample
from pals_jax.state import Network
from pals_jax.step import normalise
from pals_jax.views import Views

Size = tuple[int, int]  # height, width

# Sizes are first rounded up to a multiple of a power of two that leaves at most this many, then
# merged in pairs.
_SIZES_TO_MERGE = 64

# Per device and batch: half a gigabyte in float32.
_PROBABILITIES = 2**27

# Between two lines that tell how far it is.
_QUIET_SECONDS = 15.0


class PaddedBatch(NamedTuple):
    """Images of one padded shape; the last batch of a shape is filled up with empty images that
    have no id.

    Attributes:
      image: [B,H,W,3], zeros where not valid.
      valid: [B,H,W], False in the padding.
      label: [B,H,W] int32, `ignore` in the padding; None where the examples have none.
      ids: of the images, at most B.
      sizes: of the images.
    """

    image: np.ndarray
    valid: np.ndarray
    label: np.ndarray | None
    ids: list[str]
    sizes: list[Size]


def sizes_of(examples: data.Examples) -> list[Size]:
    """(height, width) of each example, from its `sizes` where it has them, else by decoding it."""
    known = getattr(examples, "sizes", None)
    if known is not None:
        return list(known)
    return [examples[i]["image"].shape[:2] for i in range(len(examples))]


def padded_shapes(sizes: Iterable[Size], most: int) -> dict[Size, Size]:
    """Maps every size to the shape that it is padded to; at most `most` shapes.

    Sizes stay as they are if there are at most `most` of them. Otherwise the two shapes whose
    common hull adds the fewest pixels are merged until `most` are left.
    """
    counts = collections.Counter(sizes)
    if len(counts) <= most:
        return {size: size for size in counts}
    unit = 1
    while len({_round_up(size, unit) for size in counts}) > max(most, _SIZES_TO_MERGE):
        unit *= 2
    shapes: collections.Counter[Size] = collections.Counter()
    for size, count in counts.items():
        shapes[_round_up(size, unit)] += count
    while len(shapes) > most:
        first, second = min(_pairs(list(shapes)), key=lambda pair: _added_pixels(pair, shapes))
        count = shapes.pop(first) + shapes.pop(second)
        shapes[_hull(first, second)] += count
    ordered = sorted(shapes, key=math.prod)
    return {size: next(s for s in ordered if _hull(s, size) == s) for size in counts}


def _round_up(size: Size, unit: int) -> Size:
    return -(-size[0] // unit) * unit, -(-size[1] // unit) * unit


def _hull(first: Size, second: Size) -> Size:
    return max(first[0], second[0]), max(first[1], second[1])


def _pairs(shapes: list[Size]) -> Iterator[tuple[Size, Size]]:
    return ((a, b) for i, a in enumerate(shapes) for b in shapes[i + 1 :])


def _added_pixels(pair: tuple[Size, Size], counts: collections.Counter[Size]) -> int:
    hull = math.prod(_hull(*pair))
    return sum(counts[shape] * (hull - math.prod(shape)) for shape in pair)


def plan(
    sizes: Sequence[Size], num_classes: int, config: ConfigDict, mesh: Mesh
) -> tuple[dict[Size, Size], dict[Size, int]]:
    """The padded shape of each size, and the images per batch of each shape.

    Args:
      sizes: of all images.
      num_classes: K.
      config: `config.eval`.
      mesh: whose devices share a batch.
    """
    shapes = padded_shapes(sizes, config.max_shapes)
    # The largest view decides what a device can hold.
    per_pixel = math.ceil(num_classes * max(1, *config.scales) ** 2)
    return shapes, rows_per_shape(sizes, shapes, per_pixel, config.batch_size, mesh)


def padded_batches(
    examples: Iterable[dict[str, Any]],
    shapes: dict[Size, Size],
    rows: dict[Size, int],
    ignore: int,
) -> Iterator[PaddedBatch]:
    """Groups examples by padded shape; every example comes out exactly once.

    Args:
      examples: dicts with "image" [H,W,3], "id", and "label" [H,W] or none.
      shapes: the padded shape of each size, from `plan`.
      rows: images per batch of each padded shape, from `plan`.
      ignore: label of the padding.
    """
    waiting = collections.defaultdict(list)
    for example in examples:
        shape = shapes[example["image"].shape[:2]]
        waiting[shape].append(example)
        if len(waiting[shape]) == rows[shape]:
            yield _pad(waiting.pop(shape), shape, rows[shape], ignore)
    for shape, rest in waiting.items():
        yield _pad(rest, shape, rows[shape], ignore)


def told(batches: Iterable[PaddedBatch], total: int, done: str) -> Iterator[PaddedBatch]:
    """Passes batches on and tells now and then how many images are done, and the time left.

    The first batch of each shape compiles, so its time does not count.

    Args:
      batches: done when the next is asked for.
      total: images in all of them.
      done: what happened to an image, as "predicted".
    """
    before = last = time.monotonic()
    images = counted = shown = 0
    seconds = 0.0
    compiled = set()
    for batch in batches:
        yield batch
        images += len(batch.ids)
        now = time.monotonic()
        if batch.image.shape in compiled:
            counted += len(batch.ids)
            seconds += now - before
        compiled.add(batch.image.shape)
        before = now
        if now - last >= _QUIET_SECONDS:
            left = ""
            if counted:
                left = f"  ETA {format_duration((total - images) * seconds / counted)}"
            print(f"{done} {images}/{total} images{left}", flush=True)
            last, shown = now, images
    if shown not in (0, images):
        print(f"{done} {images}/{total} images", flush=True)


def _pad(
    examples: Sequence[data.Example], shape: Size, batch_size: int, ignore: int
) -> PaddedBatch:
    dtypes = {str(example["image"].dtype): example["id"] for example in examples}
    if len(dtypes) > 1:  # bytes would be read as fractions, or fractions rounded to bytes
        raise data.DataError(f"all images must have one dtype, found {dtypes}")
    image = np.zeros((batch_size, *shape, 3), examples[0]["image"].dtype)
    valid = np.zeros((batch_size, *shape), bool)
    labelled = "label" in examples[0]
    label = np.full((batch_size, *shape), ignore, np.int32) if labelled else None
    for row, example in enumerate(examples):
        height, width = example["image"].shape[:2]
        image[row, :height, :width] = example["image"]
        valid[row, :height, :width] = True
        if label is not None:
            label[row, :height, :width] = example["label"]
    sizes = [example["image"].shape[:2] for example in examples]
    return PaddedBatch(image, valid, label, [example["id"] for example in examples], sizes)


def probabilities(
    apply: Apply,
    network: Network,
    image: Array,
    valid: Bool[Array, "b h w"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    downsample: int = 1,
    views: Views | None = None,
) -> Float[Array, "b h w k"]:
    """Class probabilities in evaluation mode at the resolution of the image: softmax of the
    upsampled logits, averaged over views.

    Args:
      apply: the pure function of the network.
      network: parameters and statistics.
      image: [B,H,W,3] uint8, or floating point in [0, 1].
      valid: False in the padding, which is set to the mean colour.
      mean: of the normalisation that the network was trained with.
      std: likewise.
      downsample: factor by which the network was trained on smaller images.
      views: None for the whole image as it is.
    """

    def predict(images: Float[Array, "b h w 3"], valid: Bool[Array, "b h w"]) -> Array:
        cells = valid[:, ::downsample, ::downsample]  # of what the network sees, those with a pixel
        seen = jnp.where(cells[..., None], box_downsample(images, downsample, valid), 0)
        outputs, _ = apply(network.params, network.statistics, seen, train=False, valid=cells)
        size = (images.shape[1], images.shape[2])
        return jax.nn.softmax(upsample(outputs.logits, size, valid, downsample))

    averaged = predict if views is None else views.average(predict)
    return averaged(normalise(image, mean, std), valid)


def rows_per_shape(
    sizes: Iterable[Size], shapes: dict[Size, Size], per_pixel: int, batch_size: int, mesh: Mesh
) -> dict[Size, int]:
    """Images per batch of each padded shape: a multiple of the devices, and no more than needed.

    Args:
      sizes: of all images.
      shapes: from `padded_shapes`.
      per_pixel: probabilities for each pixel of an image.
      batch_size: the most, but for the rounding up; fewer of large images, such that a device holds
        at most `_PROBABILITIES` at once, or those of one image.
      mesh: whose devices share a batch.
    """
    counts = collections.Counter(shapes[size] for size in sizes)
    rows = {}
    for shape, count in counts.items():
        in_memory = mesh.size * max(1, _PROBABILITIES // (per_pixel * math.prod(shape)))
        wanted = min(batch_size, count, in_memory)
        rows[shape] = -(-wanted // mesh.size) * mesh.size
    return rows
