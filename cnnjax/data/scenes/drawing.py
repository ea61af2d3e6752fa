"""Drawing a scene: what objects there are, where they cover one another, and the picture."""

import math
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from cnnjax.data.scenes.facts import COLOUR_VALUES, COLOURS, SHAPES, SIDES, SIZES


class _Objects(NamedTuple):
    """One entry per slot; `shapes` are those of SHAPES, and beyond them a digit. Points are (x, y) in pixels."""

    shapes: Int[Array, " slots"]
    classes: Int[Array, " slots"]
    sprites: Float[Array, "slots 8 8"]
    centres: Float[Array, "slots 2"]
    sides: Float[Array, "slots 2"]
    sizes: Int[Array, " slots"]
    colours: Int[Array, " slots"]


def scene(
    key: Key[Array, ""],
    *,
    size: tuple[int, int] = (96, 96),
    objects: int = 6,
    fewest: int = 1,
    digits: bool = False,
    seen: float = 0.25,
) -> dict[str, Shaped[Array, "..."]]:
    """Draws one picture of coloured shapes on a textured background, and tells all about it; runs under jit and vmap.

    Objects lie within the picture, and later ones cover earlier ones. One is left out if less than the share `seen` of
    it could be seen, so there may be fewer than were drawn, but never none. Those that are there fill the first slots,
    in the order of drawing; all that is told of empty slots is zero.

    Args:
        key: Decides everything.
        size: Height and width; at least 16.
        objects: How many slots there are, and at most objects.
        fewest: How many objects are drawn at least, before any is left out.
        digits: Whether a quarter of the objects are handwritten digits (scikit-learn's), scaled up.
        seen: The least visible share of an object that is there, above 0.

    Returns:
        A dict of arrays:

        - "image": (height, width, 3) uint8
        - "boxes": (objects, 4) float32, (x_min, y_min, x_max, y_max) in pixels around the visible part, as in COCO
        - "classes": (objects,) int32, index into `class_names`
        - "present": (objects,) bool, whether a slot holds an object
        - "area": (objects,) float32, visible pixels
        - "masks": (height, width) int32, 0 for background, and the slot number plus 1 where an object is visible
        - "keypoints": (objects, 5, 2) float32, (x, y) of `POINTS` of the whole object; but for its centre they
          are on its outline, or, of a digit, on the sides of the box around it
        - "visibility": (objects, 5) int32, as in COCO: 2 if the point can be seen, 1 if another object covers it, 0 if
          the slot is empty
        - "colours", "sizes", "positions": (objects,) int32, index into `COLOURS`, `SIZES` and `POSITIONS`; a position
          is that of the box's centre

    Raises:
        ValueError: a size is below 16, not 1 <= fewest <= objects, or `seen` not above 0 and at most 1.

    >>> jax.eval_shape(scene, jax.random.key(0))["image"].shape
    (96, 96, 3)
    """
    if len(size) != 2 or min(size) < 16:
        raise ValueError(f"size={size}; expected height and width, each 16 or more")
    if not 1 <= fewest <= objects:
        raise ValueError(f"fewest={fewest} and objects={objects}; expected 1 <= fewest <= objects")
    if not 0 < seen <= 1:
        raise ValueError(f"seen={seen}; expected a share above 0, at most 1")
    of_number, of_objects, of_background, of_noise = jax.random.split(key, 4)
    drawn = jnp.arange(objects) < jax.random.randint(of_number, (), fewest, objects + 1)
    placed = _draw_objects(of_objects, size, objects, digits)
    columns, rows = _grid(size)
    pixels = jnp.stack([columns, rows], -1).reshape(-1, 2) + 0.5
    distances = _distances(placed, pixels).reshape(objects, *size)
    present = _left_in(distances <= 0, drawn, seen)
    order = jnp.argsort(~present)
    placed, distances, present = jax.tree.map(lambda array: array[order], (placed, distances, present))
    numbers = jnp.arange(1, objects + 1, dtype=jnp.int32)[:, None, None]
    solid = (distances <= 0) & present[:, None, None]
    masks = jnp.max(jnp.where(solid, numbers, 0), 0)
    visible = masks[None] == numbers
    boxes = jnp.where(present[:, None], _boxes_around(visible), 0.0)
    points, visibility = _points(placed, present, _boxes_around(distances <= 0))
    shares = 0.5 * (boxes[:, :2] + boxes[:, 2:]) / jnp.asarray([size[::-1]], jnp.float32)
    thirds = jnp.clip((3.0 * shares).astype(jnp.int32), 0, 2)
    picture = _painted(_background(of_background, size), distances, present, placed.colours)
    picture = picture + 0.02 * jax.random.normal(of_noise, picture.shape)
    told = {
        "classes": placed.classes,
        "area": jnp.sum(visible, (1, 2)).astype(jnp.float32),
        "colours": placed.colours,
        "sizes": placed.sizes,
        "positions": 3 * thirds[:, 1] + thirds[:, 0],
    }
    return {
        "image": jnp.round(255.0 * jnp.clip(picture, 0.0, 1.0)).astype(jnp.uint8),
        "boxes": boxes,
        "present": present,
        "masks": masks,
        "keypoints": jnp.where(present[:, None, None], points, 0.0),
        "visibility": visibility,
        **{name: jnp.where(present, values, jnp.zeros_like(values)) for name, values in told.items()},
    }


