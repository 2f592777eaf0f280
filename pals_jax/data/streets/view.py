"""The camera that looks down the street, and the light on it.

Points are `(u, y, z)` in metres: `u` to the right of the road's centre line, `y` above the ground
at that spot, `z` ahead along the road. Bends and hills live in the camera alone, so that whatever
is placed in these coordinates follows the road.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pals_jax.data.streets.shapes import Colour, Rng, greyish, hsv

NEAR = 0.8  # metres; what is closer is projected from there


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above a road that may bend and climb.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        focal: Focal length in image heights.
        horizon: Row of the horizon in image heights, 0 at the top.
        roll: Rotation about the optical axis in radians.
        eye: Height above the road in metres.
        offset: Distance to the right of the road's centre line in metres.
        heading: Slope of the road against the optical axis, in metres per metre.
        bend: Curvature of the road in 1/metre, positive to the right.
        climb: Curvature of the road's profile in 1/metre, positive upwards.
        far: Distance in metres beyond which there is only a backdrop.
    """

    height: int
    width: int
    focal: float
    horizon: float
    roll: float
    eye: float
    offset: float
    heading: float
    bend: float
    climb: float
    far: float

    @classmethod
    def draw(cls, rng: Rng, height: int, width: int) -> "Camera":
        """Draws a camera for an image of this size in pixels."""
        eye, climb, far = rng.uniform(1.2, 2.2), rng.normal(0, 0.0008), 110.0
        if climb < 0:  # beyond the crest of a hill the road is out of sight
            far = min(far, 0.95 * float(np.sqrt(2 * eye / -climb)))
        return cls(
            height=height,
            width=width,
            focal=rng.uniform(1.0, 1.6),
            horizon=rng.uniform(0.32, 0.58),
            roll=rng.normal(0, 0.02),
            eye=eye,
            offset=rng.normal(0, 2.2),
            heading=rng.normal(0, 0.16),
            bend=rng.normal(0, 0.006),
            climb=climb,
            far=far,
        )

    def project(self, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Continuous pixel coordinates `(column, row)`; a pixel's centre is at a half-integer.

        A road of curvature c leaves its tangent by c·z²/2 at distance z, which the perspective
        division turns into a shift by c·z/2.
        """
        z = np.maximum(points[..., 2], NEAR)
        right = (points[..., 0] - self.offset) / z + self.heading + self.bend * z / 2
        down = (self.eye - points[..., 1]) / z - self.climb * z / 2
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        scale = self.focal * self.height
        pixels = np.empty((*z.shape, 2))
        pixels[..., 0] = self.width / 2 + scale * (right * cos - down * sin)
        pixels[..., 1] = self.horizon * self.height + scale * (right * sin + down * cos)
        return pixels


@dataclass(frozen=True)
class Light:
    """How a scene is lit.

    Attributes:
        tint: Factor on every colour, per channel.
        haze: Colour that distance fades to, and the sky's near the horizon.
        zenith: Colour of the sky overhead.
        density: Rate of the fading in 1/metre.
        shadow: Share of the light that a shadow on the ground takes away.
        cast: Shift `(u, z)` of a shadow in metres per metre of height.
        left: Factor on surfaces that face the left; those that face the right get its inverse.
        lamps: Share of windows and lamps that are lit.
    """

    tint: Float[np.ndarray, "3"]
    haze: Colour
    zenith: Colour
    density: float
    shadow: float
    cast: tuple[float, float]
    left: float
    lamps: float

    @classmethod
    def draw(cls, rng: Rng) -> "Light":
        """Draws sunshine, clouds, dusk or fog."""
        cast, left, lamps = (0.1, 0.0), 1.0, 0.05
        shadow, density = rng.uniform(0.1, 0.25), rng.uniform(0, 0.008)
        haze = zenith = greyish(rng, 0.5, 0.95, 0.15)
        weather = rng.choice(["sun", "clouds", "dusk", "fog"], p=[0.48, 0.38, 0.08, 0.06])
        if weather == "sun":
            haze = hsv(0.6 + rng.normal(0, 0.05), rng.uniform(0, 0.2), rng.uniform(0.65, 1.0))
            zenith = hsv(rng.uniform(0.55, 0.64), rng.uniform(0.2, 0.75), rng.uniform(0.5, 0.95))
            shadow, lamps, bright = rng.uniform(0.35, 0.7), 0.02, rng.uniform(0.85, 1.15)
            from_left = 1 if rng.random() < 0.5 else -1
            cast = (from_left * rng.uniform(0.2, 2.0), rng.normal(0, 0.8))
            left = float(np.exp(from_left * rng.uniform(0.05, 0.3)))
        elif weather == "clouds":
            zenith, bright = haze * rng.uniform(0.8, 1.1), rng.uniform(0.6, 1.0)
        elif weather == "dusk":
            haze = hsv(rng.uniform(-0.05, 0.12), rng.uniform(0.1, 0.7), rng.uniform(0.35, 0.85))
            zenith = hsv(rng.uniform(0.58, 0.75), rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.55))
            lamps, bright = rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.7)
        else:
            density, bright = rng.uniform(0.01, 0.028), rng.uniform(0.5, 0.95)
        warm = rng.normal(0, 0.06)
        tint = bright * np.array([1 + warm, 1, 1 - warm])
        return cls(tint, haze, zenith, density, shadow, cast, left, lamps)
