"""Painters of what stands at the roadside: vegetation, poles, signs and clutter."""

import numpy as np
from jaxtyping import Float

from pals_jax.data.streets.canvas import IGNORE, Canvas, Class
from pals_jax.data.streets.shapes import (
    Colour,
    Rng,
    Spot,
    any_colour,
    greyish,
    hsv,
    jitter,
    leaf_colour,
    panel,
    ragged,
    rectangles,
    ring,
    trapezoid,
    upright,
)

_THIN = 2.5  # the widest pole in pixels (per 128 rows)


def tree(canvas: Canvas, rng: Rng, u: float, z: float, height: float) -> None:
    """A trunk with a round, conical or bare crown, all of it vegetation."""
    kind = rng.choice(["round", "cone", "bare"], p=[0.7, 0.13, 0.17])
    bark = hsv(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.5), rng.uniform(0.12, 0.45))
    thick, stem = height * rng.uniform(0.015, 0.03), height * rng.uniform(0.2, 0.45)
    halo = 1.0 if rng.random() < 0.5 else 0.0  # leaves against the sky have no sharp edge
    colour = leaf_colour(rng)
    trunk = trapezoid(thick, 0, 0.7 * thick, stem)
    canvas.fill(upright(trunk, u, 0, z), bark, Class.VEGETATION, 0.6)
    if kind == "bare":
        heights = np.sort(rng.uniform(0.5 * stem, height, (9, 3)), axis=1)
        spread = np.cumsum(rng.normal(0, 0.12 * height, (9, 3)), axis=1) * [0.2, 1, 1.3]
        branches = upright(np.stack([spread, heights], axis=-1), u, 0, z)
        canvas.line(branches, 0.1, bark, Class.VEGETATION, widest=2)
    elif kind == "cone":
        slim = rng.uniform(0.15, 0.25)
        tiers = [
            trapezoid(slim * (1.1 - low) * height, low * height, 0, (low + 0.3) * height)
            for low in np.linspace(0.15, 0.8, 5)
        ]
        tones = jitter(rng, 0.8 * colour, 5, 0.12)
        canvas.fill(upright(np.array(tiers), u, 0, z), tones, Class.VEGETATION, 0.8, halo=halo)
    else:
        count, size = (36, 0.3) if z < 18 else (14, 0.5)
        radius = height * rng.uniform(0.18, 0.32)
        around = np.clip(rng.standard_normal((count, 2)) * [0.55, 0.4], -1, 1)
        around = around[np.argsort(around[:, 1])] * [radius, (height - stem) / 2]
        centres = upright(around, u, (height + stem) / 2, z)
        _leaves(canvas, rng, centres, radius * size, colour, halo)


def hedge(canvas: Canvas, rng: Rng, start: Spot, end: Spot, height: float) -> None:
    """A row of bushes from start to the farther end, or ivy where it hangs on a wall."""
    colour, along = leaf_colour(rng), np.sort(rng.random(12))[::-1]
    if rng.random() < 0.6:
        body = rectangles(start, end, 0, 0, 1, 0.8 * height)
        canvas.fill(body, 0.8 * colour, Class.VEGETATION, 0.9)
    centres = panel(start, end, along, height * rng.uniform(0.4, 0.85, 12))
    _leaves(canvas, rng, centres, 0.4 * height, colour)


def _leaves(
    canvas: Canvas,
    rng: Rng,
    centres: Float[np.ndarray, "m 3"],
    size: float,
    colour: Colour,
    halo: float = 0.0,
) -> None:
    """Clumps of leaves: ragged discs that face the camera, the lower ones darker."""
    count, up = len(centres), centres[:, 1]
    radii = size * rng.uniform(0.6, 1.3, (count, 1, 1))
    clumps = upright(radii * ragged(rng, ring(10), 0.25, count), 0, 0, 0) + centres[:, None]
    light = 0.7 + 0.6 * (up - up.min()) / (np.ptp(up) + 0.1)
    tones = jitter(rng, colour, count, 0.18) * light[:, None]
    canvas.fill(clumps, tones, Class.VEGETATION, rng.uniform(0.5, 1), halo=halo)


