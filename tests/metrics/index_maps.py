"""Index maps for tests: blobs of classes rather than noise, whose contours are everywhere."""

import numpy as np


def draw_maps(seed, shape=(3, 23, 31), num_classes=4, ignore=255):
    """A truth of blobs with ignored ones among them, and a prediction that is wrong in others."""
    rng = np.random.default_rng(seed)

    def blobs(values, size):
        coarse = rng.choice(values, (shape[0], *(-(-s // size) for s in shape[1:])))
        return coarse.repeat(size, 1).repeat(size, 2)[:, : shape[1], : shape[2]]

    labels = blobs([*range(num_classes - 1), ignore], 6)  # the last class is never true
    labels = np.where(rng.random(shape) < 0.01, 0, labels)
    guess = blobs(range(num_classes), 4)
    predictions = np.where((blobs([0, 1, 1], 3) == 1) & (labels != ignore), labels, guess)
    return labels.astype(np.int32), predictions.astype(np.int32)


def padded(array, value, by=(5, 9)):
    """The array with rows and columns of a value below and to the right."""
    return np.pad(array, ((0, 0), (0, by[0]), (0, by[1])), constant_values=value)
