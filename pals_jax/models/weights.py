"""Weights of networks under PyTorch's names and in its layout: ImageNet weights in, networks out.

A ResNet of torchvision and the backbone here have the same modules, so the names differ in the last
word only:

    layer1.0.conv1.weight [out,in,h,w]     params      layer1/0/conv1/kernel [h,w,in,out]
    bn1.weight, bn1.bias                   params      bn1/scale, bn1/bias
    bn1.running_mean, bn1.running_var      statistics  bn1/mean, bn1/var

and the classifiers of whole networks, 1×1 convolutions in PyTorch, are `kernel` [in,out] here.
"""

import collections
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from pals_jax.errors import WeightsError
from pals_jax.files import replacing
from pals_jax.models import torch_file
from pals_jax.models.functional import Params, Statistics

_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

# What a backbone has no use for: the classifier of ImageNet, and PyTorch's count of batches.
_NOT_TAKEN = re.compile(r"fc\.(weight|bias)|.*\.num_batches_tracked")

_STEM = "conv1.weight"
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.")

_BACKBONE = "backbone."  # in a state dict of a whole network
_PARALLEL = "module."  # in one of PyTorch's DataParallel

# The blocks of torchvision's networks that have configurations here.
_PUBLISHED = {
    "resnet18": "2, 2, 2, 2 blocks",
    "resnet34": "3, 4, 6, 3 blocks",
    "resnet50": "3, 4, 6, 3 bottleneck blocks",
    "resnet101": "3, 4, 23, 3 bottleneck blocks",
}

_SHOWN = 20  # names on each side of a mismatch

# Published files end in the first digits of their SHA-256, as resnet50-0676ba61.pth.
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.(pth|safetensors)$")


# Of torchvision, its first weights of each.
_FILES = (
    "resnet18-f37072fd.pth",
    "resnet34-b627a593.pth",
    "resnet50-0676ba61.pth",
    "resnet101-63fe2227.pth",
)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name.

    Args:
      path: of a .pth file, see `torch_file.read`, or a .safetensors file.

    Raises:
      WeightsError: the file cannot be read, is cut off or damaged, or is of another kind.
    """
    _require_file(path)
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise WeightsError(f"{path}: weights are a .pth or a .safetensors file")
    if published := _DIGEST.search(path.name):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(published[1]):
            raise WeightsError(
                f"{path} is not what its name says: its SHA-256 begins {found[:8]}. Download it "
                f"again; it may be cut off. If {published[1]} is no checksum, rename the file"
            )
    if path.suffix != ".safetensors":
        return torch_file.read(path)
    with _opened(path) as file:
        return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def load_backbone(
    path: Path, params: Params, statistics: Statistics
) -> tuple[Params, Statistics, str]:
    """Puts the weights of a file into the backbone of a network, all or none.

    Args:
      path: of a ResNet with torchvision's names, each perhaps behind "module.", as training on
        several GPUs saves it; or of a whole network by `save`.
      params: of the network, whose other parts stay as they are.
      statistics: likewise.

    Returns:
      (params, statistics, a report of what was taken and what was not).

    Raises:
      WeightsError: see `read`; or names or shapes are those of another network; both sides are
        listed.
    """
    found = read(path)
    if all(name.startswith(_PARALLEL) for name in found):
        found = {name.removeprefix(_PARALLEL): array for name, array in found.items()}
    whole = any(name.startswith(_BACKBONE) for name in found)
    prefix = _BACKBONE if whole else ""
    left = sorted(
        name
        for name in found
        if not name.startswith(prefix) or _NOT_TAKEN.fullmatch(name.removeprefix(prefix))
    )
    given = {name.removeprefix(prefix): found[name] for name in found.keys() - set(left)}
    trees = {"params": params["backbone"], "statistics": statistics["backbone"]}
    wanted = _by_torch_name(trees)
    _check_same(path, given, {name: _torch_shape(leaf) for name, leaf in wanted.items()})
    leaves = [_from_torch(given[name], leaf) for name, leaf in wanted.items()]
    loaded = jax.tree.unflatten(jax.tree.structure(trees), leaves)
    counts = sum(name.endswith("num_batches_tracked") for name in left)
    others = [name for name in left if not name.endswith("num_batches_tracked")]
    others += [f"{counts} num_batches_tracked"] * (counts > 0)
    report = f"weights: all {len(given)} arrays of the backbone are those of {path}"
    if others:
        report += f"; not taken: {_some(others)}"
    return (
        {**params, "backbone": loaded["params"]},
        {**statistics, "backbone": loaded["statistics"]},
        report,
    )


def check_normalisation(path: Path, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuses another normalisation of inputs than the weights were trained with, if a .safetensors
    file says so in its metadata (mean and std, JSON lists). A .pth file says nothing; torchvision's
    were trained with the default of `config.model`.

    Args:
      path: of the weights.
      mean: `config.model.mean`.
      std: `config.model.std`.

    Raises:
      WeightsError: it is another; or the file cannot be read.
    """
    _require_file(path)
    if path.suffix != ".safetensors":
        return
    with _opened(path) as file:
        metadata = file.metadata() or {}
    for name, asked in (("mean", mean), ("std", std)):
        if name not in metadata:
            continue
        said = _three_numbers(metadata[name])
        if said is None:
            raise WeightsError(
                f"{path}: its metadata hold {name} {metadata[name]}; expected a JSON list of three "
                "numbers in [0, 1], for images in [0, 1]"
            )
        if said != list(asked):
            raise WeightsError(
                f"{path} was trained on images normalised by {name} {said}, but "
                f"config.model.{name} is {tuple(asked)}: set --config.model.{name}="
                f'"{tuple(said)}"'
            )


