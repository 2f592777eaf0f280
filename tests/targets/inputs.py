"""Random inputs of a target, and what PALS makes of them in its plain form: each output of the
network from all others.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs.sweeps.camvid_search import PLAIN
from pals_jax.outputs import Outputs
from pals_jax.targets import Inputs, Pals, labels_from_index

IGNORE = 255


def make_inputs(seed=0, size=(4, 6), stride=1, classes=3, ignored=0.2, batch=2):
    rng = np.random.default_rng(seed)
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    index = rng.integers(0, classes, (batch, *size))
    index[rng.random(index.shape) < ignored] = IGNORE
    outputs = Outputs(
        jnp.asarray(rng.normal(size=(batch, rows, columns, classes)), jnp.float32),
        jnp.asarray(rng.normal(size=(batch, rows, columns, 5)), jnp.float32),
    )
    images = jnp.asarray(rng.normal(size=(batch, *size, 3)), jnp.float32)
    return Inputs(labels_from_index(jnp.asarray(index), classes, IGNORE), outputs, images)


@functools.cache
def jitted(target):
    return jax.jit(target.apply)


def soft_labels(inputs, progress=1.0, **options):
    target = Pals(inputs.labels.probs.shape[-1], **(PLAIN | options))
    labels, _ = jitted(target)(inputs, target.init(), jnp.float32(progress))
    return labels


def q_of(inputs, **options):
    """The aggregated distribution itself: α = 1 leaves nothing of the label."""
    return soft_labels(inputs, **({"alpha": 1.0, "ramp": "constant"} | options)).probs
