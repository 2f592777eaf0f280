"""What the tests of all implementations share: cases, random inputs and jitted calls."""

import functools

import jax
import numpy as np
import pytest

from pals_jax import affinity

IMPLEMENTATIONS = {"dense": {}, "tiled": {"tile_size": 5}, "linear": {}, "pallas": {"tile_size": 8}}
ABLE = {
    "exp_cosine": ("dense", "tiled", "pallas"),
    "linear_cosine": ("dense", "tiled", "linear", "pallas"),
    "relu_cosine": ("dense", "tiled", "pallas"),
    "uniform": ("dense", "tiled", "linear", "pallas"),
}


def each_implementation_of(*similarities):
    """Every implementation of every one of these similarities."""
    cases = [(name, similarity) for similarity in similarities for name in ABLE[similarity]]
    return pytest.mark.parametrize(("implementation", "similarity"), cases)


each_implementation = pytest.mark.parametrize("implementation", ABLE["exp_cosine"])


@functools.cache
def jitted(implementation, **static):
    """Small tiles, so that every case crosses their borders and leaves a partial tile."""
    options = IMPLEMENTATIONS[implementation] | static
    return jax.jit(
        lambda features, values, masks: affinity.aggregate(
            features, values, implementation=implementation, **options, **masks
        )
    )


def call(implementation, features, values, *, valid=None, labels=None, correct=None, **static):
    masks = {"valid": valid, "labels": labels, "correct": correct}
    return jitted(implementation, **static)(features, values, masks)


def draw(seed, batch=2, pixels=13, dimension=4, classes=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(batch, pixels, dimension)).astype(np.float32)
    values = rng.dirichlet(np.ones(classes), size=(batch, pixels)).astype(np.float32)
    return rng, features, values


def masks_of(rng, shape, chosen):
    masks = {
        "valid": rng.random(shape) < 0.7,
        "labels": rng.integers(0, 3, shape).astype(np.int32),
        "correct": rng.random(shape) < 0.6,
    }
    return {name: masks[name] for name in chosen}
