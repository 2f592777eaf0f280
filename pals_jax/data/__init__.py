"""Data sets, subsets, augmentation and the training pipeline.

Importing this package needs NumPy, OpenCV and Pillow only. TensorFlow Datasets is imported when a
split is opened, grain when batches are made, JAX when `soft_downsample` is asked for, TensorFlow
never.
"""

from typing import TYPE_CHECKING, Any

from pals_jax.data.augment import Augmentation, augment
from pals_jax.data.catalog import CATALOG, Dataset, dataset_info, default_palette
from pals_jax.data.errors import DataError
from pals_jax.data.folder import Pair, list_images, scan
from pals_jax.data.images import image_size, read_image, read_mask
from pals_jax.data.pipeline import Batch, TrainBatches
from pals_jax.data.places import places, shared
from pals_jax.data.read_ahead import read_ahead
from pals_jax.data.source import Example, Examples, Source, open_split
from pals_jax.data.splits import DEV, open_evaluation, open_training, require_held_out
from pals_jax.data.subsets import ids_hash, nested_subset, select, split_dev

if TYPE_CHECKING:
    from pals_jax.downsample import soft_downsample

__all__ = [
    "CATALOG",
    "DEV",
    "Augmentation",
    "Batch",
    "DataError",
    "Dataset",
    "Example",
    "Examples",
    "Pair",
    "Source",
    "TrainBatches",
    "augment",
    "dataset_info",
    "default_palette",
    "ids_hash",
    "image_size",
    "list_images",
    "nested_subset",
    "open_evaluation",
    "open_split",
    "open_training",
    "places",
    "read_ahead",
    "read_image",
    "read_mask",
    "require_held_out",
    "scan",
    "select",
    "shared",
    "soft_downsample",
    "split_dev",
]


def __getattr__(name: str) -> Any:
    """Imports what needs JAX at its first use: the processes that load images do without."""
    if name != "soft_downsample":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pals_jax.downsample import soft_downsample

    return soft_downsample
