"""Down-sampling of images and labels: mass per class, poles, void, borders."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pals_jax import data
from pals_jax.class_indices import outside_classes
from pals_jax.downsample import box_downsample, nearest_downsample, soft_downsample
from pals_jax.targets import labels_from_index

IGNORE = 255
SIZES = [(12, 20), (13, 22), (1, 5)]


def draw_labels(size, classes=4, ignored=0.3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size).astype(np.int32)
    labels[rng.random(size) < ignored] = IGNORE
    return labels


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
def test_the_mass_of_every_class_is_conserved_exactly(size, factor):
    labels = draw_labels(size)
    soft, mass = soft_downsample(labels, factor, 4, IGNORE)
    rows, columns = -(-size[0] // factor), -(-size[1] // factor)
    assert (soft.shape, mass.shape) == ((rows, columns, 4), (rows, columns))
    assert soft.dtype == mass.dtype == jnp.float32
    counts = np.bincount(labels.ravel(), minlength=256)
    pixels = np.asarray(soft) * factor**2
    if factor.bit_count() > 1:  # a share as 1/9 is rounded, a count is not
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-5)
        pixels = np.rint(pixels)
    np.testing.assert_array_equal(pixels.sum((0, 1)), counts[:4])
    np.testing.assert_allclose(soft.sum(-1), mass, atol=1e-6)
    total = np.asarray(mass, np.float64).sum() * factor**2
    assert total == pytest.approx(counts[:4].sum(), rel=1e-6)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_pole_of_two_pixels_keeps_its_mass_wherever_it_stands(factor):
    width = 64
    labels = np.zeros((width - 1, 16, width), np.int32)
    for position in range(width - 1):
        labels[position, :, position : position + 2] = 1
    soft, _ = soft_downsample(labels, factor, 2, IGNORE)
    kept = np.asarray(soft)[..., 1].sum((1, 2)) * factor**2
    np.testing.assert_array_equal(kept, np.full(width - 1, 2 * 16))


def test_void_never_leaks_into_a_class():
    labels = np.full((8, 8), IGNORE)
    labels[:, :3] = 1
    soft, mass = soft_downsample(labels, 2, 3, IGNORE)
    np.testing.assert_array_equal(mass, [[1, 0.5, 0, 0]] * 4)
    np.testing.assert_array_equal(soft[..., 1], mass)
    np.testing.assert_array_equal(soft[..., 0] + soft[..., 2], np.zeros((4, 4)))
    # Also where the ignore index is that of a class in bytes, or in between.
    labels = np.array([[0, 44], [300, 2]])
    soft, mass = soft_downsample(labels, 2, 50, ignore=300)
    assert (float(soft[0, 0, 44]), float(mass[0, 0])) == (0.25, 0.75)
    soft, mass = soft_downsample(np.array([[0, 1], [1, 2]]), 2, 3, ignore=1)
    np.testing.assert_array_equal(soft[0, 0], [0.25, 0, 0.25])
    assert float(mass[0, 0]) == 0.5


def test_factor_one_is_one_hot():
    labels = draw_labels((2, 6, 7))
    expected = labels_from_index(labels, 4, IGNORE)
    for found, one_hot in zip(soft_downsample(labels, 1, 4, IGNORE), expected, strict=True):
        np.testing.assert_array_equal(found, one_hot)


def test_the_public_name():
    assert data.soft_downsample is soft_downsample
    with pytest.raises(AttributeError, match="soft_downsampel"):
        _ = data.soft_downsampel


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("size", [(24, 48), (23, 41)])
def test_images_take_the_mean_of_opencv_and_numpy(factor, size):
    images = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    found = np.asarray(box_downsample(images, factor))
    rows, columns = -(-size[0] // factor), -(-size[1] // factor)
    padding = (0, rows * factor - size[0]), (0, columns * factor - size[1])
    padded = np.pad(images.astype(np.float32), ((0, 0), *padding, (0, 0)), mode="edge")
    blocks = padded.reshape(2, rows, factor, columns, factor, 3)
    np.testing.assert_allclose(found, blocks.mean((2, 4)), rtol=1e-6)
    for image, expected in zip(padded, found, strict=True):
        area = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(area, expected, rtol=1e-5)


def test_the_share_of_a_class_is_the_mean_of_its_mask():
    labels = draw_labels((2, 13, 22))
    soft, mass = soft_downsample(labels, 4, 4, IGNORE)
    # The border of an image repeats its edge, that of labels has none: compare where both have all.
    masks = box_downsample((labels[..., None] == np.arange(4)).astype(np.float32), 4)
    np.testing.assert_array_equal(soft[:, :3, :5], masks[:, :3, :5])
    np.testing.assert_array_equal(soft.sum(-1), mass)


@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_the_nearest_label_is_that_of_opencv(factor):
    labels = draw_labels((6 * factor, 7 * factor)).astype(np.uint8)
    expected = cv2.resize(labels, (7, 6), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(nearest_downsample(labels, factor, IGNORE), expected)


def test_a_nearest_label_beyond_the_image_is_none():
    labels = np.ones((7, 6), np.uint8)  # pixels 2 and 6 are asked for; 300 is no byte
    found = nearest_downsample(labels, 4, ignore=300)
    np.testing.assert_array_equal(found, [[1, 300], [1, 300]])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_padded_image_gives_the_cells_of_the_image_alone(factor):
    rng = np.random.default_rng(2)
    images = rng.random((3, 17, 30, 3)).astype(np.float32)
    valid = np.zeros(images.shape[:3], bool)
    sizes = [(17, 30), (9, 11), (1, 2)]
    for i, (height, width) in enumerate(sizes):
        valid[i, :height, :width] = True
    images[~valid] = np.nan
    found = box_downsample(images, factor, valid)
    for i, (height, width) in enumerate(sizes):
        alone = box_downsample(images[i, :height, :width], factor)
        rows, columns, _ = alone.shape
        np.testing.assert_allclose(found[i, :rows, :columns], alone, rtol=1e-6)


def test_factor_one_costs_nothing():
    pixels = jnp.zeros((2, 4, 6, 3))
    labels = jnp.zeros((2, 4, 6), jnp.int32)
    valid = jnp.ones((2, 4, 6), bool)
    for function in (
        lambda: box_downsample(pixels, 1),
        lambda: box_downsample(pixels, 1, valid),
        lambda: nearest_downsample(labels, 1, IGNORE),
    ):
        assert not jax.make_jaxpr(function)().eqns


@pytest.mark.parametrize("factor", [0, -2, 2.0, True, "2"])
def test_bad_factors_are_named(factor):
    labels, images = np.zeros((4, 4), int), np.zeros((1, 4, 4, 3))
    for function, arguments in (
        (soft_downsample, (labels, factor, 2, IGNORE)),
        (nearest_downsample, (labels, factor, IGNORE)),
        (box_downsample, (images, factor)),
    ):
        with pytest.raises(ValueError, match=f"factor must be an integer .* found {factor!r}"):
            function(*arguments)


def test_bad_labels_are_named():
    with pytest.raises(ValueError, match=r"labels: .* 0\.\.1 and ignore=255: \[7\] \(1 pixels\)"):
        soft_downsample(np.array([[0, 7]]), 2, 2, IGNORE)
    for function in (
        lambda labels: soft_downsample(labels, 2, 2, IGNORE),
        lambda labels: nearest_downsample(labels, 2, IGNORE),
    ):
        with pytest.raises(ValueError, match="labels must be an integer, found float32"):
            function(np.zeros((4, 4), np.float32))
    # Inside a jitted function, a pixel outside the classes has no label.
    jitted = jax.jit(lambda labels: soft_downsample(labels, 2, 2, IGNORE))
    labels = np.array([[0, 7], [-1, 1]])
    assert outside_classes(labels, 2, IGNORE).sum() == 2
    soft, mass = jitted(labels)
    np.testing.assert_array_equal(soft[0, 0], [0.25, 0.25])
    assert float(mass[0, 0]) == 0.5


def test_labels_of_64_bits_are_looked_at_before_they_are_cut():
    with pytest.raises(ValueError, match=r"labels: .*\[4294967297\] \(1 pixels\)"):
        soft_downsample(np.array([[2**32 + 1, 0]]), 1, num_classes=3, ignore=255)
