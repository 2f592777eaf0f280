"""Painters of who moves through a street: cars, pedestrians and cyclists."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pals_jax.data.streets.canvas import Canvas, Class
from pals_jax.data.streets.shapes import (
    Colour,
    Rng,
    Spot,
    any_colour,
    greyish,
    hsv,
    limb,
    ring,
    upright,
)

Corner = tuple[float, float, float]


class Body(NamedTuple):
    """The shape of a vehicle.

    Attributes:
        length: Metres.
        width: Metres.
        height: Metres.
        waist: Height of the lower edge of the windows in metres.
        sill: Where the cabin begins and ends at the waist, in lengths from the tail.
        roof: The same at the roof.
    """

    length: float
    width: float
    height: float
    waist: float
    sill: tuple[float, float]
    roof: tuple[float, float]


BODIES = {
    "hatchback": Body(3.9, 1.7, 1.5, 0.9, (0.02, 0.72), (0.1, 0.52)),
    "saloon": Body(4.6, 1.8, 1.45, 0.9, (0.12, 0.74), (0.25, 0.55)),
    "suv": Body(4.6, 1.9, 1.75, 1.05, (0.0, 0.74), (0.06, 0.6)),
    "van": Body(5.2, 2.0, 2.3, 1.15, (0.0, 0.92), (0.01, 0.8)),
    "bus": Body(10.0, 2.5, 3.1, 1.2, (0.0, 1.0), (0.0, 0.98)),
}
_LOW, _NARROW = 0.3, 0.82  # metres under the body; width of the roof against the body's


@lru_cache
def _solids(kind: str) -> list[Float[np.ndarray, "n 3"]]:
    """Corners of the convex underbody, body and cabin: (lengths from the tail, right, up)."""
    _, width, height, waist, sill, roof = BODIES[kind]
    half = width / 2

    def layer(ends: tuple[float, float], wide: float, y: float) -> list[Corner]:
        return [(a, b, y) for a in ends for b in (-wide, wide)]

    under = layer((0.02, 0.98), 0.9 * half, 0.1) + layer((0.02, 0.98), 0.9 * half, 0.5)
    body = layer((0, 1), half, _LOW) + layer((0, 1), half, 0.85 * waist)
    body += layer((0.03, 0.9), 0.95 * half, waist)
    cabin = layer(sill, 0.95 * half, waist) + layer(roof, _NARROW * half, height)
    return [np.array(solid) for solid in (under, body, cabin)]


@lru_cache
def _faces(kind: str) -> tuple[list[str], Float[np.ndarray, "m 4 3"], Float[np.ndarray, "8 10 3"]]:
    """Flat patches, their corners counter-clockwise from outside: names and quads; wheels."""
    length, width, height, waist, sill, roof = BODIES[kind]
    half, narrow, glass = width / 2, _NARROW * width / 2, height - waist
    names: list[str] = []
    quads: list[list[Corner]] = []
    wheels: list[list[Corner]] = []

    for side, flank in ((-1, "left"), (1, "right")):
        b, low, high = side * half, side * half * 0.96, side * (narrow + 0.02)
        pillar, bottom, top = sum(roof) / 2, waist + 0.02, waist + 0.86 * glass
        edge = 0.85 * waist
        patches: list[list[Corner]] = [[(0, b, _LOW), (1, b, _LOW), (1, b, edge), (0, b, edge)]]
        for a0, a1, a2, a3 in (
            (sill[0] + 0.04, pillar - 0.01, pillar - 0.01, roof[0] + 0.02),
            (pillar + 0.01, sill[1] - 0.04, roof[1] - 0.01, pillar + 0.01),
        ):
            patches.append([(a0, low, bottom), (a1, low, bottom), (a2, high, top), (a3, high, top)])
        names += [flank, "rear window", "window"]
        quads += [patch[::side] for patch in patches]
        for radius in (0.33, 0.19):
            for axle in (0.2, 0.8):
                disc = [(axle + x / length, b, 0.33 + y) for x, y in radius * ring(10)]
                wheels.append(disc[::side])

    for end, name in ((0, "tail"), (1, "front")):
        middle, inner, outer = (_LOW + waist) / 2, 0.6 * half, 0.97 * half
        patches = []
        for title, left, right, bottom, top in (
            ("end", -half, half, _LOW, 0.85 * waist),
            ("bumper", -half, half, _LOW, _LOW + 0.22),
            ("plate", -0.26, 0.26, middle - 0.06, middle + 0.08),
            (f"{name} lamp", -outer, -inner, middle, middle + 0.2),
            (f"{name} lamp", inner, outer, middle, middle + 0.2),
            ("tyre", -outer, -inner, 0.02, _LOW),
            ("tyre", inner, outer, 0.02, _LOW),
        ):
            corners = ((left, bottom), (right, bottom), (right, top), (left, top))
            names.append(title)
            patches.append([(end, b, y) for b, y in corners])
        bottom, top, wide, thin = waist + 0.03, waist + 0.8 * glass, 0.85 * half, 0.9 * narrow
        a0, a1 = sill[end], roof[end]
        names.append("window")
        patches.append([(a0, -wide, bottom), (a0, wide, bottom), (a1, thin, top), (a1, -thin, top)])
        quads += [patch[:: -1 if end else 1] for patch in patches]
    return names, np.array(quads), np.array(wheels)


def car(canvas: Canvas, rng: Rng, u: float, z: float, yaw: float, kind: str) -> None:
    """A vehicle from BODIES centred at `(u, z)`; with yaw 0 (radians) it drives away."""
    paint = greyish(rng, 0.08, 0.92, 0.1) if rng.random() < 0.65 else any_colour(rng)
    glass = greyish(rng, 0.08, 0.45) if rng.random() < 0.7 else 0.8 * canvas.light.haze
    tyre, hub = greyish(rng, 0.03, 0.12), greyish(rng, 0.3, 0.8)
    cos, sin = np.cos(yaw), np.sin(yaw)
    facing = canvas.light.left**cos  # of the left flank, which an oncoming car has on the right
    lit, closed = rng.random() < canvas.light.lamps, kind == "van" and rng.random() < 0.6
    tones = {
        "left": 0.9 * paint * facing,
        "right": 0.9 * paint / facing,
        "end": 0.85 * paint,
        "window": glass,
        "rear window": 0.95 * paint if closed else glass,
        "bumper": paint * (0.4 if rng.random() < 0.5 else 0.75),
        "plate": greyish(rng, 0.6, 0.95, 0.3),
        "tail lamp": hsv(0.0, 0.85, 1.0 if lit else 0.55),
        "front lamp": hsv(0.13, 0.15, 1.0 if lit else 0.7),
        "tyre": tyre,
    }

    def place(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        along, right = (points[..., 0] - 0.5) * BODIES[kind].length, points[..., 1]
        spots = [u + along * sin + right * cos, points[..., 2], z + along * cos - right * sin]
        return np.stack(spots, axis=-1)

    for solid, factor in zip(_solids(kind), (0.15, 1.0, 1.08), strict=True):
        canvas.hull(place(solid), factor * paint, Class.CAR)
    names, quads, wheels = _faces(kind)
    colours = np.array([tones[name] for name in names])
    glow = np.array([bool(lit) and name.endswith("lamp") for name in names])
    canvas.fill(place(quads), colours, Class.CAR, 0.05, glow=glow, cull=True)
    canvas.fill(place(wheels), np.array([tyre, tyre, hub, hub] * 2), Class.CAR, cull=True)


def _skin(rng: Rng) -> Colour:
    return hsv(rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.9))


def pedestrian(canvas: Canvas, rng: Rng, u: float, z: float, height: float) -> None:
    """Someone who stands or walks, in any clothes, perhaps with a coat, bag or umbrella."""
    top, trousers, hair, skin = any_colour(rng), any_colour(rng), 0.4 * any_colour(rng), _skin(rng)
    front, build = rng.uniform(0.55, 1.0), rng.uniform(0.85, 1.25)  # front 1: not from the side
    stride, swing = rng.uniform(0, 0.11), rng.uniform(-0.1, 0.1)
    shoulder, hip = 0.105 * front * build, 0.05 * front * build
    head = ring(10) * [0.052, 0.07]
    cap = limb((-0.03, 0.955), (0.03, 0.955), 0.07, 0.07)
    coat, long_hair = rng.random() < 0.3, rng.random() < 0.4
    shapes: list[tuple[Float[np.ndarray, "n 2"], Colour]] = [  # in heights of the person
        (limb((-hip, 0.5), (-hip - stride, 0.03), 0.1 * build, 0.05), 0.7 * trousers),
        (limb((hip, 0.5), (hip + stride, 0.03), 0.1 * build, 0.05), 0.8 * trousers),
        (limb((-shoulder, 0.78), (-shoulder - 0.03 - swing, 0.47), 0.07, 0.05), 0.8 * top),
        (limb((0, 0.74), (0, 0.52), 0.24 * front * build, 0.19 * build), top),
        (limb((shoulder, 0.78), (shoulder + 0.03 + swing, 0.47), 0.07, 0.05), 0.92 * top),
        (limb((0, 0.86), (0, 0.82), 0.06, 0.08), 0.85 * skin),
        (head + np.array([0, 0.92]), skin),
        (head + np.array([0, 0.935]) if long_hair else cap, hair),
    ]
    if coat:
        shapes.insert(4, (limb((0, 0.6), (0, 0.3), 0.2 * build, 0.26 * build), 0.9 * top))
    if rng.random() < 0.3:
        spot = np.array([rng.choice([-1, 1]) * (shoulder + 0.05), rng.uniform(0.3, 0.65)])
        shapes.append((ring(6) * [0.06, 0.09] + spot, any_colour(rng)))
    if rng.random() < 0.08:
        dome = np.array([[-0.3, 1.02], [0.4, 1.02], [0.25, 1.16], [0.05, 1.2], [-0.15, 1.16]])
        stick = limb((0.08, 0.6), (0.08, 1.05), 0.015, 0.015)
        shapes += [(stick, hair), (dome, any_colour(rng))]
    for shape, colour in shapes:
        canvas.fill(upright(height * shape, u, 0, z), colour, Class.PEDESTRIAN, 0.25)


def cyclist(canvas: Canvas, rng: Rng, u: float, z: float, yaw: float) -> None:
    """Rider and bicycle, with all that shows between the spokes; yaw 0 (radians) rides away."""
    sideways = float(np.sin(yaw))
    ahead = (1 if sideways > 0 else -1) * max(abs(sideways), 0.12)  # foreshortening
    broad = max(abs(float(np.cos(yaw))), 0.45)
    frame, tyre, helmet = any_colour(rng), greyish(rng, 0.05, 0.25), any_colour(rng)
    top, trousers, skin = any_colour(rng), 0.8 * any_colour(rng), _skin(rng)
    lean, pedal = rng.uniform(0.1, 0.5), rng.uniform(0, 2 * np.pi)

    def fill(shape: Float[np.ndarray, "n 2"], colour: Colour | None) -> None:
        canvas.fill(upright(shape, u, 0, z), colour, Class.CYCLIST, 0.2)

    def tube(points: list[Spot] | np.ndarray, colour: Colour = frame) -> None:
        line = upright(np.array(points) * [ahead, 1], u, 0, z)
        canvas.line(line, 0.06, colour, Class.CYCLIST)

    def part(
        start: Spot, end: Spot, first: float, last: float, colour: Colour, shift: float = 0.0
    ) -> None:
        """A limb of true width whatever the direction of the ride, `shift` metres aside."""
        ends = [(x * ahead + shift, y) for x, y in (start, end)]
        fill(limb(ends[0], ends[1], first, last), colour)

    for hub in (-0.52, 0.52):
        wheel = 0.34 * ring(16) + [hub, 0.34]
        fill(wheel * [ahead, 1], None)
        tube(np.append(wheel, wheel[:1], axis=0), tyre)
    crank, seat, bars = (-0.05, 0.3), (-0.2, 0.92), (0.42, 1.0)
    tube([(-0.52, 0.34), crank, (-0.17, 0.82), (-0.52, 0.34)])
    tube([crank, (0.38, 0.85), (-0.17, 0.82)])
    tube([(0.52, 0.34), (0.36, 0.95), bars])

    shoulder = (-0.05 + 0.45 * lean, 1.45 - 0.15 * lean)
    for phase, side, dark in ((pedal, -1, 0.8), (pedal + np.pi, 1, 1.0)):
        foot = (crank[0] + 0.17 * np.cos(phase), crank[1] + 0.17 * np.sin(phase))
        knee, shift = (0.18, 0.72 + 0.12 * np.sin(phase)), side * 0.13 * broad
        part(seat, knee, 0.18, 0.14, dark * trousers, shift)
        part(knee, foot, 0.13, 0.09, dark * trousers, shift)
        part(shoulder, bars, 0.12, 0.08, 0.9 * dark * top, 2 * shift)
    if abs(sideways) < 0.5:  # from behind or ahead, the nearer wheel shows between the legs
        hub = -0.52 if np.cos(yaw) > 0 else 0.52
        tube([(hub, 0.03), (hub, 0.65)], tyre)
    part(seat, shoulder, 0.18 + 0.18 * broad, 0.22 + 0.22 * broad, top)
    head = np.array([(shoulder[0] + 0.08) * ahead, shoulder[1] + 0.25])
    fill(ring(10) * [0.11, 0.13] + head, skin)
    if rng.random() < 0.7:
        fill(ring(10) * [0.13, 0.1] + head + np.array([0, 0.06]), helmet)
