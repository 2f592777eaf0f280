"""Painters of what borders a street: buildings, fences and guard rails.

Painters draw the same amount of randomness whatever the image size, so that a seed is one scene.
"""

from dataclasses import dataclass

import numpy as np

from pals_jax.data.streets.canvas import Canvas, Class
from pals_jax.data.streets.shapes import (
    Colour,
    Number,
    Rng,
    Spot,
    any_colour,
    greyish,
    hsv,
    jitter,
    panel,
    rectangles,
)


@dataclass(frozen=True)
class Facade:
    """The looks that the walls of one building share; lengths in metres.

    Attributes:
        wall: Colour of brick, plaster, stone or concrete.
        trim: Colour of window frames and ledges.
        glass: Colour of unlit windows.
        storey: Height of a storey.
        bay: Width of a bay, which holds one window per storey.
        window: Share of a bay's width and of a storey's height that a window takes.
        shop: Whether the ground floor has shop windows.
        bricks: Whether courses of bricks show.
        grain: Roughness in [0, 1].
    """

    wall: Colour
    trim: Colour
    glass: Colour
    storey: float
    bay: float
    window: tuple[float, float]
    shop: bool
    bricks: bool
    grain: float

    @classmethod
    def draw(cls, rng: Rng) -> "Facade":
        """Draws the looks of a building."""
        material = rng.random()
        if material < 0.5:
            wall = greyish(rng, 0.3, 0.9, 0.15)
        elif material < 0.85:
            wall = hsv(rng.uniform(0, 0.14), rng.uniform(0.15, 0.6), rng.uniform(0.25, 0.9))
        else:
            wall = hsv(rng.random(), rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.95))
        ribbon = rng.random() < 0.2  # windows side by side
        return cls(
            wall=wall,
            trim=np.clip(wall * rng.uniform(0.7, 1.4), 0, 255),
            glass=hsv(rng.uniform(0.5, 0.65), rng.uniform(0, 0.35), rng.uniform(0.1, 0.7)),
            storey=rng.uniform(2.8, 3.8),
            bay=rng.uniform(1.6, 3.6) * (3 if ribbon else 1),
            window=(0.96 if ribbon else rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.75)),
            shop=bool(rng.random() < 0.4),
            bricks=bool(rng.random() < 0.4),
            grain=rng.uniform(0, 0.8),
        )


def building(
    canvas: Canvas, rng: Rng, side: int, u: float, near: float, far: float, height: float
) -> None:
    """A house on one side (-1 left, 1 right) whose front runs along the street at `u`."""
    looks, back = Facade.draw(rng), u + side * rng.uniform(8, 14)
    facing = canvas.light.left if side > 0 else 1 / canvas.light.left
    pitched, ridge = rng.random() < 0.35, height + rng.uniform(1.5, 4)
    tiles = facing * hsv(rng.uniform(0, 0.1), rng.uniform(0, 0.6), rng.uniform(0.2, 0.6))
    windows, chimney, middle = rng.random() < 0.5, rng.random() < 0.3, (u + back) / 2
    if pitched:
        front, end = [u, height, near], [middle, ridge, near]
        roof = np.array([front, [u, height, far], [middle, ridge, far], end])
        canvas.fill(roof, tiles, Class.BUILDING, 0.5)
        gable = np.array([front, [back, height, near], end])
        canvas.fill(gable, looks.wall * 0.85, Class.BUILDING, looks.grain)
    wall(canvas, rng, (u, near), (back, near), height, looks, 0.85, windows)
    wall(canvas, rng, (u, near), (u, far), height, looks, facing)
    if chimney:
        stack = rectangles((u, near), (back, near), 0.3, height, 0.4, ridge + 1)
        canvas.fill(stack, looks.wall * 0.7, Class.BUILDING, looks.grain)


