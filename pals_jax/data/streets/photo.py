"""From a painted street to a photograph: texture, exposure, colour cast, blur, noise, JPEG."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from pals_jax.data.streets.shapes import Rng


def photograph(
    rng: Rng, image: UInt8[np.ndarray, "h w 3"], grain: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Takes a photograph with a random camera. Nothing moves, so labels keep their pixels.

    Args:
        rng: Source of every choice.
        image: Painted colours, RGB.
        grain: Roughness of each pixel's surface, 0 to 255.

    Returns:
        The photograph, RGB.
    """
    height, width = grain.shape
    scale = height / 128  # blur and texture keep their size relative to the image
    harm = rng.uniform(0.0, 0.7) ** 2  # how bad a day this camera has

    fine, coarse = (_noise(rng, height, width, nodes) for nodes in (128, 32))
    texture = rng.uniform(0.05, 0.2) * fine + rng.uniform(0.05, 0.25) * coarse
    texture *= grain.astype(np.float32) / 255
    uneven = rng.uniform(0.02, 0.1) * _noise(rng, height, width, 4)
    photo = image * np.maximum(1 + texture + uneven, 0)[..., None]

    saturation, cast = 1.1 - rng.uniform(0, 0.7) * harm, np.exp(rng.normal(0, 0.06, 3))
    photo = cv2.transform(photo, cast[:, None] * (saturation * np.eye(3) + (1 - saturation) / 3))
    photo = _develop(rng, np.clip(photo, 0, 255).astype(np.uint8), harm)

    photo = cv2.GaussianBlur(photo, (0, 0), (0.35 + rng.uniform(0, 0.6) * harm) * scale)
    if rng.random() < 0.3:  # the camera moves sideways; an odd kernel keeps edges in their place
        photo = cv2.blur(photo, (2 * round(rng.uniform(0.6, 2) * scale) + 1, 1))
    noise = (1 + rng.uniform(0, 8) * harm) * rng.standard_normal((height, width, 1), np.float32)
    colours = rng.standard_normal((height // 2, width // 2, 3), np.float32)
    noise = noise + rng.uniform(0, 6) * harm * cv2.resize(colours, (width, height))
    photo = np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)

    quality = round(95 - rng.uniform(0, 60) * harm)
    _, coded = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("this build of OpenCV cannot decode the JPEG it encoded")
    return np.ascontiguousarray(decoded[..., ::-1])


def _develop(
    rng: Rng, photo: UInt8[np.ndarray, "h w 3"], harm: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Exposure, contrast and a veil of scattered light, by one curve for all channels."""
    metered = np.sqrt(105 / max(float(photo.mean()), 20))  # half-hearted automatic exposure
    exposure, gamma = metered * np.exp(rng.normal(0, 0.12)), np.exp(rng.normal(0, 0.15))
    veil, mist = rng.uniform(0, 0.3) * harm, rng.uniform(100, 230)
    curve = 255 * np.clip(np.arange(256) / 255 * exposure, 0, 1) ** gamma
    return cv2.LUT(photo, np.rint((1 - veil) * curve + veil * mist).astype(np.uint8))


def _noise(rng: Rng, height: int, width: int, nodes: int) -> Float[np.ndarray, "h w"]:
    """Smooth noise: unit variance at its nodes, `nodes` of them from top to bottom."""
    columns = max(1, round(nodes * width / height))
    field = rng.standard_normal((nodes, columns), np.float32)
    return cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
