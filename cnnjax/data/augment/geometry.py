"""Random rotation, translation, scale, shear, perspective and elastic deformation, each picture by its own draw.

All go through `warp` or `displace`, and so do boxes, masks and key points. A range is (low, high), or a number s that
stands for -s to s. Where the picture has moved away, `fill` comes in: 0 to 1, black to white, one number or one per
channel.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.data.augment.draws import (
    Fill,
    Images,
    Interval,
    Keys,
    Result,
    check_images,
    check_number,
    image_keys,
    interval_of,
    uniform,
)
from cnnjax.data.augment.matrices import affine_matrices, quadrilateral_matrices
from cnnjax.data.augment.targets import Targets
from cnnjax.data.augment.warp import displace, warp


def affine(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    degrees: Interval = 0.0,
    share: Interval = 0.0,
    factors: Interval = (1.0, 1.0),
    shear: Interval = 0.0,
    fill: Fill = 0.0,
) -> Result:
    """Shears, enlarges, rotates about the centre and shifts, by draws of their own, and samples the picture once.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along.
        degrees: Angles against the clock.
        share: Shifts along x and along y, drawn apart, as a share of the width and of the height.
        factors: Enlargements, low to high, or a number s that stands for 1 - s to 1 + s; above 0. Their logarithm is
            uniform: 0.5 and 2 balance.
        shear: Angles in degrees by which verticals and then horizontals lean, drawn apart; within -80 to 80.
        fill: What comes in.

    Raises:
        ValueError: a range is not one, or as `warp`.
    """
    check_images(images)
    angles = interval_of("degrees", degrees)
    shares = interval_of("share", share, lowest=-1.0, highest=1.0)
    low, high = interval_of("factors", factors, around=1.0, lowest=1e-3, highest=1e3)
    leans = interval_of("shear", shear, lowest=-80.0, highest=80.0)
    height, width = images.shape[1:3]
    draws = uniform(image_keys(key, images), shape=(6,))

    def within(number: int, interval: tuple[float, float]) -> jax.Array:
        return interval[0] + (interval[1] - interval[0]) * draws[:, number]

    matrices = affine_matrices(
        (height, width),
        degrees=within(0, angles),
        shear_x=jnp.tan(jnp.deg2rad(within(1, leans))),
        shear_y=jnp.tan(jnp.deg2rad(within(2, leans))),
        factors=jnp.exp(within(3, (math.log(low), math.log(high)))),
        shift_x=width * within(4, shares),
        shift_y=height * within(5, shares),
    )
    return warp(images, matrices, targets, fill=fill)


def rotation(
    key: Keys, images: Images, targets: Targets | None = None, *, degrees: Interval, fill: Fill = 0.0
) -> Result:
    """Rotates about the centre, against the clock, by `degrees` uniform in a range; see `affine`."""
    return affine(key, images, targets, degrees=degrees, fill=fill)


def translation(
    key: Keys, images: Images, targets: Targets | None = None, *, share: Interval, fill: Fill = 0.0
) -> Result:
    """Shifts by a share of the width and, drawn apart, of the height; see `affine`, and `pad_and_crop` for pixels."""
    return affine(key, images, targets, share=share, fill=fill)


def scale(key: Keys, images: Images, targets: Targets | None = None, *, factors: Interval, fill: Fill = 0.0) -> Result:
    """Enlarges about the centre by a factor, from low to high, or s away from 1 at most; see `affine`."""
    return affine(key, images, targets, factors=factors, fill=fill)


def shear(key: Keys, images: Images, targets: Targets | None = None, *, degrees: Interval, fill: Fill = 0.0) -> Result:
    """Makes verticals lean by one angle and then horizontals by another, drawn apart; see `affine`."""
    return affine(key, images, targets, shear=degrees, fill=fill)


def perspective(
    key: Keys, images: Images, targets: Targets | None = None, *, share: float = 0.5, fill: Fill = 0.0
) -> Result:
    """Pulls each corner inwards by its own part of the way to the centre, at most `share`, along x and y apart.

    Raises:
        ValueError: `share` is not within 0 to 0.6, beyond which the four sides may fold; or as `warp`.
    """
    check_images(images)
    check_number("share", share, 0.0, 0.6, "how far corners go towards the centre; beyond, the sides may fold")
    height, width = images.shape[1:3]
    half = jnp.asarray([width / 2, height / 2], jnp.float32)[None, None]
    outward = jnp.asarray([[-1, -1], [1, -1], [1, 1], [-1, 1]], jnp.float32)[None]
    pulled = uniform(image_keys(key, images), (0.0, share), shape=(4, 2))
    corners = half + outward * half * (1.0 - pulled)
    return warp(images, quadrilateral_matrices((height, width), corners), targets, fill=fill)


def elastic(
    key: Keys,
    images: Images,
    targets: Targets | None = None,
    *,
    alpha: float = 34.0,
    sigma: float = 4.0,
    fill: Fill = 0.0,
) -> Result:
    r"""Bends pictures by smooth random fields: uniform noise in [-1, 1], smoothed by a Gaussian, times `alpha`.

    Displacements have mean zero and, along each axis, a deviation of about $0.163 \, \alpha / \sigma$ pixels: 1.4 for
    the defaults, those of the paper for 29x29 digits. The field changes by about $0.115 \, \alpha / \sigma^2$ per
    pixel; where that comes near 1, pictures fold.

    Args:
        key: One key, or one per image.
        images: Bytes or float32 in [0, 1].
        targets: What moves along.
        alpha: Strength, in pixels.
        sigma: The Gaussian's deviation, in pixels.
        fill: What comes in.

    Raises:
        ValueError: `alpha` is negative, `sigma` not above 0, or as `displace`.

    Reference: Simard, Steinkraus and Platt (2003), "Best Practices for Convolutional Neural Networks Applied to
    Visual Document Analysis", section 2.
    """
    check_images(images)
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha={alpha}; expected 0 or more, in pixels")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma}; expected a number above 0, in pixels")
    height, width = images.shape[1:3]
    reach = math.ceil(3 * sigma)
    # Noise for what lies beyond the border too, so that displacements are as large there as in the middle.
    noise = uniform(image_keys(key, images), (-1.0, 1.0), shape=(height + 2 * reach, width + 2 * reach, 2))
    down, along = (jnp.asarray(_smoothing(length, sigma, reach), jnp.float32) for length in (height, width))
    smooth = jnp.einsum("bhwd,ih,jw->bijd", noise, down, along, precision=lax.Precision.HIGHEST)
    return displace(images, alpha * smooth, targets, fill=fill)


def _smoothing(length: int, sigma: float, reach: int) -> np.ndarray:
    """The Gaussian at `length` places as a matrix, for noise that goes on for `reach` to each side."""
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    matrix = np.zeros((length, length + 2 * reach))
    for place in range(length):
        matrix[place, place : place + 2 * reach + 1] = weights / weights.sum()
    return matrix