def pole(canvas: Canvas, rng: Rng, u: float, z: float, kind: str) -> None:
    """A pole with what it carries: kind is lamp, sign, light (for traffic), wire or bollard."""
    colour = greyish(rng, 0.08, 0.8, 0.15)
    if rng.random() < 0.2:
        colour = hsv(
            float(rng.choice([0.35, 0.08, 0.13])), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.6)
        )
    low, high = {
        "lamp": (5, 9),
        "sign": (2.2, 3.2),
        "light": (3, 5.5),
        "wire": (6, 9),
        "bollard": (0.8, 1.1),
    }[kind]
    tall = rng.uniform(low, high)
    top = np.array([u + rng.normal(0, 0.015) * tall, tall, z])
    inward = -1.0 if u > 0 else 1.0

    def bar(start: list[float] | np.ndarray, end: list[float] | np.ndarray) -> None:
        canvas.line(np.array([start, end]), 0.09, colour, Class.POLE, widest=_THIN)

    bar([u, 0, z], top)
    if kind == "lamp":
        tip = top + np.array([inward * rng.uniform(0, 2.5), 0.4, 0])
        bar(top, tip)
        shine = bool(rng.random() < canvas.light.lamps)
        tone = hsv(0.12, 0.2, 1.0) if shine else 0.9 * colour
        head = upright(trapezoid(0.35, -0.05, 0.25, 0.12), *tip)
        canvas.fill(head, tone, Class.POLE, glow=shine)
    elif kind == "sign":
        for level in range(rng.integers(1, 3)):
            _sign(canvas, rng, top[0], tall - 0.4 - 0.85 * level, z)
    elif kind == "light":
        _traffic_light(canvas, rng, u, tall - 1.2, z)
        if rng.random() < 0.5:
            tip = top + np.array([inward * rng.uniform(2, 4.5), 0.2, 0])
            bar(top, tip)
            _traffic_light(canvas, rng, tip[0], tall - 0.9, z)
    elif kind == "wire":
        for y in (0.92 * tall, 0.8 * tall):
            bar([u - 0.9, y, z], [u + 0.9, y, z])


def _sign(canvas: Canvas, rng: Rng, u: float, y: float, z: float) -> None:
    """A traffic sign centred at height `y`, now and then seen from behind."""
    shape = rng.choice(["disc", "triangle", "square", "board"], p=[0.4, 0.25, 0.2, 0.15])
    size = rng.uniform(0.32, 0.55)
    outline = {
        "disc": ring(12),
        "triangle": trapezoid(0.0, -1.1, 1.2, 0.8) * [1, rng.choice([-1, 1])],
        "square": 1.2 * ring(4),
        "board": 1.3 * ring(4) * [rng.uniform(1.2, 2.5), 1],
    }[str(shape)]
    rim = hsv(float(rng.choice([0.0, 0.6, 0.13, 0.4])), rng.uniform(0.6, 1), rng.uniform(0.4, 0.9))
    face = (
        greyish(rng, 0.8, 1)
        if rng.random() < 0.6
        else hsv(float(rng.choice([0.13, 0.6])), 0.8, 0.7)
    )
    if rng.random() < 0.2:
        rim = face = greyish(rng, 0.3, 0.7)
    mark = outline * rng.uniform(0.15, 0.5, 2)
    for part, tone in ((outline, rim), (0.72 * outline, face), (mark, rim * rng.random())):
        canvas.fill(upright(size * part, u, y, z), tone, Class.SIGN)


