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
    frozen = {}
    for output_stride in (8, 16, 32):
        model = narrow.build(output_stride=output_stride, auxiliary=True)
        _, params, statistics = models.split(model)
        network = load("resnet18", output_stride, params, statistics)
        for name, output in stages(network, narrow.images(1, 65, 99)).items():
            frozen[f"{output_stride}/{name}"] = output
    np.savez_compressed(FIXTURE, **frozen)


if __name__ == "__main__":
    main()
