"""A toy data set, horizontal bands whose colour tells their class, and a network that compiles in
a tenth of the time of a ResNet-18: for tests of everything around the network.
"""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from pals_jax.models.layers import BatchNorm, Conv
from pals_jax.outputs import Outputs

CLASSES = ("ground", "wall", "sky")
SIZE = (32, 32)


def draw_example(seed, size=SIZE, ignored=0.1):
    """A noisy image of three bands whose colour tells the class, a few pixels without label."""
    rng = np.random.default_rng(seed)
    borders = np.sort(rng.integers(1, size[0], 2))
    rows = np.searchsorted(borders, np.arange(size[0]), side="right")
    label = np.repeat(rows[:, None], size[1], 1).astype(np.int32)
    image = (label[..., None] * 90 + rng.integers(0, 60, (*size, 3))).astype(np.uint8)
    label[rng.random(size) < ignored] = 255
    return {"image": image, "label": label, "id": f"image{seed}"}


def draw_batch(seed, batch_size, size=SIZE):
    """A batch whose images hold ever more pixels without label."""
    examples = [
        draw_example(1000 * seed + i, size, ignored=0.9 * i / batch_size) for i in range(batch_size)
    ]
    keys = ("image", "label", "id")
    return {"labeled": {key: np.stack([e[key] for e in examples]) for key in keys}}


class ToyNetwork(nnx.Module):
    """Two strided convolutions with BatchNorm, and what every network has around its backbone."""

    def __init__(
        self,
        num_classes,
        *,
        output_stride=16,
        decoder_channels=16,
        width=8,
        auxiliary=False,
        dtype=jnp.float32,
        rngs,
    ):
        self.backbone = nnx.Dict({"conv1": Conv(3, width, 3, stride=2, dtype=dtype, rngs=rngs)})
        self.conv = Conv(width, decoder_channels, 3, stride=2, dtype=dtype, rngs=rngs)
        self.bn = BatchNorm(decoder_channels, rngs=rngs)
        self.classifier = nnx.Linear(decoder_channels, num_classes, rngs=rngs)
        self.auxiliary = nnx.Linear(width, num_classes, rngs=rngs) if auxiliary else None

    def __call__(self, images, *, train=False, valid=None):
        x = nnx.relu(self.backbone["conv1"](images))
        features = nnx.relu(self.bn(self.conv(x), train=train)).astype(jnp.float32)
        auxiliary = None if self.auxiliary is None else self.auxiliary(x.astype(jnp.float32))
        return Outputs(self.classifier(features), features, auxiliary)
