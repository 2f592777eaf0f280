"""One street: its layout, and the order in which it is painted."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pals_jax.data.streets import buildings, roadside, traffic
from pals_jax.data.streets.canvas import IGNORE, Canvas, Class
from pals_jax.data.streets.shapes import (
    Colour,
    Rng,
    greyish,
    hsv,
    jitter,
    leaf_colour,
    ragged,
    rectangles,
    ring,
    upright,
)

_STEPS = np.linspace(0, 1, 16)
_BASE = 0.5 * np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])  # of a box of size 1
_CROSSROAD = 7.0  # metres, the width of the road that crosses


class Street:
    """Places everything on construction; `paint` then paints it from far to near.

    Args:
        canvas: Painted on.
        rng: Source of every choice.
    """

    def __init__(self, canvas: Canvas, rng: Rng):
        self._canvas, self._rng = canvas, rng
        self._far = canvas.camera.far
        self._half = rng.uniform(3.0, 6.5)  # half the road's width
        self._kerb = {side: rng.uniform(1.5, 4.5) for side in (-1, 1)}  # width of each pavement
        self._junction = rng.uniform(9, 40) if rng.random() < 0.4 else np.inf
        self._things: list[tuple[float, Callable[..., None], tuple]] = []  # depth, painter, args
        self._taken: list[tuple[float, float, float, float]] = []  # u, z, width, length
        self._shadows: list[Float[np.ndarray, "8 3"]] = []
        self._lots: list[tuple[int, float, float, bool]] = []  # side, near, far, green
        self._place_end()
        self._place_lots()
        for side in (-1, 1):
            self._place_kerbside(side)
        self._place_cars()
        self._place_people()

    def paint(self) -> None:
        """Paints sky, ground, shadows, things from far to near, wires and the bonnet."""
        self._paint_sky()
        self._paint_backdrop()
        self._paint_ground()
        self._paint_road()
        if self._shadows:
            self._canvas.shade(np.array(self._shadows), self._canvas.light.shadow)
        for _, painter, args in sorted(self._things, key=lambda thing: -thing[0]):
            painter(self._canvas, self._rng, *args)
        if self._rng.random() < 0.4:
            roadside.wires(self._canvas, self._rng, self._far)
        self._canvas.paint()
        self._paint_bonnet()

    # Layout.

    def _add(self, depth: float, painter: Callable[..., None], *args: object) -> None:
        self._things.append((depth, painter, args))

    def _claim(self, u: float, z: float, wide: float, long: float, height: float) -> bool:
        """Takes a box on the ground, centred at `(u, z)`, and its shadow; False if taken."""
        for u2, z2, wide2, long2 in self._taken:
            if 2 * abs(u - u2) < wide + wide2 and 2 * abs(z - z2) < long + long2:
                return False
        self._taken.append((u, z, wide, long))
        east, north = self._canvas.light.cast
        base = np.array([u, 0, z]) + np.array([wide, 0, long]) * _BASE
        roof = base + height * np.array([east, 0, north])
        self._shadows.append(np.concatenate([base, roof]))
        return True

    def _crosses(self, near: float, far: float) -> bool:
        """Whether another road crosses between these distances."""
        return bool(near < self._junction + _CROSSROAD and far > self._junction)

    def _place_end(self) -> None:
        """In some streets a row of houses closes the view."""
        rng = self._rng
        if rng.random() < 0.35:
            self._far = min(self._far, rng.uniform(35, 80))
            z = self._far + 4
            for u in np.arange(-40, 40, 14.0):
                looks, height = buildings.Facade.draw(rng), rng.uniform(5, 22)
                self._add(z, buildings.wall, (u, z), (u + 14, z), height, looks)

    def _place_lots(self) -> None:
        """Houses, gardens and open ground on both sides, more or less dense."""
        rng = self._rng
        town, setback, floors = rng.uniform(0.15, 0.9), rng.exponential(1.0), rng.uniform(2, 7)
        for side in (-1, 1):
            near = rng.uniform(-6, 2)
            while near < min(self._far, 85):
                far = near + rng.uniform(7, 20)
                if far > 3 and not self._crosses(near, far):
                    built = rng.random() < town
                    back = setback if built else rng.uniform(4, 12)
                    self._place_lot(side, max(near, 1.2), far, built, back, floors)
                near = far + (rng.uniform(0, 5) if rng.random() < 0.3 else 0)

    def _place_lot(
        self, side: int, near: float, far: float, built: bool, setback: float, floors: float
    ) -> None:
        rng = self._rng
        edge = side * (self._half + self._kerb[side])
        front = edge + side * setback
        self._lots.append((side, near, far, bool(rng.random() < (0.3 if built else 0.8))))
        # All of a lot sorts by its far end: the house first, then what stands before it.
        if built or rng.random() < 0.3:
            height = rng.uniform(0.7, 1.3) * 3.2 * floors
            self._claim(front + side * 5, (near + far) / 2, 10, far - near, height)
            self._add(far, buildings.building, side, front, near, far, height)
        if built and rng.random() < 0.12:
            ivy = front - side * 0.2
            self._add(far - 0.1, roadside.hedge, (ivy, near), (ivy, far), rng.uniform(1.5, 6))
        for _ in range(rng.poisson(0.4 if built else 1.4)):
            self._place_tree(edge + side * rng.uniform(1, 7), rng.uniform(near, far), far - 0.2)
        border = rng.random()
        if border < (0.3 if built else 0.45):
            self._add(far - 0.3, buildings.fence, (edge, near), (edge, far))
        elif border < (0.45 if built else 0.7):
            height = rng.uniform(0.8, 2.5)
            self._add(far - 0.3, roadside.hedge, (edge, near), (edge, far), height)

    def _place_tree(self, u: float, z: float, depth: float) -> None:
        height = self._rng.uniform(3.5, 11)
        if not self._crosses(z, z) and self._claim(u, z, 0.3, 0.3, 0.6 * height):
            self._add(depth, roadside.tree, u, z, height)
            crown = np.zeros((8, 3))
            crown[:, ::2] = 0.25 * height * ragged(self._rng, ring(8), 0.1)[0]
            crown[:, ::2] += np.array([u, z]) + 0.7 * height * np.array(self._canvas.light.cast)
            self._shadows.append(crown)

    def _place_kerbside(self, side: int) -> None:
        """Parked cars, trees, poles, signs, rails and clutter between road and lots."""
        rng, half = self._rng, self._half
        parked, avenue = rng.random() < 0.45, rng.random() < 0.35
        z = rng.uniform(4, 12)
        while z < min(self._far, 60):
            yaw = rng.choice([0, np.pi]) + rng.normal(0, 0.03)
            if parked and rng.random() < 0.7 and not self._crosses(z - 4, z + 4):
                self._place_car(side * (half - 1.1), z, yaw)
            if avenue and rng.random() < 0.6:
                self._place_tree(side * (half + 0.7), z, z)
            z += rng.uniform(5.5, 9)
        if rng.random() < 0.15:
            near, u = rng.uniform(3, 20), side * (half + 0.2)
            if not self._crosses(near, near + 10):
                self._add(near + 10, buildings.guard_rail, (u, near), (u, near + 10))
        kind = "lamp" if rng.random() < 0.5 else "wire"
        for z in np.arange(rng.uniform(5, 22), min(self._far, 90), rng.uniform(18, 44)):
            self._place_pole(side * (half + rng.uniform(0.3, 0.8)), z, kind)
        for _ in range(rng.poisson(1.8)):
            u = side * (half + rng.uniform(0.3, max(0.5, self._kerb[side] - 0.5)))
            kind = str(rng.choice(["sign", "light", "bollard"], p=[0.5, 0.25, 0.25]))
            self._place_pole(u, rng.uniform(5, 28), kind)
        for _ in range(rng.poisson(1.0)):
            u, z = side * (half + rng.uniform(0.4, self._kerb[side])), rng.uniform(4, 35)
            if not self._crosses(z - 1, z + 1) and self._claim(u, z, 0.8, 0.5, 1.0):
                self._add(z, roadside.clutter, u, z)
        if rng.random() < 0.6 and np.isfinite(self._junction):
            self._place_pole(side * (half + 0.6), self._junction - 1, "light")

    def _place_pole(self, u: float, z: float, kind: str) -> None:
        height = 1.0 if kind == "bollard" else 4.0
        if not self._crosses(z, z) and self._claim(u, z, 0.12, 0.1, height):
            self._add(z, roadside.pole, u, z, kind)

    def _place_cars(self) -> None:
        """Moving cars in both lanes and on the crossing road."""
        rng = self._rng
        keep = rng.choice([-1, 1])  # to the left or to the right
        for direction, heading in ((-1, np.pi), (1, 0.0)):
            z = rng.uniform(5, 40)
            while z < min(self._far, 80):
                u = keep * direction * 0.45 * self._half + rng.normal(0, 0.3)
                if not self._crosses(z - 3, z + 3):
                    self._place_car(u, z, heading + rng.normal(0, 0.06))
                z += 6 + rng.exponential(22)
        if np.isfinite(self._junction):
            for _ in range(rng.poisson(1.0)):
                z = self._junction + _CROSSROAD * rng.choice([0.3, 0.7])
                yaw = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.15)
                self._place_car(rng.uniform(-15, 15), z, yaw)

    def _place_car(self, u: float, z: float, yaw: float) -> None:
        kind = str(self._rng.choice(list(traffic.BODIES), p=[0.33, 0.27, 0.2, 0.15, 0.05]))
        body = traffic.BODIES[kind]
        cos, sin = abs(np.cos(yaw)), abs(np.sin(yaw))
        wide, long = sin * body.length + cos * body.width, cos * body.length + sin * body.width
        if z - long / 2 > 2.5 and self._claim(u, z, wide, long, 0.8 * body.height):
            self._add(z, traffic.car, u, z, yaw, kind)

    def _place_people(self) -> None:
        """Pedestrians, alone or in groups, on pavements and crossing; cyclists."""
        rng, half = self._rng, self._half
        for side in (-1, 1):
            for _ in range(rng.poisson(1.8)):
                u, z = side * (half + rng.uniform(0.1, self._kerb[side])), rng.uniform(5, 28)
                for _ in range(1 + rng.poisson(0.5)):
                    self._place_pedestrian(u + rng.normal(0, 0.5), z + rng.normal(0, 0.5))
        for _ in range(rng.poisson(0.5)):
            self._place_pedestrian(rng.uniform(-half, half), rng.uniform(6, 25))
        for _ in range(rng.poisson(1.2)):
            u, z = rng.choice([-1, 1]) * half * rng.uniform(0.3, 1.3), rng.uniform(5, 20)
            yaw = rng.choice([0, np.pi / 2, -np.pi / 2], p=[0.5, 0.25, 0.25]) + rng.normal(0, 0.35)
            if self._claim(u, z, 0.8, 1.2, 1.4):
                self._add(z, traffic.cyclist, u, z, yaw)

    def _place_pedestrian(self, u: float, z: float) -> None:
        grown = self._rng.random() < 0.85
        height = self._rng.uniform(1.5, 1.95) if grown else self._rng.uniform(1.0, 1.4)
        if z > 4 and self._claim(u, z, 0.4, 0.2, height):
            self._add(z, traffic.pedestrian, u, z, height)

    # Painting.

    def _paint_sky(self) -> None:
        canvas, rng, light = self._canvas, self._rng, self._canvas.light
        rows = (np.arange(canvas.camera.height) + 0.5) / canvas.camera.height
        fade = np.clip(rows / canvas.camera.horizon, 0, 1)[:, None, None]
        canvas.image[...] = np.clip(light.zenith + (light.haze - light.zenith) * fade, 0, 255)
        canvas.label[...] = Class.SKY
        for _ in range(rng.poisson(2.5)):
            wide, tall = rng.uniform(0.1, 0.4), rng.uniform(0.02, 0.06)
            cloud = ragged(rng, ring(14), 0.15)[0] * [wide, tall]
            u, y = rng.uniform(-1.2, 1.2), rng.uniform(0.05, 0.7)
            tone = light.haze + (light.zenith - light.haze) * rng.uniform(-0.4, 0.4)
            flat = canvas.camera.far * upright(cloud, u, y, 1)
            canvas.fill(flat, tone, Class.SKY, 0.1, glow=True)

    def _paint_backdrop(self) -> None:
        """Woods, hills or a skyline where the street ends."""
        canvas, rng, z = self._canvas, self._rng, self._canvas.camera.far
        u = np.append(np.sort(rng.uniform(-2.2, 2.2, 29)), 2.2) * z
        if rng.random() < 0.5:
            ridge = np.stack([u, rng.uniform(2, 12, 30), np.full(30, z)], axis=-1)
            base = np.array([[2.2 * z, -2, z], [-2.2 * z, -2, z]])
            woods = np.concatenate([ridge, base])
            canvas.fill(woods, leaf_colour(rng), Class.VEGETATION, 0.7)
        else:
            blocks = rectangles((0, z), (1, z), u[:-1], -2, u[1:], rng.uniform(4, 25, 29))
            tones = jitter(rng, greyish(rng, 0.4, 0.7, 0.3), 29, 0.3)
            canvas.fill(blocks, tones, Class.BUILDING, 0.4)

    def _lay(
        self,
        left: float,
        right: float,
        near: float,
        far: float,
        colour: Colour,
        label: int,
        grain: float,
    ) -> None:
        """Paints a strip of ground that follows the road."""
        near, far = max(near, 0.9), max(far, 1.0)
        z = near * (far / near) ** _STEPS
        strip = np.zeros((32, 3))
        strip[:16, 0], strip[16:, 0] = left, right
        strip[:16, 2], strip[16:, 2] = z, z[::-1]
        self._canvas.fill(strip, colour, label, grain)

    def _paint_ground(self) -> None:
        """Grass or paving beyond the street, the lots, and the pavements with their kerbs."""
        rng, half, far = self._rng, self._half, self._canvas.camera.far
        paving = greyish(rng, 0.3, 0.8, 0.2)
        if rng.random() < 0.2:
            paving = hsv(rng.uniform(0, 0.1), rng.uniform(0.15, 0.5), rng.uniform(0.3, 0.7))
        lawn = (leaf_colour(rng), Class.VEGETATION)
        grain, kerb = rng.uniform(0.1, 0.7), rng.uniform(0.75, 1.35)
        wild, slabs = rng.random() < 0.5, rng.random() < 0.5
        for side in (-1, 1):
            edge = side * (half + self._kerb[side])
            beyond, label = lawn if wild else (0.9 * paving, Class.PAVEMENT)
            self._lay(0, side * 300, 0.9, far, beyond, label, 0.8)
            for at, near, end, green in self._lots:
                lot, label = lawn if green else (paving, Class.PAVEMENT)
                if at == side:
                    self._lay(edge, edge + side * 25, near, end, lot, label, 0.8)
            self._lay(0, edge, 0.9, far, paving, Class.PAVEMENT, grain)
            for z in np.geomspace(2, 40, 12) if slabs else ():
                self._lay(0, edge, z, 1.01 * z, 0.85 * paving, Class.PAVEMENT, grain)
            self._lay(0, side * (half + 0.18), 0.9, far, kerb * paving, Class.PAVEMENT, 0.1)

    def _paint_road(self) -> None:
        """Asphalt with patches, manholes, puddles, lane markings and a zebra: all of it road."""
        rng, half, far = self._rng, self._half, self._canvas.camera.far
        asphalt, grain = greyish(rng, 0.15, 0.6, 0.1), rng.uniform(0.1, 0.7)

        def lay(left: float, right: float, near: float, end: float, colour: Colour) -> None:
            self._lay(left, right, near, end, colour, Class.ROAD, grain)

        lay(-half, half, 0.9, far, asphalt)
        if np.isfinite(self._junction):
            lay(-300, 300, self._junction, self._junction + _CROSSROAD, asphalt)
        for _ in range(rng.poisson(3)):
            u, z = rng.uniform(-half, 0.6 * half), rng.uniform(2.5, 30)
            tone = asphalt * rng.uniform(0.75, 1.25)
            lay(u, u + rng.uniform(0.3, 0.4 * half), z, z + rng.uniform(0.5, 8), tone)
        for _ in range(rng.poisson(1)):
            u, z, size = rng.uniform(-0.8, 0.8) * half, rng.uniform(3, 20), rng.uniform(0.2, 0.6)
            disc = np.zeros((12, 3))
            disc[:, ::2] = size * ragged(rng, ring(12), 0.1)[0] + [u, z]
            tone = 0.6 * asphalt if rng.random() < 0.6 else 0.8 * self._canvas.light.haze
            self._canvas.fill(disc, tone, Class.ROAD, 0.1)
        white = hsv(0.13, float(rng.choice([0.0, 0.0, 0.7])), rng.uniform(0.55, 0.95))
        lane = rng.choice(["dashes", "line", "none"], p=[0.5, 0.25, 0.25])
        if lane == "line":
            lay(-0.08, 0.08, 0.9, far, white)
        elif lane == "dashes":
            for z in np.arange(rng.uniform(1, 6), min(far, 70), 6):
                lay(-0.08, 0.08, z, z + 3, white)
        if rng.random() < 0.4:
            for side in (-1, 1):
                lay(side * (half - 0.4), side * (half - 0.25), 0.9, far, white)
        if rng.random() < 0.35:  # a zebra crossing
            z = min(self._junction - 4, rng.uniform(5, 25))
            for u in np.arange(-half + 0.3, half - 0.5, 1.0):
                lay(u, u + 0.5, z, z + 2.8, white)

    def _paint_bonnet(self) -> None:
        """The bonnet of the camera's own car hides the lower edge of most images: IGNORE."""
        canvas, rng = self._canvas, self._rng
        height, width = canvas.camera.height, canvas.camera.width
        rise, tilt = rng.uniform(0.03, 0.14), rng.normal(0, 0.012)
        curve, centre = rng.uniform(0.1, 1.6), rng.normal(0, 0.2)
        tone, shine = greyish(rng, 0.05, 0.7, 0.3), rng.uniform(-0.4, 0.8)
        if rng.random() < 0.2:
            return
        across = (np.arange(width) + 0.5) / width * 2 - 1 - centre
        top = 1 - rise * (1 - curve * across**2) + tilt * across
        rows = (np.arange(height)[:, None] + 0.5) / height
        bonnet = rows > top
        depth = np.clip(((rows - top) / rise)[bonnet], 0, 1)[:, None]
        canvas.image[bonnet] = np.clip(tone * canvas.light.tint * (1 + shine * depth), 0, 255)
        canvas.label[bonnet] = IGNORE
        canvas.grain[bonnet] = 0
