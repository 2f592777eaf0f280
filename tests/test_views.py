"""Views average what each of them would give alone, and padding changes none of them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pals_jax import views
from pals_jax.resize import extend

RNG = np.random.default_rng(0)


def image_of(height, width):
    return RNG.normal(size=(1, height, width, 3)).astype(np.float32)


def padded(images, height, width):
    """Images of several sizes in one batch, noise in the padding, with their valid pixels."""
    batch = RNG.normal(size=(len(images), height, width, 3)).astype(np.float32)
    valid = np.zeros((len(images), height, width), bool)
    for i, image in enumerate(images):
        batch[i, : image.shape[1], : image.shape[2]] = image[0]
        valid[i, : image.shape[1], : image.shape[2]] = True
    return batch, valid


def everywhere(image):
    return np.ones(image.shape[:3], bool)


def of_position(images, valid):
    """Tells rows and columns of a window, and whether it is a network of valid pixels only."""
    images = extend(images, valid)
    rows = jnp.arange(images.shape[1], dtype=jnp.float32)[None, :, None]
    columns = jnp.arange(images.shape[2], dtype=jnp.float32)[None, None, :]
    first = images[:, :1, :1, 0]
    parts = jnp.broadcast_arrays(images[..., 0], rows, columns, first)
    return jnp.stack(parts, -1)


def windows_by_hand(image, window, stride):
    """The mean over windows, one after the other, in NumPy."""
    height, width = image.shape[1:3]
    starts = []
    for whole, part, step in ((height, window[0], stride[0]), (width, window[1], stride[1])):
        part = min(part, whole)
        count = 1 + max(0, -(-(whole - part) // step))
        starts.append([min(i * step, whole - part) for i in range(count)])
    total = np.zeros((1, height, width, 4))
    count = np.zeros((1, height, width, 1))
    for top in starts[0]:
        for left in starts[1]:
            inside = np.s_[:, top : top + window[0], left : left + window[1]]
            part = image[inside]
            total[inside] += of_position(part, everywhere(part))
            count[inside] += 1
    assert count.min() >= 1
    return total / count


@pytest.mark.parametrize("size", [(20, 30), (16, 16), (12, 40), (17, 16), (8, 9)])
@pytest.mark.parametrize("stride", [(8, 8), (11, 16), (5, 3)])
def test_windows_are_those_by_hand(size, stride):
    image = image_of(*size)
    averaged = jax.jit(views.over_windows(of_position, (16, 16), stride))
    found = averaged(image, everywhere(image))
    np.testing.assert_allclose(found, windows_by_hand(image, (16, 16), stride), atol=1e-4)


def test_padded_images_have_the_windows_of_their_own_size():
    images = [image_of(20, 30), image_of(33, 17), image_of(9, 40), image_of(16, 16)]
    batch, valid = padded(images, 40, 44)
    found = jax.jit(views.over_windows(of_position, (16, 16), (11, 7)))(batch, valid)
    for i, image in enumerate(images):
        inside = found[i : i + 1, : image.shape[1], : image.shape[2]]
        np.testing.assert_allclose(inside, windows_by_hand(image, (16, 16), (11, 7)), atol=1e-4)


def colour(images, valid):
    """A network that sees one pixel, and nothing of the padding."""
    return extend(images, valid)


def ramp(height, width):
    """Rows and columns as colours, which bilinear sampling reproduces inside."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([rows, columns, rows + columns], -1)[None]


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.5, 2.0])
@pytest.mark.parametrize("size", [(16, 24), (17, 23)])
def test_scales_keep_pixels_in_their_place(scale, size):
    image = ramp(*size)
    found = jax.jit(views.over_scales(colour, (scale,)))(image, everywhere(image))
    border = 3  # within which the edge of the image is mixed in
    inside = np.s_[:, border:-border, border:-border]
    np.testing.assert_allclose(found[inside], image[inside], atol=1e-4)
    assert np.abs(found - image).max() <= 2 / min(scale, 1)


def test_scaled_images_are_sampled_at_pixel_centres():
    seen = []

    def look(images, valid):
        seen.append((images, valid))
        return images

    image = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1).repeat(3, -1)
    views.over_scales(look, (2.0, 0.5))(image, everywhere(image))
    (twice, valid_twice), (half, valid_half) = seen
    # Pixel i of twice the size lies at (i + ½)/2 - ½.
    expected = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    np.testing.assert_allclose(twice[0, 0, :, 0], expected, atol=1e-6)
    np.testing.assert_allclose(half[0, 0, :, 0], [0.5, 2.5], atol=1e-6)
    assert valid_twice.shape == (1, 2, 8)
    assert valid_half.shape == (1, 1, 2)
    assert valid_twice.all()
    assert valid_half.all()


def blur(images, valid):
    """A network that sees its neighbours."""
    images = jnp.where(valid[..., None], images, 0)
    around = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        around[:, i : i + images.shape[1], j : j + images.shape[2]]
        for i in range(3)
        for j in range(3)
    )


ALL = views.Views((16, 16), (11, 7), (0.75, 1.25), flip=True)


@pytest.mark.parametrize(
    "chosen",
    [
        views.Views(scales=(0.75, 1.5)),
        views.Views(scales=(0.85, 1.1, 1.7)),  # whose products are near whole numbers
        views.Views(flip=True),
        views.Views((16, 16), (8, 8)),
        ALL,
    ],
)
def test_padding_changes_no_view(chosen):
    images = [image_of(20, 30), image_of(33, 17), image_of(9, 41), image_of(40, 10)]
    batch, valid = padded(images, 41, 44)
    found = jax.jit(chosen.average(blur))(batch, valid)
    for i, image in enumerate(images):
        alone = jax.jit(chosen.average(blur))(image, everywhere(image))
        inside = found[i : i + 1, : image.shape[1], : image.shape[2]]
        np.testing.assert_allclose(inside, alone, atol=1e-4)


def test_the_mirror_image_is_turned_back():
    image = image_of(5, 8)
    found = views.over_mirror(lambda images, valid: images)(image, everywhere(image))
    np.testing.assert_allclose(found, image, atol=1e-6)

    def left(images, valid):
        """Sees the pixel to its left."""
        return jnp.pad(images, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]

    found = views.over_mirror(left)(image, everywhere(image))
    expected = np.zeros_like(image)
    expected[:, :, 1:] += image[:, :, :-1] / 2
    expected[:, :, :-1] += image[:, :, 1:] / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_probabilities_stay_probabilities():
    def softmax(images, valid):
        return jax.nn.softmax(images)

    image = image_of(40, 50)
    found = jax.jit(ALL.average(softmax))(image, everywhere(image))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    assert (found >= 0).all()


def test_views_are_divided_over_devices_without_a_change():
    image = np.concatenate([image_of(40, 50) for _ in range(4)])
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    placed = jax.device_put((image, everywhere(image)), jax.NamedSharding(mesh, jax.P("data")))
    average = jax.jit(ALL.average(blur))
    np.testing.assert_allclose(average(*placed), average(image, everywhere(image)), atol=1e-5)


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        (views.Views(), ""),
        (views.Views(flip=True), "flip"),
        (views.Views((8, 16), (4, 8), (0.5, 1.0), flip=False), "windows8x16by4x8_scales0.5-1"),
    ],
)
def test_names_tell_views_apart(chosen, name):
    assert chosen.name == name
    assert views.Views.of_result(json.loads(json.dumps(chosen._asdict()))) == chosen
