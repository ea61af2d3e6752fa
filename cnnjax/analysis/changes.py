"""What may happen to a picture without its meaning changing, by severity: the challenges of image classification.

A change is a function of a key, pictures and a severity. Those that move what a picture shows have a matrix too, by
which feature maps can be moved back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax.data import augment
from cnnjax.data.augment.matrices import affine_matrices, product, rows, translation_matrices

Pictures: TypeAlias = Float[Array, "batch height width channels"]
Matrix: TypeAlias = Float[Array, "1 3 3"]

_GREY = 0.5


@dataclass(frozen=True, eq=False)
class Change:
    """A change of pictures, and by how much it is tried.

    Attributes:
        name: in a word or two.
        unit: of the severity.
        severities: those that are tried, from the mildest on.
        apply: (key, pictures, severity) to pictures, floats from 0 to 1 in and out.
        matrix: (severity, height, width) to the 3x3 matrix that moves points (x, y), in pixels from the upper left
            corner; None where points do not move, or by no matrix.
        wraps: whether what leaves the picture comes in at the other side.
    """

    name: str
    unit: str
    severities: tuple[float, ...]
    apply: Callable[[jax.Array, Pictures, float], Pictures]
    matrix: Callable[[float, int, int], Matrix] | None = None
    wraps: bool = False


def moving(
    name: str, unit: str, severities: tuple[float, ...], matrix: Callable[[float, int, int], Matrix], fill: float = 0.0
) -> Change:
    """A change that moves the points of a picture by a matrix; `fill` comes in."""

    def apply(key: jax.Array, pictures: Pictures, severity: float) -> Pictures:
        height, width = pictures.shape[1:3]
        return move(pictures, matrix(severity, height, width), fill=fill)

    return Change(name, unit, severities, apply, matrix)


def move(pictures: Pictures, matrix: Matrix, *, fill: float = 0.0) -> Pictures:
    """Pictures moved by one matrix (see `augment.warp`)."""
    matrices = jnp.broadcast_to(matrix, (len(pictures), 3, 3))
    return augment.warp(pictures.astype(jnp.float32), matrices, fill=fill)


def matrix_of(entries: list[list[float]]) -> Matrix:
    """One matrix from its lines."""
    return rows(*(jnp.asarray([entry], jnp.float32) for line in entries for entry in line))


def roll(pictures: Pictures, pixels: float, axis: int = 2) -> Pictures:
    """Pictures shifted by any number of pixels, what leaves comes in at the other side; linear between whole pixels."""
    whole = math.floor(pixels)
    part = pixels - whole
    shifted = jnp.roll(pictures, whole, axis)
    return shifted if part == 0 else (1 - part) * shifted + part * jnp.roll(pictures, whole + 1, axis)


def shift(*severities: float, fill: float = 0.0) -> Change:
    """To the right, by pixels or parts of one."""
    return moving("shift", "pixels", severities, lambda severity, *_: _translation(severity), fill)


def circular_shift(*severities: float) -> Change:
    """To the right, by pixels or parts of one; what leaves the picture comes in at the left."""
    return Change(
        "circular shift",
        "pixels",
        severities,
        lambda key, pictures, severity: roll(pictures, severity),
        lambda severity, *_: _translation(severity),
        wraps=True,
    )


def rotation(*severities: float, fill: float = 0.0) -> Change:
    """About the centre, against the clock, by degrees."""
    return moving("rotation", "degrees", severities, lambda turn, *size: _affine(*size, degrees=turn), fill)


def scale(*severities: float, fill: float = 0.0) -> Change:
    """Enlarged about the centre, by a factor."""
    return moving("scale", "times", severities, lambda factor, *size: _affine(*size, factor=factor), fill)


def mirror() -> Change:
    """Left and right exchanged."""

    def matrix(severity: float, height: int, width: int) -> Matrix:
        return matrix_of([[-1.0, 0.0, width], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])

    return Change("reflection", "", (1.0,), lambda key, pictures, severity: pictures[:, :, ::-1], matrix)


def viewpoint(*severities: float, fill: float = 0.0) -> Change:
    """A plane turned about the vertical line through its centre, by degrees, seen from twice its width away."""

    def matrix(severity: float, height: int, width: int) -> Matrix:
        angle, distance = math.radians(severity), 2.0 * width
        # A point (x, y) of the plane comes to (x cos a, y) at depth d + x sin a, and is seen at d / depth times that.
        turned = matrix_of([[math.cos(angle), 0.0, 0.0], [0.0, 1.0, 0.0], [math.sin(angle) / distance, 0.0, 1.0]])
        to_centre = translation_matrices(jnp.asarray([-width / 2.0]), jnp.asarray([-height / 2.0]))
        back = translation_matrices(jnp.asarray([width / 2.0]), jnp.asarray([height / 2.0]))
        return product(product(back, turned), to_centre)

    return moving("viewpoint", "degrees", severities, matrix, fill)


def illumination(*severities: float) -> Change:
    """All light times a factor; what becomes brighter than white is white."""
    return Change(
        "illumination", "times", severities, lambda key, pictures, severity: jnp.clip(pictures * severity, 0.0, 1.0)
    )


def deformation(*severities: float, fill: float = 0.0) -> Change:
    """Bent by a smooth random field, whose displacements have a deviation in pixels along each axis."""

    def apply(key: jax.Array, pictures: Pictures, severity: float) -> Pictures:
        sigma = max(4.0, max(pictures.shape[1:3]) / 10.0)
        return augment.elastic(key, pictures, alpha=severity * sigma / 0.163, sigma=sigma, fill=fill)

    return Change("deformation", "pixels", severities, apply)


def covering(*severities: float, fill: float = _GREY) -> Change:
    """A square somewhere in each picture is covered, by a share of its area."""

    def apply(key: jax.Array, pictures: Pictures, severity: float) -> Pictures:
        if not 0 <= severity <= 1:
            raise ValueError(f"occlusion of {severity}; expected a share of the area, 0 to 1")
        height, width = pictures.shape[1:3]
        down, along = (max(round(size * math.sqrt(severity)), int(severity > 0)) for size in (height, width))
        covered = _squares(key, len(pictures), (height, width), (down, along))
        return jnp.where(covered[..., None], jnp.float32(fill), pictures)

    return Change("occlusion", "share of area", severities, apply)


def clutter(*severities: float) -> Change:
    """So many pieces of the batch's other pictures are pasted in, each a quarter of the height and width."""

    def apply(key: jax.Array, pictures: Pictures, severity: float) -> Pictures:
        batch, height, width = pictures.shape[:3]
        if batch < 2:
            raise ValueError("one picture came; clutter is cut from others of the batch, so two are needed")
        side = (max(height // 4, 1), max(width // 4, 1))
        result = pictures
        for piece_key in jax.random.split(key, round(severity)):
            place_key, which_key = jax.random.split(piece_key)
            others = (jnp.arange(batch) + jax.random.randint(which_key, (batch,), 1, batch)) % batch
            pasted = _squares(place_key, batch, (height, width), side)
            result = jnp.where(pasted[..., None], pictures[others], result)
        return result

    return Change("clutter", "pieces", severities, apply)


def pixelation(*severities: float) -> Change:
    """Cut down to blocks of so many pixels, each the mean of its pixels; parts of a pixel count in part."""

    def apply(key: jax.Array, pictures: Pictures, severity: float) -> Pictures:
        down, along = (jnp.asarray(_block_means(size, severity), jnp.float32) for size in pictures.shape[1:3])
        return jnp.einsum("bhwc,ih,jw->bijc", pictures, down, along, precision=jax.lax.Precision.HIGHEST)

    return Change("pixelation", "pixels a block", severities, apply)


def noise(*severities: float) -> Change:
    """Gaussian noise of a deviation is added to every value; white is 1."""

    def apply(key: jax.Array, pictures: Pictures, severity: float) -> Pictures:
        return jnp.clip(pictures + severity * jax.random.normal(key, pictures.shape), 0.0, 1.0)

    return Change("noise", "deviation", severities, apply)


def challenges(size: int, *, fill: float = 0.0) -> tuple[Change, ...]:
    """All of them, with severities that suit pictures of `size` pixels; `fill` comes in where pictures move."""
    shifts = (0.25, 0.5, 1.0, 2.0, 4.0, *(8.0 * 2**step for step in range(max(0, int(math.log2(max(size, 32) / 64))))))
    return (
        shift(*shifts, fill=fill),
        rotation(5.0, 15.0, 30.0, 60.0, 90.0, 180.0, fill=fill),
        scale(0.5, 0.7, 0.85, 1.2, 1.5, 2.0, fill=fill),
        mirror(),
        viewpoint(10.0, 25.0, 40.0, 55.0, 70.0, fill=fill),
        illumination(0.25, 0.5, 0.75, 1.5, 2.0, 4.0),
        deformation(0.5, 1.0, 1.5, 2.0, 3.0, fill=fill),
        covering(0.02, 0.05, 0.1, 0.2, 0.4),
        clutter(1.0, 2.0, 4.0, 6.0, 8.0),
        pixelation(1.5, 2.0, 3.0, 4.0, 8.0),
        noise(0.02, 0.05, 0.1, 0.2, 0.4),
    )


def _block_means(size: int, side: float) -> np.ndarray:
    """The matrix that gives every pixel the mean of the block its centre lies in.

    >>> _block_means(3, 1.5).round(3).tolist()
    [[0.667, 0.333, 0.0], [0.0, 0.333, 0.667], [0.0, 0.333, 0.667]]
    """
    if not side > 0:
        raise ValueError(f"pixelation by {side}; expected a number of pixels above 0")
    pixels = np.arange(size)
    starts = np.floor((pixels + 0.5) / side)[:, None] * side
    ends = np.minimum(starts + side, size)
    shares = np.clip(np.minimum(pixels + 1, ends) - np.maximum(pixels, starts), 0, None)
    return shares / shares.sum(axis=1, keepdims=True)


def _squares(
    key: jax.Array, batch: int, size: tuple[int, int], side: tuple[int, int]
) -> Float[Array, "batch height width"] | jax.Array:
    """One rectangle somewhere in each picture, as a mask."""
    down, along = jax.random.split(key)
    inside = []
    for part_key, length, extent in zip((down, along), size, side, strict=True):
        first = jax.random.randint(part_key, (batch, 1), 0, length - extent + 1)
        places = jnp.arange(length)[None]
        inside.append((places >= first) & (places < first + extent))
    return inside[0][:, :, None] & inside[1][:, None, :]


def _translation(pixels: float) -> Matrix:
    return translation_matrices(jnp.asarray([float(pixels)]), jnp.asarray([0.0]))


def _affine(height: int, width: int, *, degrees: float = 0.0, factor: float = 1.0) -> Matrix:
    none = jnp.asarray([0.0])
    return affine_matrices(
        (height, width),
        degrees=jnp.asarray([float(degrees)]),
        shear_x=none,
        shear_y=none,
        factors=jnp.asarray([float(factor)]),
        shift_x=none,
        shift_y=none,
    )