def _require_file(path: Path) -> None:
    if not path.is_file():
        found = "this is a folder, not a file" if path.is_dir() else "there is no such file"
        raise WeightsError(
            f"{path}: {found} of weights. Download it first; those of torchvision, "
            f"{', '.join(_FILES)}, lie below https://download.pytorch.org/models/"
        )


def _three_numbers(text: str) -> list[float] | None:
    """A JSON list of three numbers in [0, 1]; None for anything else."""
    try:
        found = json.loads(text)
        return found if len(found) == 3 and all(0 <= number <= 1 for number in found) else None
    except (TypeError, ValueError):
        return None


def to_state_dict(params: Params, statistics: Statistics) -> dict[str, np.ndarray]:
    """Parameters and statistics under PyTorch's names, in its layout; of float32.

    A network in PyTorch with the modules of `pals_jax.models` takes it by `load_state_dict`; that
    of the backbone alone, torchvision's ResNet, whose `fc` is missing.
    """
    trees = {"params": params, "statistics": statistics}
    return {name: _to_torch(leaf) for name, leaf in _by_torch_name(trees).items()}


def save(path: Path, params: Params, statistics: Statistics, metadata: dict[str, Any]) -> None:
    """Writes a state dict as a .safetensors file.

    Args:
      path: to write.
      params: of the network.
      statistics: likewise.
      metadata: JSON values that go with it, as mean, std and classes.
    """
    arrays = to_state_dict(params, statistics)
    with replacing(path) as written:
        # Not its `save_file`, whose files nobody else may read.
        written.write_bytes(
            safetensors.numpy.save(arrays, {k: json.dumps(v) for k, v in metadata.items()})
        )


