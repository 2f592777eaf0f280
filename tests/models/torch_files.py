"""Tensors of every kind, and the script that froze them as files of PyTorch.

Run as a script, it writes `torch_zip.pth` and `torch_legacy.pth` beside this file.
"""

from pathlib import Path

import ml_dtypes
import numpy as np

ZIP, LEGACY = (Path(__file__).with_name(f"torch_{kind}.pth") for kind in ("zip", "legacy"))

_COUNT = np.arange(12).reshape(3, 4)

EXPECTED = {
    "float64": _COUNT.astype(np.float64) / 8,
    "float32": _COUNT.astype(np.float32) / 8,
    "float16": _COUNT.astype(np.float16) / 8,
    "bfloat16": (_COUNT / 8).astype(ml_dtypes.bfloat16),
    "int64": _COUNT.astype(np.int64) - 5,
    "int32": _COUNT.astype(np.int32) - 5,
    "int16": _COUNT.astype(np.int16) - 5,
    "int8": _COUNT.astype(np.int8) - 5,
    "uint8": _COUNT.astype(np.uint8),
    "bool": _COUNT % 2 == 0,
    "transposed": _COUNT.T.astype(np.float32),
    "every second column": _COUNT[1:, ::2].astype(np.float32),  # of the storage of "transposed"
    "parameter": _COUNT.astype(np.float32),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


def main():
    import torch

    class Network(torch.nn.Module):
        """Has a state dict with the attribute `_metadata`, as published ones have."""

    tensors = {}
    for name, array in EXPECTED.items():
        dtype = getattr(torch, name, None)
        if isinstance(dtype, torch.dtype):
            tensors[name] = torch.tensor(array.astype(np.float64)).to(dtype)
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors["transposed"] = base.T
    tensors["every second column"] = base[1:, ::2]
    tensors["parameter"] = torch.nn.Parameter(base.clone())
    tensors["scalar"] = torch.tensor(7)
    tensors["empty"] = torch.zeros(0, 3)
    state = Network().state_dict()
    state.update((name, tensors[name]) for name in EXPECTED)
    torch.save(state, ZIP)
    torch.save(state, LEGACY, _use_new_zipfile_serialization=False)


if __name__ == "__main__":
    main()
