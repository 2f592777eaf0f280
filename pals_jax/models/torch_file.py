"""Reads the tensors of a file that `torch.save` wrote, without PyTorch and without running it.

Such a file is a pickle, and a pickle is a program: `pickle.load` calls whatever it names. Here it
can name nothing but the few constructors below, which are ours and have no state that it could
change, so it can do nothing but describe tensors. PyTorch 1.6 and later write a zip archive with
the pickle and one entry per storage; earlier ones, and so many published networks, a row of pickles
with the storages behind them.
"""

import collections
import contextlib
import functools
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from pals_jax.errors import WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Storage(NamedTuple):
    """Where the numbers of a tensor lie; `kind` is a key of _STORAGES."""

    kind: str
    key: str
    length: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return _STORAGES[self.kind]


class _Tensor(NamedTuple):
    """A view of a storage, in units of its elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name.

    Args:
      path: of a file by `torch.save(network.state_dict(), path)`, of any version since 0.1.10; or
        of a checkpoint that has the state dict under "state_dict".

    Raises:
      WeightsError: the file is cut off, is of another kind, names anything but tensors, or is no
        mapping from names to tensors.
    """
    try:
        with path.open("rb") as file, _explaining(path):
            if zipfile.is_zipfile(file):
                return _read_zip(path, file)
            file.seek(0)
            begin = file.read(9)
            header = int.from_bytes(begin[:8], "little")
            if begin[8:] == b"{" and header < path.stat().st_size:
                raise WeightsError(f"{path} seems to be a .safetensors file: give it that ending")
            if begin[:2] == b"PK":
                raise WeightsError(f"{path} is a zip archive that is cut off: download it again")
            return _read_legacy(path, file)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None


def _read_zip(path: Path, file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        described = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(described) != 1:
            raise WeightsError(
                f"{path} is a zip archive, but none of `torch.save`: it has {len(described)} "
                "entries data.pkl"
            )
        folder = described[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            order = archive.read(f"{folder}byteorder")
            if order != b"little":
                raise WeightsError(f"{path} was written on a machine of {order!r} byte order")
        found = _state_dict(path, _Unpickler(archive.open(described[0]), path).load())

        @functools.cache  # tensors may share one
        def content(key: str) -> bytes:
            return archive.read(f"{folder}data/{key}")

        return _arrays(path, found, lambda wanted: content(wanted.key))


def _read_legacy(path: Path, file: IO[bytes]) -> dict[str, np.ndarray]:
    file.seek(0)
    if _Unpickler(file, path).load() != _LEGACY_MAGIC:
        raise WeightsError(f"{path} is no file of `torch.save`")
    protocol = _Unpickler(file, path).load()
    system = _Unpickler(file, path).load()
    if protocol != _LEGACY_PROTOCOL or not system.get("little_endian"):
        raise WeightsError(
            f"{path} was written with protocol {protocol} on {system}; expected protocol "
            f"{_LEGACY_PROTOCOL} and little-endian numbers"
        )
    described = _Unpickler(file, path)
    found = _state_dict(path, described.load())
    storages = {}
    for key in _Unpickler(file, path).load():
        (length,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(length * described.storages[key].dtype.itemsize)
    return _arrays(path, found, lambda wanted: storages[wanted.key])


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Whatever goes wrong with the bytes of a file is a WeightsError."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:  # pickle, zipfile and struct raise a dozen kinds on broken files
        raise WeightsError(
            f"{path} is cut off or no file of `torch.save` ({type(error).__name__}: {error}): "
            "download it again"
        ) from None


class _Unpickler(pickle.Unpickler):
    """Knows tensors and ordered dicts, and refuses every other name.

    Attributes:
      storages: that were named, by key.
    """

    def __init__(self, file: IO[bytes], path: Path):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in _REBUILD:
            return _REBUILD[name]
        if module == "torch" and name in _STORAGES:
            return name  # not the dtype itself, whose state a pickle could set
        raise WeightsError(
            f"{self._path} names {module}.{name}, which is no tensor and is not run. Save the "
            "tensors alone: torch.save(network.state_dict(), path)"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _, length, *view = pid
        if what != "storage" or kind not in _STORAGES or any(view):
            raise WeightsError(f"{self._path} holds a {what} {view or ''}; expected tensors")
        return self.storages.setdefault(key, _Storage(kind, key, length))


class _RebuildTensor:
    """Called by a pickle. Without a `__dict__`, unlike a function, it cannot be changed by it."""

    __slots__ = ()

    def __call__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_
    ) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
    """As `_RebuildTensor`."""

    __slots__ = ()

    def __call__(self, tensor: _Tensor, *_: Any) -> _Tensor:
        return tensor


_REBUILD = {
    "_rebuild_tensor": _RebuildTensor(),
    "_rebuild_tensor_v2": _RebuildTensor(),
    "_rebuild_parameter": _RebuildParameter(),
}


def _state_dict(path: Path, found: Any) -> dict[str, _Tensor]:
    """What was saved, if that is a mapping from names to tensors."""
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}; expected a state dict")
    if isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    others = [str(name) for name, value in found.items() if not isinstance(value, _Tensor)]
    if others:
        raise WeightsError(
            f"{path} is no state dict, since these are no tensors: {', '.join(others[:10])}. Save "
            "the state dict alone: torch.save(network.state_dict(), path)"
        )
    return {str(name): tensor for name, tensor in found.items()}


def _arrays(
    path: Path, found: dict[str, _Tensor], storage: Callable[[_Storage], bytes]
) -> dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in found.items():
        dtype, data = tensor.storage.dtype, storage(tensor.storage)
        last = tensor.offset + sum(
            (length - 1) * stride
            for length, stride in zip(tensor.shape, tensor.strides, strict=True)
        )
        numbers = (tensor.offset, *tensor.shape, *tensor.strides)
        inside = all(isinstance(number, int) and number >= 0 for number in numbers) and (
            0 in tensor.shape or last < tensor.storage.length
        )
        if len(data) != tensor.storage.length * dtype.itemsize or not inside:
            raise WeightsError(
                f"{path}: {name} needs {tensor.storage.length} numbers of {dtype}, of which "
                f"{len(data)} bytes are there: the file is cut off or damaged"
            )
        flat = np.frombuffer(data, dtype)[tensor.offset :]
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        arrays[name] = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    return arrays
