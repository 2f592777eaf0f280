"""State dicts of PyTorch are read without it, and nothing in them is run."""

import contextlib
import io
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch_files

from pals_jax.errors import WeightsError
from pals_jax.models import torch_file

BOTH = pytest.mark.parametrize(
    "frozen", [torch_files.ZIP, torch_files.LEGACY], ids=["zip", "legacy"]
)


@BOTH
def test_every_kind_of_tensor(frozen):
    found = torch_file.read(frozen)
    assert list(found) == list(torch_files.EXPECTED)
    for name, expected in torch_files.EXPECTED.items():
        assert found[name].dtype == expected.dtype
        assert found[name].shape == expected.shape
        np.testing.assert_array_equal(found[name], expected)


@BOTH
def test_a_file_that_is_cut_off_anywhere(frozen, tmp_path):
    content, path = frozen.read_bytes(), tmp_path / "half.pth"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"half\.pth"):
            torch_file.read(path)


def test_an_archive_that_is_cut_off_is_told_as_such(tmp_path):
    content, path = torch_files.ZIP.read_bytes(), tmp_path / "half.pth"
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(WeightsError, match=r"half\.pth is a zip archive that is cut off"):
            torch_file.read(path)


@BOTH
def test_a_file_with_a_flipped_byte_is_read_or_refused(frozen, tmp_path):
    """No byte, wherever it is, leads to another kind of error."""
    content, path = bytearray(frozen.read_bytes()), tmp_path / "flipped.pth"
    for place in range(0, len(content), 5):
        changed = content.copy()
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(WeightsError):
            torch_file.read(path)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def zipped(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)


def legacy(path, content):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + content)


@pytest.mark.parametrize("write", [zipped, legacy])
def test_code_in_a_pickle_is_named_and_not_run(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "harmful.pth", pickle.dumps({"conv1.weight": Harmful()}, 2))
    with pytest.raises(WeightsError, match=r"harmful\.pth names posix\.mkdir, .* is not run"):
        torch_file.read(tmp_path / "harmful.pth")
    assert not (tmp_path / "owned").exists()


def test_code_in_place_of_the_first_number_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "harmful.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(WeightsError, match=r"names posix\.mkdir"):
        torch_file.read(tmp_path / "harmful.pth")
    assert not (tmp_path / "owned").exists()


def tensor_pickle(offset, shape, strides):
    """A state dict {"w": …} of a tensor in a storage of four numbers."""

    def pickled(value):
        return pickle.dumps(value, 2)[2:-1]

    storage_id = b"(" + pickled("storage") + b"ctorch\nFloatStorage\n"
    storage_id += pickled("0") + pickled("cpu") + pickled(4) + b"tQ"
    arguments = b"(" + storage_id + pickled(offset) + pickled(shape) + pickled(strides) + b"t"
    return b"\x80\x02}" + pickled("w") + b"ctorch._utils\n_rebuild_tensor\n" + arguments + b"Rs."


def write_tensor(path, *tensor):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(*tensor))
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())


def test_a_view_outside_its_storage_is_refused(tmp_path):
    path = tmp_path / "view.pth"
    write_tensor(path, 0, (2, 2), (1, 2))
    np.testing.assert_array_equal(torch_file.read(path)["w"], [[0, 2], [1, 3]])
    outside = [(0, (2, 2), (-10, 11)), (0, (2, 2), (-(10**8), 10**8 + 1)), (-1, (1,), (1,))]
    for tensor in [*outside, (3, (2,), (1,)), (0, (5,), (1,)), (0, (-1,), (1,)), (0, (2.0,), (1,))]:
        write_tensor(path, *tensor)
        with pytest.raises(WeightsError, match=r"view\.pth"):
            torch_file.read(path)


@pytest.mark.parametrize(
    "name", ["torch\nBFloat16Storage", "torch\nFloatStorage", "torch._utils\n_rebuild_tensor_v2"]
)
@pytest.mark.parametrize(
    "state", [(3, "<", None, None, None, 1000, 1, 0), (None, {"__defaults__": (1, 2, 3, 4)})]
)
def test_a_pickle_changes_nothing_of_ours(name, state, tmp_path):
    """Its opcode BUILD sets the state of any object that it has got hold of."""
    changing = pickle.dumps(state, 2)[2:-1]
    zipped(tmp_path / "evil.pth", b"\x80\x02c" + name.encode() + b"\n" + changing + b"b0}.")
    with pytest.raises(WeightsError, match=r"evil\.pth is cut off or no file"):
        torch_file.read(tmp_path / "evil.pth")
    assert np.dtype(ml_dtypes.bfloat16).itemsize == 2
    assert list(torch_file.read(torch_files.ZIP)) == list(torch_files.EXPECTED)


def test_a_state_dict_inside_a_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pth"
    inside = tensor_pickle(0, (4,), (1,))[2:-1]
    start, epoch = b"\x80\x02}", pickle.dumps("epoch", 2)[2:-1] + b"K\x03s"
    with zipfile.ZipFile(path, "w") as archive:
        key = pickle.dumps("state_dict", 2)[2:-1]
        archive.writestr("archive/data.pkl", start + epoch + key + inside + b"s.")
        archive.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(torch_file.read(path)["w"], np.arange(4))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list; expected a state dict"),
        ({"epoch": 3, "model": {}}, r"these are no tensors: epoch, model.*alone"),
    ],
)
@pytest.mark.parametrize("write", [zipped, legacy])
def test_what_is_no_state_dict(write, content, message, tmp_path):
    write(tmp_path / "other.pth", pickle.dumps(content, 2))
    with pytest.raises(WeightsError, match=rf"(?s)other\.pth .*{message}"):
        torch_file.read(tmp_path / "other.pth")


def test_other_archives_and_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.pth", "w") as archive:
        archive.writestr("photo.txt", "a cat")
    with pytest.raises(WeightsError, match=r"none of `torch\.save`: it has 0 entries"):
        torch_file.read(tmp_path / "photos.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(WeightsError, match=r"page\.pth is cut off or no file of `torch\.save`"):
        torch_file.read(tmp_path / "page.pth")
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        torch_file.read(tmp_path / "missing.pth")


def test_a_tensor_beyond_its_storage(tmp_path):
    """A shape that the numbers do not fill would show the memory behind them."""
    content = torch_files.ZIP.read_bytes()
    path = tmp_path / "long.pth"
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w") as changed:
        for name in archive.namelist():
            data = archive.read(name)
            if name.endswith("/data/0"):
                data = data[:-8]
            changed.writestr(name, data)
    with pytest.raises(
        WeightsError, match="float64 needs 12 numbers of float64, of which 88 bytes"
    ):
        torch_file.read(path)


def test_pytorch_reads_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    for frozen in (torch_files.ZIP, torch_files.LEGACY):
        theirs = torch.load(frozen)
        for name, ours in torch_file.read(frozen).items():
            np.testing.assert_array_equal(ours.astype(np.float64), theirs[name].double().detach())