def _by_torch_name(trees: Any) -> dict[str, Any]:
    """The leaves of {"params": …, "statistics": …} in the order of JAX."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        _, *modules, name = (entry.key for entry in path)
        named[".".join([*modules, _NAMES.get(name, name)])] = leaf
    return named


def _torch_shape(leaf: Any) -> tuple[int, ...]:
    if leaf.ndim == 2:  # a classifier
        return (leaf.shape[1], leaf.shape[0], 1, 1)
    return (leaf.shape[3], leaf.shape[2], *leaf.shape[:2]) if leaf.ndim == 4 else leaf.shape


def _to_torch(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf, np.float32)
    if array.ndim == 2:
        array = array[None, None]
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)


def _from_torch(array: np.ndarray, like: Any) -> np.ndarray:
    array = np.asarray(array, np.float32)
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(array.reshape(like.shape))


def _check_same(
    path: Path, given: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]]
) -> None:
    """Raises a WeightsError unless both have the same names with the same shapes."""
    only_given = sorted(given.keys() - wanted.keys())
    only_wanted = sorted(wanted.keys() - given.keys())
    shapes = [
        f"{name} {given[name].shape} and {wanted[name]}"
        for name in sorted(given.keys() & wanted.keys())
        if given[name].shape != wanted[name]
    ]
    not_numbers = [n for n in sorted(given) if not np.issubdtype(_kind(given[n]), np.floating)]
    if only_given or only_wanted or shapes:
        whole = bool(given.get(_STEM, np.zeros(())).shape)  # else the width is not known
        layouts = [_layout({n: array.shape for n, array in given.items()}), _layout(wanted, whole)]
        what = "does not fit the backbone, though its stages are the same"
        if not any(_BLOCK.match(name) for name in given):
            what = "holds no ResNet with torchvision's names, as layer1.0.conv1.weight"
        elif layouts[0] != layouts[1]:
            what = (
                f"is of another network than config.model.name and config.model.width: its stages "
                f"have {layouts[0]}, those of the backbone {layouts[1]}{_named_after(layouts[0])}"
            )
        raise WeightsError(
            f"{path} {what}\n"
            f"  only in the file ({len(only_given)}): {_some(only_given)}\n"
            f"  only in the backbone ({len(only_wanted)}): {_some(only_wanted)}\n"
            f"  of another shape, in the file and in the backbone ({len(shapes)}): {_some(shapes)}"
        )
    with np.errstate(over="ignore"):  # of float64, told below
        bad = [n for n in sorted(given) if not np.isfinite(np.float32(given[n])).all()]
    bad = not_numbers + bad
    bad += [n for n in sorted(given) if n.endswith("running_var") and (given[n] < 0).any()]
    if bad:
        raise WeightsError(
            f"{path} holds arrays that are no finite floats, or negative variances: {_some(bad)}"
        )


def _layout(shapes: dict[str, tuple[int, ...]], with_width: bool = True) -> str:
    """The blocks of each stage and the width, as "3, 4, 6, 3 bottleneck blocks of width 64"."""
    found = [_BLOCK.match(name) for name in shapes]
    stages = collections.Counter(stage for stage, _ in {m.groups() for m in found if m})
    blocks = ", ".join(str(stages[stage]) for stage in sorted(stages))
    kind = "bottleneck " if any(_BLOCK.sub("", name) == "conv3.weight" for name in shapes) else ""
    stem = shapes.get(_STEM) if with_width else None
    width = f" of width {stem[0]}" if stem else ""
    return f"{blocks} {kind}blocks{width}"


def _named_after(layout: str) -> str:
    """Which setting fits the blocks of a ResNet of torchvision, as a hint."""
    for name, blocks in _PUBLISHED.items():
        if layout == f"{blocks} of width 64":
            return f"; --config.model.name=deeplabv3plus_{name} --config.model.width=64 has these"
    return ""


def _kind(array: np.ndarray) -> Any:
    """bfloat16, which NumPy does not count among the floats, as float32."""
    return np.float32 if array.dtype.name == "bfloat16" else array.dtype


def _some(names: list[str]) -> str:
    more = f", … ({len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        # Not "numpy", which knows no bfloat16.
        with safetensors.safe_open(path, framework="flax") as file:
            yield file
    except AttributeError as error:  # of a dtype that NumPy has not, as float8
        raise WeightsError(f"{path} holds arrays of a type that is not read ({error})") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is cut off or no .safetensors file ({error})") from None