def wall(
    canvas: Canvas,
    rng: Rng,
    start: Spot,
    end: Spot,
    height: float,
    looks: Facade,
    shade: float = 1.0,
    windows: bool = True,
) -> None:
    """One wall of a building with windows, ground floor, ledges, and posters in any colour."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    storey, floors = looks.storey, max(1, int(height / looks.storey))
    near = min(start[1], end[1])

    def paint(
        left: Number,
        bottom: Number,
        right: Number,
        top: Number,
        colours: np.ndarray,
        grain: float = 0.1,
        glow: bool = False,
    ) -> None:
        patches = rectangles(start, end, left, bottom, right, top)
        canvas.fill(patches, colours, Class.BUILDING, grain, glow=glow)

    paint(0, 0, 1, height, looks.wall * shade, looks.grain)
    if looks.bricks and near < 40:
        courses = np.arange(0.3, height, 0.6)
        paint(0, courses, 1, courses + 0.1, looks.wall * shade * 0.88)
    if windows:
        bays = max(1, min(14, int(length / looks.bay)))
        floor, bay = np.meshgrid(np.arange(int(looks.shop), floors), np.arange(bays))
        west = (bay.ravel() + 0.5 - looks.window[0] / 2) / bays
        low = (floor.ravel() + 0.2) * storey
        east, high = west + looks.window[0] / bays, low + looks.window[1] * storey
        if near < 30:
            frame = 0.12 / length
            paint(west - frame, low - 0.12, east + frame, high + 0.12, looks.trim * shade)
        paint(west, low, east, high, jitter(rng, looks.glass * shade, west.size, 0.25))
        lit = rng.random(west.size) < canvas.light.lamps
        warm = jitter(rng, hsv(0.12, rng.uniform(0.1, 0.5), 0.95), int(lit.sum()), 0.15)
        paint(west[lit], low[lit], east[lit], high[lit], warm, glow=True)
    if looks.shop:
        count = max(1, int(length / 5))
        units, letters = np.arange(count) / count, rng.uniform(0.1, 0.9, 3 * count)
        sign, door = any_colour(rng) * shade, any_colour(rng) * shade
        paint(0, storey * 0.8, 1, storey, sign)
        paint(letters, storey * 0.86, letters + 0.03, storey * 0.95, 255 - sign)
        paint(units + 0.1 / count, 0.5, units + 0.6 / count, storey * 0.75, looks.glass * 0.8)
        paint(units + 0.7 / count, 0, units + 0.9 / count, storey * 0.75, door)
    else:
        left = rng.uniform(0.05, 0.8)
        paint(left, 0, left + min(0.2, 1.2 / length), 2.2, any_colour(rng) * shade)
    if rng.random() < 0.5:
        ledges = storey * np.arange(1, floors + 1)
        paint(0, ledges, 1, ledges + 0.25, looks.trim * shade)
    for _ in range(rng.poisson(0.8)):
        left, bottom = rng.uniform(0, 0.85), rng.uniform(0.3, max(0.5, height - 2.5))
        wide, tall = rng.uniform(0.7, 4) / length, rng.uniform(0.7, 2.5)
        paint(left, bottom, left + wide, bottom + tall, any_colour(rng) * shade)
        text = bottom + 0.3 * tall
        paint(
            left + 0.2 * wide, text, left + 0.7 * wide, text + 0.3 * tall, any_colour(rng) * shade
        )


def fence(canvas: Canvas, rng: Rng, start: Spot, end: Spot) -> None:
    """A low wall, planks, railings or wire mesh; what shows through the last two is fence too."""
    kind = rng.choice(["wall", "planks", "railings", "mesh"], p=[0.25, 0.25, 0.3, 0.2])
    height, grain = rng.uniform(0.8, 2.2), rng.uniform(0, 0.8)
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    colour = any_colour(rng) if rng.random() < 0.3 else greyish(rng, 0.15, 0.85, 0.3)
    whole = rectangles(start, end, 0, 0, 1, height)
    if kind == "wall":
        courses = np.append(np.arange(0.2, height, 0.35), height - 0.12)
        seams = rectangles(start, end, 0, courses, 1, courses + 0.06)
        canvas.fill(whole, colour, Class.FENCE, grain)
        canvas.fill(seams, colour * rng.uniform(0.7, 1.3), Class.FENCE)
    elif kind == "planks":
        left = np.arange(0, 1, max(0.3 / length, 1 / 60))
        planks = rectangles(start, end, left, 0, left + 0.15 / length, height - 0.05)
        canvas.fill(whole, colour, Class.FENCE, grain)
        canvas.fill(planks, jitter(rng, colour, len(planks), 0.12), Class.FENCE, 0.3)
    else:
        canvas.fill(whole, None, Class.FENCE)
        feet = np.linspace(0, 1, max(2, min(50, int(length / rng.uniform(0.2, 0.5)))))
        slant = 0.0 if kind == "railings" else 3.0 / len(feet)
        for lean in {slant, -slant}:
            bars = [panel(start, end, feet, 0), panel(start, end, feet + lean, height)]
            canvas.line(np.stack(bars, axis=1), 0.03, colour, None)
        rails = np.array([[height], [0.15 * height]])
        canvas.line(panel(start, end, np.array([[0, 1]]), rails), 0.05, colour, Class.FENCE)
        _posts(canvas, start, end, max(2, min(16, int(length / 2))), height, colour)


def guard_rail(canvas: Canvas, rng: Rng, start: Spot, end: Spot) -> None:
    """A metal band on short posts between road and pavement."""
    colour = greyish(rng, 0.4, 0.85)
    canvas.fill(rectangles(start, end, 0, 0, 1, 0.8), None, Class.FENCE)
    _posts(canvas, start, end, 6, 0.8, 0.6 * colour)
    bottom, tones = np.array([0.45, 0.6]), np.stack([0.8 * colour, colour])
    canvas.fill(rectangles(start, end, 0, bottom, 1, bottom + 0.2), tones, Class.FENCE)


def _posts(
    canvas: Canvas, start: Spot, end: Spot, count: int, height: float, colour: Colour
) -> None:
    along = np.linspace(0, 1, count)
    posts = np.stack([panel(start, end, along, 0), panel(start, end, along, height)], axis=1)
    canvas.line(posts, 0.09, colour, Class.FENCE, widest=2)