def _grid(size: tuple[int, int]) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """The columns and the rows of all pixels."""
    columns, rows = jnp.meshgrid(*(jnp.arange(length, dtype=jnp.float32) for length in size[::-1]))
    return columns, rows


def _draw_objects(key: Key[Array, ""], size: tuple[int, int], slots: int, digits: bool) -> _Objects:
    of_shape, of_size, of_side, of_aspect, of_place, of_colour, of_digit = jax.random.split(key, 7)
    shapes = jax.random.randint(of_shape, (slots,), 0, len(SHAPES) + digits)
    sprites, labels = (jnp.asarray(array) for array in _digit_sprites())
    chosen = jax.random.randint(of_digit, (slots,), 0, len(labels))
    sizes = jax.random.randint(of_size, (slots,), 0, len(SIZES))
    low, high = jnp.moveaxis(jnp.asarray(SIDES, jnp.float32)[sizes], -1, 0)
    longest = min(size) * (low + (high - low) * jax.random.uniform(of_side, (slots,)))
    # The logarithm of width over height; circles and digits have none.
    most = jnp.asarray([0.0, math.log(2.0), math.log(1.3), 0.0], jnp.float32)[shapes]
    aspects = jnp.exp(most * jax.random.uniform(of_aspect, (slots,), minval=-1.0))
    sides = longest[:, None] * jnp.stack([jnp.minimum(aspects, 1.0), jnp.minimum(1.0 / aspects, 1.0)], -1)
    room = jnp.asarray(size[::-1], jnp.float32)[None] - sides
    centres = 0.5 * sides + room * jax.random.uniform(of_place, (slots, 2))
    classes = jnp.where(shapes < len(SHAPES), shapes, len(SHAPES) + labels[chosen])
    colours = jax.random.randint(of_colour, (slots,), 0, len(COLOURS))
    return _Objects(shapes, classes, sprites[chosen], centres, sides, sizes, colours)


@cache
def _digit_sprites() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 16, np.asarray(labels, np.int32)


def _distances(objects: _Objects, points: Float[Array, "p 2"]) -> Float[Array, "slots p"]:
    """About how far points lie outside of each object, in pixels; negative inside."""

    def of_one(shape: jax.Array, sprite: jax.Array, centre: jax.Array, sides: jax.Array) -> jax.Array:
        x, y = jnp.moveaxis(points - centre[None], -1, 0)
        width, height = sides
        circle = jnp.hypot(x, y) - width / 2
        rectangle = jnp.maximum(jnp.abs(x) - width / 2, jnp.abs(y) - height / 2)
        slope = jnp.abs(x) * height - (y + height / 2) * width / 2
        triangle = jnp.maximum(y - height / 2, slope / jnp.hypot(height, width / 2))
        places = [(share + 0.5) * 8 - 0.5 for share in (y / height, x / width)]
        ink = map_coordinates(sprite, places, order=1, mode="constant")
        return jnp.stack([circle, rectangle, triangle, (0.5 - ink) * width / 8])[shape]

    return jax.vmap(of_one)(objects.shapes, objects.sprites, objects.centres, objects.sides)


