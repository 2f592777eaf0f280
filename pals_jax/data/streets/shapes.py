"""Colours and shapes that the painters share. Lengths are metres, colours RGB in [0, 255]."""

import colorsys

import numpy as np
from jaxtyping import Float

Rng = np.random.Generator
Colour = Float[np.ndarray, "3"]
Spot = tuple[float, float]  # (u, z), a point on the ground
Number = float | Float[np.ndarray, " m"]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue (in turns), saturation and value (both clipped to [0, 1])."""
    saturation, value = min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0)
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))


def greyish(rng: Rng, low: float, high: float, tint: float = 0.08) -> Colour:
    """A warm or cold grey with value in [low, high] and saturation up to `tint`."""
    hue = (0.08 if rng.random() < 0.5 else 0.6) + rng.normal(0, 0.05)
    return hsv(hue, rng.uniform(0, tint), rng.uniform(low, high))


def any_colour(rng: Rng) -> Colour:
    """A colour of cloth, car paint or plastic: half the time grey, else of any hue."""
    if rng.random() < 0.5:
        return greyish(rng, 0.08, 0.92)
    return hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.9))


def leaf_colour(rng: Rng) -> Colour:
    """Green or olive; now and then autumn yellow, red or brown."""
    if rng.random() < 0.75:
        return hsv(rng.uniform(0.18, 0.38), rng.uniform(0.25, 0.8), rng.uniform(0.2, 0.6))
    return hsv(rng.uniform(0.02, 0.16), rng.uniform(0.15, 0.7), rng.uniform(0.25, 0.7))


def jitter(rng: Rng, colour: Colour, count: int, sd: float) -> Float[np.ndarray, "n 3"]:
    """`count` shades of a colour, brighter or darker by a factor of standard deviation `sd`."""
    return colour * (1 + sd * rng.standard_normal((count, 1)))


def ring(count: int) -> Float[np.ndarray, "n 2"]:
    """Corners of a regular polygon of radius 1."""
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def ragged(
    rng: Rng, outline: Float[np.ndarray, "n 2"], sd: float, count: int = 1
) -> Float[np.ndarray, "m n 2"]:
    """`count` copies of an outline, each corner moved out or in at random."""
    return outline * (1 + sd * rng.standard_normal((count, len(outline), 1)))


def trapezoid(foot: float, bottom: float, head: float, top: float) -> Float[np.ndarray, "4 2"]:
    """A symmetric one, of half-width `foot` at height `bottom` and `head` at `top`."""
    return np.array([[-foot, bottom], [foot, bottom], [head, top], [-head, top]])


# Both ends of a limb of half-width 1, as (across, along).
_CAP = np.array(
    [[1, 0], [0.6, -0.7], [-0.6, -0.7], [-1, 0], [-1, 0], [-0.6, 0.7], [0.6, 0.7], [1, 0]]
)


def limb(start: Spot, end: Spot, first: float, last: float) -> Float[np.ndarray, "8 2"]:
    """A rounded bar between two points, `first` wide at the start and `last` at the end."""
    origin = np.array(start, dtype=float)
    along = np.array(end, dtype=float) - origin
    unit = along / max(float(np.hypot(*along)), 1e-6)
    across = np.array([-unit[1], unit[0]])
    half = np.array([[first / 2]] * 4 + [[last / 2]] * 4)
    bases = origin + np.array([[0]] * 4 + [[1]] * 4) * along
    return bases + half * (_CAP[:, :1] * across + _CAP[:, 1:] * unit)


def upright(
    shape: Float[np.ndarray, "*n 2"], u: float, y: float, z: float
) -> Float[np.ndarray, "*n 3"]:
    """A flat shape that faces the camera, its origin at `(u, y, z)`."""
    points = np.empty((*shape.shape[:-1], 3))
    points[..., :2] = shape + np.array([u, y])
    points[..., 2] = z
    return points


def panel(
    start: Spot, end: Spot, along: float | np.ndarray, up: float | np.ndarray
) -> Float[np.ndarray, "*n 3"]:
    """Points on an upright plane: `along` in [0, 1] from start to end, `up` in metres."""
    points = np.empty((*np.broadcast(along, up).shape, 3))
    points[..., 0] = start[0] + (end[0] - start[0]) * along
    points[..., 1] = up
    points[..., 2] = start[1] + (end[1] - start[1]) * along
    return points


def rectangles(
    start: Spot, end: Spot, left: Number, bottom: Number, right: Number, top: Number
) -> Float[np.ndarray, "m 4 3"]:
    """Rectangles on the panel from start to end, one per entry of the broadcast arrays."""
    along = np.empty((np.broadcast(left, bottom, right, top).size, 4))
    up = np.empty_like(along)
    along[:, 0] = along[:, 3] = left
    along[:, 1] = along[:, 2] = right
    up[:, 0] = up[:, 1] = bottom
    up[:, 2] = up[:, 3] = top
    return panel(start, end, along, up)
