"""The procedural street scenes: what a data set promises, and what its labels promise."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pals_jax.data import streets
from pals_jax.data.streets.canvas import Canvas
from pals_jax.data.streets.photo import photograph
from pals_jax.data.streets.shapes import ring, upright
from pals_jax.data.streets.view import Camera, Light

NUM_CLASSES = len(streets.CLASSES)
POLE, CAR, SKY = (streets.CLASSES.index(name) for name in ("pole", "car", "sky"))


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [streets.render(seed) for seed in range(60)]


@pytest.fixture(scope="module")
def counts(scenes) -> np.ndarray:
    """Pixels per image and value, [60, 256]."""
    return np.stack([np.bincount(label.ravel(), minlength=256) for _, label in scenes])


def camera(height: int = 100, width: int = 200, **changes: float) -> Camera:
    """A level camera in the middle of a straight road, with a focal length of 100 pixels."""
    plain = {"focal": 1.0, "horizon": 0.5, "roll": 0.0, "eye": 1.5, "offset": 0.0, "heading": 0.0}
    return Camera(height, width, **{**plain, "bend": 0.0, "climb": 0.0, "far": 100.0, **changes})


def canvas() -> Canvas:
    """A canvas on which a colour comes out as it went in."""
    plain = np.zeros(3)
    light = Light(np.ones(3), plain, plain, 0.0, 0.5, (0.0, 0.0), 1.0, 0.0)
    return Canvas(camera(), light)


# The data set.


def test_the_class_table_is_consistent():
    assert NUM_CLASSES == 11
    assert len(set(streets.CLASSES)) == len(set(streets.PALETTE)) == len(streets.PALETTE) == 11
    assert streets.IGNORE == 255


@pytest.mark.parametrize("size", [(128, 256), (96, 192), (256, 512), (120, 160), (32, 33)])
def test_shapes_and_types_at_any_size(size):
    image, label = streets.render(3, *size)
    assert image.shape == (*size, 3)
    assert label.shape == size
    assert image.dtype == label.dtype == np.uint8
    assert image.flags.c_contiguous
    assert label.flags.c_contiguous


def test_a_seed_is_one_scene(scenes):
    for seed in (0, 41):
        image, label = streets.render(seed)
        np.testing.assert_array_equal(image, scenes[seed][0])
        np.testing.assert_array_equal(label, scenes[seed][1])


def test_rendering_leaves_no_trace():
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    first, _ = streets.render(5)
    streets.render(6)
    np.random.seed(2)  # noqa: NPY002
    again, _ = streets.render(5)
    np.testing.assert_array_equal(first, again)


def test_seeds_differ(scenes):
    assert len({label.tobytes() for _, label in scenes}) == len(scenes)
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)


def test_a_seed_is_the_same_scene_at_twice_the_size(scenes):
    agreement = []
    for seed in range(4):
        large, small = streets.render(seed, 256, 512)[1], scenes[seed][1]
        agreement.append(np.mean(cv2.resize(large, (256, 128), interpolation=0) == small))
    other = np.mean(scenes[0][1] == scenes[1][1])
    assert min(agreement) > 0.9 > other


@pytest.mark.parametrize("size", [(31, 256), (128, 31), (0, 0)])
def test_too_small_a_size_is_refused(size):
    with pytest.raises(ValueError, match=rf"at least 32x32 .* found {size[0]}x{size[1]}"):
        streets.render(0, *size)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="non-negative integer, found -1"):
        streets.render(-1)


def test_labels_are_classes_or_ignore(counts):
    present = set(np.flatnonzero(counts.sum(0)))
    assert present == {*range(NUM_CLASSES), streets.IGNORE}


def test_frequencies_have_a_long_tail(counts):
    valid = counts[:, :NUM_CLASSES].sum(0)
    share = np.sort(valid / valid.sum())
    assert 0.25 < share[-1] < 0.38
    assert 0.001 < share[0] < 0.01
    assert (share < 0.02).sum() >= 4
    assert (share > 0.05).sum() >= 5


def test_every_class_is_in_many_images(counts):
    present = (counts[:, :NUM_CLASSES] > 5).mean(0)
    assert present.min() > 0.25


def test_ignore_covers_a_little_of_most_images(counts):
    share = counts[:, streets.IGNORE] / counts.sum(1)
    assert 0.02 < share.mean() < 0.12
    assert share.max() < 0.6
    assert (share > 0).mean() > 0.7
    assert (share < 0.01).any()


def test_colour_and_position_do_not_tell_the_class(scenes):
    """A table of class counts per colour (8 levels a channel) and row (16 bands)."""

    def cells(images):
        pixels = np.stack([image for image, _ in images]) // 32
        rows = np.arange(128)[:, None] // 8
        red, green, blue = np.moveaxis(pixels.astype(int), -1, 0)
        return (((rows * 8 + red) * 8 + green) * 8 + blue).ravel()

    def classes(images):
        return np.stack([label for _, label in images]).ravel()

    train, test = scenes[:40], scenes[40:]
    table = np.zeros((16 * 8**3, 256))
    np.add.at(table, (cells(train), classes(train)), 1)
    predicted, truth = table[:, :NUM_CLASSES].argmax(1)[cells(test)], classes(test)
    confusion = np.zeros((256, 256))
    np.add.at(confusion, (truth, predicted), 1)
    confusion = confusion[:NUM_CLASSES, :NUM_CLASSES]
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert 0.1 < iou.mean() < 0.3


# The labels.


def test_poles_are_thin(scenes):
    """Nothing of a pole holds a square of 5 pixels, bar the heads of a few close lamps."""
    poles = np.stack([(label == POLE).astype(np.uint8) for _, label in scenes])
    thick = [cv2.morphologyEx(pole, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) for pole in poles]
    assert poles.sum() > 1000
    assert np.sum(thick) < 0.02 * poles.sum()


@pytest.mark.parametrize("axis", [0, 1])
def test_label_borders_lie_on_image_edges(scenes, axis):
    """The mean step of the image across label borders peaks where the label is unshifted."""
    steps = np.zeros(7)
    for image, label in scenes[:30]:
        grey = np.moveaxis(image.astype(float).mean(-1), axis, 0)
        inner = np.moveaxis(label.astype(int), axis, 0)[3:-3]
        borders = np.diff(inner, axis=0) != 0
        for shift in range(7):
            seen = grey[shift : shift + len(inner)]
            steps[shift] += np.abs(np.diff(seen, axis=0))[borders].mean()
    assert steps[3] > 1.2 * np.delete(steps, 3).max()
    assert steps[2] == pytest.approx(steps[4], rel=0.1)  # no lean to either side


@settings(max_examples=60, deadline=None)
@given(
    corners=st.lists(st.tuples(st.floats(-9, 9), st.floats(-3, 6)), min_size=3, max_size=8),
    z=st.floats(10, 20),  # all within the image
)
def test_a_solid_gets_its_colour_where_it_gets_its_label(corners, z):
    painting = canvas()
    points = np.array([(u, y, z) for u, y in corners])
    painting.hull(points, np.array([200.0, 100.0, 50.0]), CAR)
    painting.paint()
    inside = (painting.label == CAR).astype(np.uint8)
    smooth = np.ones((5, 5), np.uint8)  # OpenCV's antialiased edge is up to two pixels wide
    core = cv2.erode(inside, smooth, borderValue=0).astype(bool)
    near = cv2.dilate(inside, smooth).astype(bool)
    assert (painting.image[core] == (200, 100, 50)).all()
    assert painting.image[~near].max(initial=0) <= 20  # a tenth: the faint end of such an edge
    assert (painting.label[inside == 0] == streets.IGNORE).all()


@given(u=st.floats(-0.5, 0.5), y=st.floats(1, 2))
@settings(max_examples=30, deadline=None)
def test_colour_and_label_of_a_disc_have_the_same_centre(u, y):
    painting = canvas()
    painting.fill(upright(ring(40), u, y, 10), np.full(3, 100.0), CAR)
    painting.paint()
    rows, columns = np.nonzero(painting.label == CAR)
    weights = painting.image[..., 0] / painting.image[..., 0].sum()
    expected = camera().project(np.array([u, y, 10])) - 0.5
    centre = [(weights * np.arange(200)).sum(), (weights.T * np.arange(100)).sum()]
    np.testing.assert_allclose(centre, expected, atol=0.25)
    np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=0.25)


def test_a_rectangle_covers_the_pixels_it_should():
    painting = canvas()  # at 10 m, a metre is 10 pixels; the ground is 15 pixels below the horizon
    corners = np.array([[-2, 0, 10], [3, 0, 10], [3, 2, 10], [-2, 2, 10]], dtype=float)
    painting.fill(corners, np.full(3, 90.0), CAR)
    painting.paint()
    rows, columns = np.nonzero(painting.label == CAR)
    assert abs(rows.min() - 45) <= 1
    assert abs(rows.max() - 64) <= 1
    assert abs(columns.min() - 80) <= 1
    assert abs(columns.max() - 129) <= 1
    assert rows.size == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_later_strokes_hide_earlier_ones_and_none_leaves_them():
    painting = canvas()
    whole = np.array([[-50, -50, 10], [50, -50, 10], [50, 50, 10], [-50, 50, 10]], dtype=float)
    painting.fill(whole, np.full(3, 10.0), SKY)
    painting.fill(whole, np.full(3, 20.0), CAR, halo=1.0)
    painting.fill(whole, None, POLE)
    painting.line(np.array([[-50.0, 1, 10], [50, 1, 10]]), 0.1, np.full(3, 90.0), None)
    painting.paint()
    assert (painting.label == POLE).all()
    assert painting.image[0, 0].tolist() == [20, 20, 20]
    assert painting.image.max() > 50  # a thin line, blended by antialiasing


def test_only_faces_towards_the_camera_are_painted():
    square = np.array([[-1, 0, 10], [1, 0, 10], [1, 2, 10], [-1, 2, 10]], dtype=float)
    for corners, expected in ((square, True), (square[::-1], False)):
        painting = canvas()
        painting.fill(corners, np.full(3, 90.0), CAR, cull=True)
        painting.paint()
        assert (painting.label == CAR).any() == expected


def test_shadows_darken_the_image_and_keep_the_label():
    painting = canvas()
    whole = np.array([[-50, -50, 10], [50, -50, 10], [50, 50, 10], [-50, 50, 10]], dtype=float)
    painting.fill(whole, np.full(3, 100.0), CAR)
    painting.shade((whole - [50, 0, 0])[None], 0.25)  # the left half
    assert painting.image[50, 20].tolist() == [75, 75, 75]
    assert painting.image[50, 180].tolist() == [100, 100, 100]
    assert (painting.label == CAR).all()


def test_a_halo_is_a_ring_of_ignore():
    painting = canvas()
    whole = np.array([[-50, -50, 10], [50, -50, 10], [50, 50, 10], [-50, 50, 10]], dtype=float)
    painting.fill(whole, np.full(3, 10.0), SKY)
    painting.fill(whole * [0.04, 0.04, 1], np.full(3, 20.0), CAR, halo=2.0)
    painting.paint()
    car = (painting.label == CAR).astype(np.uint8)
    halo = (painting.label == streets.IGNORE).astype(np.uint8)
    assert car.sum() > 1000
    outside = cv2.dilate(car, np.ones((3, 3), np.uint8)) > car
    assert (halo[outside] == 1).all()
    assert halo.sum() < 3 * outside.sum()


@pytest.mark.parametrize("seed", range(12))
def test_a_photograph_moves_nothing(seed):
    """A step between columns 63 and 64 stays there, whatever blurs it."""
    image = np.full((128, 128, 3), 40, np.uint8)
    image[:, 64:] = 200
    rng = np.random.Generator(np.random.PCG64(seed))
    profile = photograph(rng, image, np.zeros((128, 128), np.uint8)).astype(float).mean((0, 2))
    steps = np.maximum(np.diff(profile)[55:72], 0)  # step i is between columns i and i + 1
    steps[steps < 0.1 * steps.max()] = 0
    assert (steps * np.arange(55, 72)).sum() / steps.sum() == pytest.approx(63, abs=0.25)


# The camera.


def test_projection_of_a_level_straight_road():
    points = np.array([[0.0, 0, 10], [2, 0, 10], [0, 1.5, 25], [-4, 3, 20]])
    expected = [[100, 65], [120, 65], [100, 50], [80, 42.5]]
    np.testing.assert_allclose(camera().project(points), expected)


def test_projection_of_bends_hills_and_roll():
    point = np.array([0.0, 0, 20])
    straight = camera().project(point)
    np.testing.assert_allclose(camera(bend=0.01).project(point) - straight, [10, 0])
    np.testing.assert_allclose(camera(climb=0.01).project(point) - straight, [0, -10])
    np.testing.assert_allclose(camera(heading=0.1).project(point) - straight, [10, 0])
    np.testing.assert_allclose(camera(offset=2.0).project(point) - straight, [-10, 0])
    quarter = camera(roll=np.pi / 2).project(point)  # down becomes left
    np.testing.assert_allclose(quarter, [100 - 7.5, 50])


def test_projection_scales_with_the_image():
    points = np.array([[1.0, 2, 5], [-3, 0, 40]])
    np.testing.assert_allclose(
        camera(200, 400, roll=0.1).project(points), 2 * camera(roll=0.1).project(points)
    )