def _left_in(
    solid: Bool[Array, "slots height width"], drawn: Bool[Array, " slots"], seen: float
) -> Bool[Array, " slots"]:
    """Which objects are there: from the topmost down, those of which enough is not covered."""

    def lay(covered: jax.Array, layer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        mask, exists = layer
        free, whole = (jnp.sum(part, dtype=jnp.float32) for part in (mask & ~covered, mask))
        kept = exists & (free > 0) & (free >= seen * whole)
        return covered | (mask & kept), kept

    return lax.scan(lay, jnp.zeros(solid.shape[1:], bool), (solid, drawn), reverse=True)[1]


def _boxes_around(masks: Bool[Array, "slots height width"]) -> Float[Array, "slots 4"]:
    sides = []
    for axis in (1, 2):  # over rows for x, over columns for y
        hit = masks.any(axis)
        sides.append((jnp.argmax(hit, -1), hit.shape[-1] - jnp.argmax(hit[:, ::-1], -1)))
    (left, right), (top, bottom) = sides
    return jnp.stack([left, top, right, bottom], -1).astype(jnp.float32)


def _points(
    objects: _Objects, present: Bool[Array, " slots"], wholes: Float[Array, "slots 4"]
) -> tuple[Float[Array, "slots 5 2"], Int[Array, "slots 5"]]:
    slots = len(present)
    upright = [[0, 0], [0, -1], [1, 0], [0, 1], [-1, 0]]
    corners = [[0, 0], [0, -1], [1, 1], [0, 1], [-1, 1]]
    of_shapes = jnp.asarray([corners if shape == "triangle" else upright for shape in (*SHAPES, "digit")], jnp.float32)
    # Digits are narrower than the square that they are written in: theirs are about the ink.
    of_ink = (objects.shapes == len(SHAPES))[:, None]
    centres = jnp.where(of_ink, 0.5 * (wholes[:, :2] + wholes[:, 2:]), objects.centres)[:, None]
    sides = jnp.where(of_ink, wholes[:, 2:] - wholes[:, :2], objects.sides)[:, None]
    points = centres + 0.5 * sides * of_shapes[objects.shapes]
    over = (_distances(objects, points.reshape(-1, 2)) <= 0).reshape(slots, slots, 5) & present[:, None, None]
    later = jnp.arange(slots)[:, None] > jnp.arange(slots)[None]
    covered = (over & later[:, :, None]).any(0)
    return points, jnp.where(present[:, None], jnp.where(covered, 1, 2), 0).astype(jnp.int32)


def _background(key: Key[Array, ""], size: tuple[int, int]) -> Float[Array, "height width 3"]:
    """Clouds, stripes or checks between two dull colours."""
    of_kind, of_greys, of_tints, of_clouds, of_angle, of_period, of_phase = jax.random.split(key, 7)
    greys = jax.random.uniform(of_greys, (2, 1, 1, 1), minval=0.25, maxval=0.7)
    first, second = greys + jax.random.uniform(of_tints, (2, 1, 1, 3), minval=-0.08, maxval=0.08)
    clouds = jnp.clip(jax.image.resize(jax.random.uniform(of_clouds, (6, 6)), size, "cubic"), 0.0, 1.0)
    angle = jax.random.uniform(of_angle, (), maxval=math.pi)
    period = min(size) * jax.random.uniform(of_period, (), minval=0.08, maxval=0.25)
    columns, rows = _grid(size)
    turn = 2 * math.pi / period
    phases = 2 * math.pi * jax.random.uniform(of_phase, (2,))
    along = jnp.sin(turn * (columns * jnp.cos(angle) + rows * jnp.sin(angle)) + phases[0])
    across = jnp.sin(turn * (rows * jnp.cos(angle) - columns * jnp.sin(angle)) + phases[1])
    stripes, checks = 0.5 + 0.5 * along, 0.5 + 0.5 * jnp.clip(4 * along * across, -1.0, 1.0)
    pattern = jnp.stack([clouds, stripes, checks])[jax.random.randint(of_kind, (), 0, 3)]
    return first + pattern[..., None] * (second - first)


def _painted(
    picture: Float[Array, "height width 3"],
    distances: Float[Array, "slots height width"],
    present: Bool[Array, " slots"],
    colours: Int[Array, " slots"],
) -> Float[Array, "height width 3"]:
    paints = jnp.asarray(list(COLOUR_VALUES.values()), jnp.float32)[colours]

    def lay(picture: jax.Array, layer: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        distance, exists, paint = layer
        # Edges are as wide as a pixel.
        share = jnp.where(exists, jnp.clip(0.5 - distance, 0.0, 1.0), 0.0)[..., None]
        return picture + share * (paint[None, None] - picture), None

    return lax.scan(lay, picture, (distances, present, paints))[0]
