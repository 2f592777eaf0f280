"""The canvas of the street painter: the classes, and strokes on image and label alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pals_jax.data.streets.shapes import Colour
from pals_jax.data.streets.view import NEAR, Camera, Light

IGNORE = 255
_SHIFT = 4  # cv2 draws on a grid of 1/16 pixel: rounding hides how machines differ in last bits


class Class(IntEnum):
    """The classes, in the order of their indices."""

    ROAD = 0
    PAVEMENT = 1
    BUILDING = 2
    FENCE = 3
    POLE = 4
    SIGN = 5
    VEGETATION = 6
    SKY = 7
    CAR = 8
    PEDESTRIAN = 9
    CYCLIST = 10


@dataclass(frozen=True)
class _Stroke:
    """Polygons or lines of one kind, and how to paint them."""

    kind: str  # "fill", "facing", "hull", "outline" or "line"
    points: Float[np.ndarray, "m n 3"]
    colours: Float[np.ndarray, "m 3"]
    coloured: bool  # whether the image is painted at all
    tag: tuple[int, int] | None  # label and grain
    glow: Bool[np.ndarray, " m"]
    width: float
    widest: float


class Canvas:
    """Records strokes, and paints them in their order when asked.

    All strokes together are projected and lit by one array operation each.

    Attributes:
        camera: Where points fall.
        light: How colours look.
        image: Colours, uint8 [H, W, 3], RGB.
    """

    def __init__(self, camera: Camera, light: Light):
        shape = (camera.height, camera.width)
        self.camera = camera
        self.light = light
        self.image = np.zeros((*shape, 3), np.uint8)
        self._tags = np.zeros((*shape, 2), np.uint8)  # label and grain, painted by one call
        self._tags[..., 0] = IGNORE
        self._strokes: list[_Stroke] = []

    @property
    def label(self) -> UInt8[np.ndarray, "h w"]:
        """Class indices or IGNORE; a view."""
        return self._tags[..., 0]

    @property
    def grain(self) -> UInt8[np.ndarray, "h w"]:
        """Roughness of each pixel's surface, for the texture added later; a view."""
        return self._tags[..., 1]

    def fill(
        self,
        polygons: Float[np.ndarray, "*m n 3"],
        colours: Float[np.ndarray, "*#m 3"] | None,
        label: int,
        grain: float = 0.0,
        *,
        halo: float = 0.0,
        glow: bool | Bool[np.ndarray, " m"] = False,
        cull: bool = False,
    ) -> None:
        """Adds polygons.

        Args:
            polygons: Corners in metres, one polygon [n, 3] or several [m, n, 3].
            colours: RGB in [0, 255], one for all or one each; None leaves the image as it is.
            label: Class index or IGNORE.
            grain: Roughness in [0, 1].
            halo: Width in pixels of a ring of IGNORE around them all (per 128 rows of image).
            glow: Whether each shines by itself instead of by the scene's light.
            cull: Drops polygons seen from behind, whose corners run clockwise.
        """
        if halo:
            self._add("outline", polygons, None, IGNORE, widest=2 * halo)
        self._add("facing" if cull else "fill", polygons, colours, label, grain, glow)

    def hull(self, solid: Float[np.ndarray, "n 3"], colour: Colour, label: int) -> None:
        """Adds the outline of a convex solid with these corners."""
        self._add("hull", solid, colour, label)

    def line(
        self,
        lines: Float[np.ndarray, "*m n 3"],
        width: float,
        colour: Colour,
        label: int | None,
        widest: float = np.inf,
    ) -> None:
        """Adds open polylines, at least one pixel wide.

        Args:
            lines: Points in metres, one line [n, 3] or several [m, n, 3].
            width: Width in metres.
            colour: RGB in [0, 255].
            label: Class index or IGNORE; None leaves the label as it is.
            widest: Greatest width in pixels (per 128 rows of image).
        """
        self._add("line", lines, colour, label, width=width, widest=widest)

    def shade(self, solids: Float[np.ndarray, "m n 3"], strength: float) -> None:
        """Darkens what is painted so far by a share `strength` under solids; labels stay."""
        self.paint()
        mask = np.zeros(self.image.shape[:2], np.uint8)
        for corners in self._integers(solids):
            cv2.fillConvexPoly(mask, cv2.convexHull(corners), 255, cv2.LINE_AA, _SHIFT)
        self.image[...] = self.image * (1 - strength / 255 * mask[..., None].astype(np.float32))

    def paint(self) -> None:
        """Paints the strokes added since the last call, each over the ones before."""
        strokes, self._strokes = self._strokes, []
        if not strokes:
            return
        points = np.concatenate([stroke.points.reshape(-1, 3) for stroke in strokes])
        shapes = np.array([stroke.points.shape[:2] for stroke in strokes])
        sizes = np.repeat(shapes[:, 1], shapes[:, 0])
        stops = np.cumsum(sizes)
        starts = stops - sizes
        corners = self._integers(points)
        low = np.minimum.reduceat(corners, starts) >> _SHIFT
        high = np.maximum.reduceat(corners, starts) >> _SHIFT
        seen = np.all((high >= 0) & (low < self.image.shape[1::-1]), axis=1)
        distance = np.maximum(np.add.reduceat(points[:, 2], starts) / sizes, NEAR)
        colours = np.concatenate([stroke.colours for stroke in strokes])
        glow = np.concatenate([stroke.glow for stroke in strokes])
        pieces: Iterator = zip(
            seen.tolist(),
            starts.tolist(),
            stops.tolist(),
            self._lit(colours, distance, glow).tolist(),
            (self.camera.focal * self.camera.height / distance).tolist(),
            strict=True,
        )
        for stroke in strokes:
            for visible, start, stop, shade, metre in islice(pieces, len(stroke.points)):
                if visible:
                    self._draw(stroke, corners[start:stop], shade, metre)

    def _add(
        self,
        kind: str,
        points: Float[np.ndarray, "*m n 3"],
        colours: Float[np.ndarray, "*#m 3"] | None,
        label: int | None,
        grain: float = 0.0,
        glow: bool | Bool[np.ndarray, " m"] = False,
        width: float = 0.0,
        widest: float = 0.0,
    ) -> None:
        points = points.reshape(-1, *points.shape[-2:])
        each, shine = np.zeros((len(points), 3)), np.zeros(len(points), bool)
        each[...] = 0 if colours is None else colours
        shine[...] = glow
        tag = None if label is None else (int(label), round(255 * grain))
        self._strokes.append(
            _Stroke(kind, points, each, colours is not None, tag, shine, width, widest)
        )

    def _draw(
        self, stroke: _Stroke, corners: Int[np.ndarray, "n 2"], shade: list[float], metre: float
    ) -> None:
        """Draws one polygon or line; `metre` is the length of a metre there, in pixels."""
        if stroke.kind in ("line", "outline"):
            closed = stroke.kind == "outline"
            widest = stroke.widest * self.camera.height / 128
            width = max(1, round(widest if closed else min(stroke.width * metre, widest)))
            if stroke.coloured:
                cv2.polylines(self.image, [corners], closed, shade, width, cv2.LINE_AA, _SHIFT)
            if stroke.tag is not None:
                cv2.polylines(self._tags, [corners], closed, stroke.tag, width, cv2.LINE_8, _SHIFT)
            return
        if stroke.kind == "hull":
            corners = cv2.convexHull(corners)
        elif stroke.kind == "facing" and cv2.contourArea(corners, oriented=True) > 0:
            return  # positive is clockwise as seen, since rows count downwards
        if stroke.coloured:
            cv2.fillPoly(self.image, [corners], shade, cv2.LINE_AA, _SHIFT)
        if stroke.tag is not None:
            cv2.fillPoly(self._tags, [corners], stroke.tag, cv2.LINE_8, _SHIFT)

    def _integers(self, points: Float[np.ndarray, "*n 3"]) -> Int[np.ndarray, "*n 2"]:
        """Corners for cv2, whose integers are pixel centres.

        A corner beyond 2^14 pixels, where cv2's fixed-point arithmetic nears its limits, is moved
        towards the origin along its own direction: edges that leave the image keep their slope.
        """
        pixels = self.camera.project(points) - 0.5
        excess = np.abs(pixels).max(axis=-1, keepdims=True) / 2**14
        return np.rint(pixels / np.maximum(excess, 1) * 2**_SHIFT).astype(np.int32)

    def _lit(
        self,
        colours: Float[np.ndarray, "m 3"],
        distance: Float[np.ndarray, " m"],
        glow: Bool[np.ndarray, " m"],
    ) -> Float[np.ndarray, "m 3"]:
        """Colours under the scene's light, faded with distance."""
        clear = np.exp(-self.light.density * distance)[:, None]
        own = np.where(glow[:, None], colours, colours * self.light.tint)
        return np.clip(clear * own + (1 - clear) * self.light.haze, 0, 255)
