"""The network of `benchmarks/torch_deeplab.py` with our parameters.

Run as a script, it freezes what the network computes into `torch_parity.npz` beside this file.
"""

from pathlib import Path

import narrow
import numpy as np
import torch

from benchmarks import torch_deeplab
from benchmarks.torch_deeplab import to_nchw, to_torch  # noqa: F401
from pals_jax import models

FIXTURE = Path(__file__).with_name("torch_parity.npz")


def load(name, output_stride, params, statistics):
    """The narrow network with our parameters."""
    options = {"channels": narrow.CHANNELS, "width": narrow.WIDTH, "auxiliary": True}
    return torch_deeplab.load(
        name, narrow.CLASSES, params, statistics, output_stride=output_stride, **options
    )


def stages(network, images):
    """Name → output in evaluation, as a NumPy array [B,H,W,C]."""
    with torch.no_grad():
        outputs = network.eval()(to_nchw(images))
    return {name: to_nhwc(output) for name, output in outputs.items()}


def to_nhwc(output):
    return output.detach().permute(0, 2, 3, 1).numpy()


def main():
    _, params, statistics = models.split(narrow.build(auxiliary=True))
    outputs = stages(load("resnet18", 16, params, statistics), narrow.images(1, 65, 99))
    np.savez_compressed(FIXTURE, **outputs)


if __name__ == "__main__":
    main()
