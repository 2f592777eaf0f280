"""A toy data set in memory: horizontal bands whose colour tells their class."""

import numpy as np

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
