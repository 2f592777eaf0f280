"""Procedural street scenes with exact labels: the data set that needs no download.

A street is laid out in metres, seen through a random camera under random light, painted from far to
near, and then photographed. Every stroke paints image and label with the same integer corners; only
the photograph adds texture, blur, noise and compression, and it moves nothing. Colours overlap
between classes on purpose, so that shape and context tell a class.

Labels keep the conventions of the field: what shows through railings, wire mesh and the wheels of a
bicycle belongs to the thing in front; lane markings, shadows and manholes are road; posters and
shop fronts are building; trunks and grass are vegetation; overhead cables keep the class behind
them. IGNORE are the bonnet of the camera's car, clutter such as bins and billboards, and a thin
ring around many crowns of trees.
"""

import numpy as np
from jaxtyping import UInt8

from pals_jax.data.streets.canvas import IGNORE, Canvas, Class
from pals_jax.data.streets.photo import photograph
from pals_jax.data.streets.street import Street
from pals_jax.data.streets.view import Camera, Light

__all__ = ["CLASSES", "IGNORE", "PALETTE", "SMALLEST", "render"]

CLASSES: tuple[str, ...] = tuple(member.name.lower() for member in Class)

# The colours in which Cityscapes shows these classes.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (190, 153, 153),
    (153, 153, 153),
    (220, 220, 0),
    (107, 142, 35),
    (70, 130, 180),
    (0, 0, 142),
    (220, 20, 60),
    (119, 11, 32),
)

SMALLEST = 32  # pixels per side; below it only the largest surfaces would be left


def render(
    seed: int, height: int = 128, width: int = 256
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Renders one scene. The same seed gives the same scene at any size.

    Args:
        seed: Non-negative integer that determines everything.
        height: Image height in pixels, at least SMALLEST.
        width: Image width in pixels, at least SMALLEST.

    Returns:
        The image, RGB, and the label: indices into CLASSES, or IGNORE.

    Raises:
        ValueError: If the seed is negative or the size too small.
    """
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, found {seed}")
    if height < SMALLEST or width < SMALLEST:
        raise ValueError(
            f"a street needs at least {SMALLEST}x{SMALLEST} pixels (height x width), "
            f"found {height}x{width}"
        )
    # Two streams, since the layout must not depend on the size and the number of noisy pixels does.
    layout, lens = (np.random.Generator(np.random.PCG64([seed, stream])) for stream in (0, 1))
    canvas = Canvas(Camera.draw(layout, height, width), Light.draw(layout))
    Street(canvas, layout).paint()
    return photograph(lens, canvas.image, canvas.grain), canvas.label.copy()
