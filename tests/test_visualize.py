import numpy as np
import pytest

from pals_jax import visualize

PALETTE = ((255, 0, 0), (0, 255, 0))


def test_colourise():
    found = visualize.colourise(np.array([[0, 1, 255, -1]]), PALETTE)
    np.testing.assert_array_equal(found[0], [[255, 0, 0], [0, 255, 0], [255] * 3, [255] * 3])
    assert found.dtype == np.uint8


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, 100), (1.0, 201), (0.5, 150)])
def test_overlay(opacity, expected):
    image = np.full((1, 1, 3), 100, np.uint8)
    colours = np.full((1, 1, 3), 201, np.uint8)
    assert (visualize.overlay(image, colours, opacity) == expected).all()


def test_heat_goes_from_black_to_white():
    found = visualize.heat(np.array([[0.0, 1.0, 2.0, 3.0]]), 3.0)
    np.testing.assert_array_equal(found[0], [[0, 0, 0], [255, 0, 0], [255, 255, 0], [255] * 3])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_training_panel_holds_the_pictures_in_order(dtype):
    images = np.full((2, 8, 10, 3), 51 if dtype == np.uint8 else 0.2, dtype)
    labels, predictions = np.zeros((2, 8, 10), int), np.ones((2, 8, 10), int)
    soft = np.full((2, 8, 10, 2), 0.5, np.float32)
    found = visualize.training_panel(images, labels, predictions, soft, ("a", "b"), PALETTE)
    first_row = 14 + 4  # below the captions; 10 pixels are enlarged to 200
    np.testing.assert_array_equal(
        found[first_row, [100, 300, 500, 700]], [[51] * 3, [255, 0, 0], [0, 255, 0], [255] * 3]
    )
    legend = found[:, 800:].reshape(-1, 3).tolist()
    assert [255, 0, 0] in legend
    assert [0, 255, 0] in legend


def test_what_is_smaller_than_the_image_is_repeated():
    images, labels = np.zeros((1, 5, 6, 3), np.uint8), np.zeros((1, 5, 6), int)
    predictions = np.array([[[0, 1], [1, 0]]])
    soft = np.array([[[[1, 0], [0.5, 0.5]], [[0.5, 0.5], [1, 0]]]], np.float32)
    found = visualize.training_panel(images, labels, predictions, soft, ("a", "b"), PALETTE, 4)
    pixels = found[14 + 16 :: 32][:5, 16::32]  # each is enlarged to 32 × 32
    red, green = PALETTE
    np.testing.assert_array_equal(pixels[3, 12:18], [red] * 4 + [green] * 2)
    np.testing.assert_array_equal(pixels[4, 12:18], [green] * 4 + [red] * 2)
    np.testing.assert_array_equal(pixels[3, 18:24, 0], [0] * 4 + [255] * 2)


def test_legend_shows_every_class_in_its_colour():
    found = visualize.legend(("a", "a longer name"), PALETTE)
    # Squares of 10 pixels at (4, 4) and 14 pixels below; the names are drawn beside them.
    assert found[9, 9].tolist() == [255, 0, 0]
    assert found[23, 9].tolist() == [0, 255, 0]
    assert (found[:, 16:].min(axis=(1, 2)) < 128).sum() > 8