def _traffic_light(canvas: Canvas, rng: Rng, u: float, y: float, z: float) -> None:
    """Three lamps in a dark box whose lower edge is at height `y`; one of them shines."""
    box = trapezoid(0.17, 0, 0.17, 1.05) * rng.uniform(1.0, 1.3)
    canvas.fill(upright(box, u, y, z), greyish(rng, 0.05, 0.3), Class.SIGN)
    on = rng.integers(3)
    for lamp, hue in enumerate((0.38, 0.12, 0.0)):
        disc = upright(0.12 * ring(8), u, y + 0.2 + 0.33 * lamp, z)
        tone = hsv(hue, 0.8, 1.0 if lamp == on else 0.15)
        canvas.fill(disc, tone, Class.SIGN, glow=bool(lamp == on))


def wires(canvas: Canvas, rng: Rng, far: float) -> None:
    """Cables overhead, too thin to have a class: the label keeps what is behind them."""
    u, height, across = rng.uniform(-8, 8), rng.uniform(5.5, 8), rng.normal(0, 6)
    steps = np.linspace(0, 1, 12)
    sag = 0.8 * np.sin(2 * np.pi * steps) ** 2
    for shift in 0.5 * np.arange(rng.integers(1, 4)):
        spots = [u + shift + across * steps, height + shift - sag, 2 + (far - 2) * steps**2]
        canvas.line(np.stack(spots, axis=-1), 0.01, greyish(rng, 0.05, 0.3), None)


def clutter(canvas: Canvas, rng: Rng, u: float, z: float) -> None:
    """A thing of no class, labelled IGNORE: bin, cone, board, bags, shelter or billboard."""
    kinds = ["bin", "cone", "board", "bags", "shelter", "billboard"]
    kind = rng.choice(kinds, p=[0.3, 0.15, 0.15, 0.2, 0.1, 0.1])
    colour, other = any_colour(rng), any_colour(rng)
    if kind == "bin":
        wide, tall = rng.uniform(0.25, 0.45), rng.uniform(0.8, 1.3)
        lid = trapezoid(1.1 * wide, tall, 0.8 * wide, tall + 0.15)
        shapes, tones = [trapezoid(0.8 * wide, 0, wide, tall), lid], [colour, 0.7 * colour]
    elif kind == "cone":
        shapes = [trapezoid(0.25, 0, 0.04, 0.75), trapezoid(0.17, 0.3, 0.11, 0.48)]
        tones = [hsv(0.05, 0.85, 0.9), greyish(rng, 0.8, 1)]
    elif kind == "board":
        shapes = [trapezoid(0.35, 0, 0.3, 1.1), trapezoid(0.26, 0.4, 0.22, 0.95)]
        tones = [colour, other]
    elif kind == "bags":
        spots = np.stack([rng.uniform(-0.7, 0.7, 5), rng.uniform(0.1, 0.5, 5)], axis=-1)
        shapes = list(0.35 * ragged(rng, ring(7), 0.15, 5) + spots[:, None])
        tones = list(jitter(rng, colour, 5, 0.2))
    elif kind == "shelter":
        long = rng.uniform(2, 4)
        left, right = np.array([0, 0.6, 0]), np.array([1, 0.95, 1])
        bottom, top = np.array([0, 0.3, 2.3]), np.array([2.4, 2.1, 2.6])
        panes = rectangles((u, z), (u, z + long), left, bottom, right, top)
        canvas.fill(panes, np.stack([0.6 * canvas.light.haze, colour, 0.5 * other]), IGNORE)
        return
    else:
        low, high, half = rng.uniform(1.5, 3), rng.uniform(3.5, 6), rng.uniform(1, 2)
        for foot in (u - 0.6 * half, u + 0.6 * half):
            post = np.array([[foot, 0, z], [foot, low, z]])
            canvas.line(post, 0.09, greyish(rng, 0.1, 0.5), Class.POLE, widest=_THIN)
        edge = 0.2 * (high - low)
        inner = trapezoid(0.8 * half, low + edge, 0.8 * half, high - edge)
        shapes, tones = [trapezoid(half, low, half, high), inner], [colour, other]
    canvas.fill(upright(np.array(shapes), u, 0, z), np.array(tones), IGNORE, 0.2)
