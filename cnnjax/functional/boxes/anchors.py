"""Reference boxes that detectors lay over a picture: on pyramids, as in Caffe, as in SSD, and from a data set.

They depend on no picture's content: computed once, on the host, in NumPy. All are `(x_min, y_min, x_max, y_max)` in
pixels, in the order level, row, column, box of a place.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Float32

Clipping = Literal["none", "sides", "corners"]


def pyramid_anchors(
    maps: Sequence[tuple[int, int]],
    *,
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    strides: Sequence[int] | None = None,
    image_size: tuple[int, int] | None = None,
) -> list[Float32[np.ndarray, "anchors 4"]]:
    """The anchors of each level of a feature pyramid, centred on multiples of the level's stride.

    A box of size s and ratio r is s / sqrt(r) wide and s sqrt(r) high; its corners around the centre are rounded to
    whole pixels, ties to even. At a place the ratio changes after the size.

    Args:
        maps: height and width of each level's map.
        sizes: the sizes of each level; ((32,), (64,), (128,), (256,), (512,)) for Faster R-CNN with a pyramid.
        ratios: height over width, the same for all levels.
        strides: one for each level, in pixels. It or `image_size` is given.
        image_size: height and width of the padded picture. The strides are then that over the map's, rounded down, by
            row and by column, as torchvision has them: a map of 13 x 21 over 800 x 1344 has strides 61 and 64.

    Returns:
        An array for each level.

    Raises:
        ValueError: levels disagree in number, not exactly one of `strides` and `image_size` is given, or a number is
            not positive.

    Reference: Lin et al. (2017), "Feature Pyramid Networks for Object Detection", section 4.1; the rounding and the
    order are torchvision's `AnchorGenerator`.

    >>> pyramid_anchors([(1, 1)], sizes=[[32.0]], strides=[32])[0].tolist()
    [[-23.0, -11.0, 23.0, 11.0], [-16.0, -16.0, 16.0, 16.0], [-11.0, -23.0, 11.0, 23.0]]
    """
    if len(sizes) != len(maps):
        raise ValueError(
            f"sizes of {len(sizes)} levels came with maps of {len(maps)}; expected a list of sizes for each level"
        )
    if (strides is None) == (image_size is None):
        raise ValueError("expected either strides, one for each level, or image_size, from which they follow")
    if strides is not None and len(strides) != len(maps):
        raise ValueError(f"strides={tuple(strides)} came with {len(maps)} maps; expected one for each level")
    levels = []
    for level, ((height, width), level_sizes) in enumerate(zip(maps, sizes, strict=True)):
        numbers = (height, width, *level_sizes, *ratios)
        if not numbers or min(numbers) <= 0:
            raise ValueError(
                f"level {level}: map {height}x{width}, sizes {tuple(level_sizes)} and ratios {tuple(ratios)} came; "
                "expected numbers above zero"
            )
        if image_size is None:
            down = along = (strides or ())[level]
        else:
            down, along = image_size[0] // height, image_size[1] // width
        root = np.sqrt(np.asarray(ratios, np.float32))
        scale = np.asarray(level_sizes, np.float32)
        wide = ((1 / root)[:, None] * scale[None]).ravel()
        high = (root[:, None] * scale[None]).ravel()
        base = np.round(np.stack([-wide, -high, wide, high], axis=1) / 2)
        levels.append(_on_grid(base, (height, width), (down, along)))
    return levels


def caffe_anchors(
    cells: tuple[int, int] = (1, 1),
    *,
    stride: int = 16,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    scales: Sequence[float] = (8, 16, 32),
) -> Float32[np.ndarray, "anchors 4"]:
    """The nine anchors of the first Faster R-CNN at each cell of a map.

    They are rounded as its program does it. Where that counts the last pixel in, (-84, -40, 99, 55), this package's
    boxes end after it: (-84, -40, 100, 56).

    Args:
        cells: rows and columns of the map.
        stride: of the map, in pixels.
        ratios: height over width.
        scales: sizes, in strides.

    Raises:
        ValueError: a number is not positive.

    Reference: Ren et al. (2015), "Faster R-CNN", section 3.1.1.

    >>> caffe_anchors()[0].tolist()
    [-84.0, -40.0, 100.0, 56.0]
    """
    if min(*cells, stride, *ratios, *scales) <= 0:
        raise ValueError(f"cells={cells}, stride={stride}, ratios={ratios}, scales={scales}; expected numbers above 0")
    centre = 0.5 * (stride - 1)
    base = []
    for ratio in ratios:
        wide = np.round(np.sqrt(stride * stride / ratio))
        high = np.round(wide * ratio)
        for scale in scales:
            half = 0.5 * (np.array([wide, high]) * scale - 1)
            base.append([*(centre - half), *(centre + half + 1)])
    return _on_grid(np.asarray(base, np.float32), cells, (stride, stride))


@dataclass(frozen=True)
class DefaultBoxes:
    """The layout of SSD's default boxes, a number or a tuple for each map.

    Attributes:
        size: of the square picture, in pixels.
        maps: sides of the square maps.
        steps: strides of the maps, in pixels.
        smallest: sizes of the smaller square box.
        largest: sizes of the next map's smaller box; the larger square's is the geometric mean of the two.
        ratios: each adds a wide box and a tall one.
    """

    size: int
    maps: tuple[int, ...]
    steps: tuple[int, ...]
    smallest: tuple[float, ...]
    largest: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        numbers = {len(part) for part in (self.maps, self.steps, self.smallest, self.largest, self.ratios)}
        if len(numbers) != 1:
            raise ValueError(f"{self}: expected maps, steps, smallest, largest and ratios of the same length")

    @property
    def per_place(self) -> tuple[int, ...]:
        """How many boxes a place of each map has."""
        return tuple(2 + 2 * len(ratios) for ratios in self.ratios)


_THREE, _FIVE = (2.0,), (2.0, 3.0)

SSD300 = DefaultBoxes(
    300,
    (38, 19, 10, 5, 3, 1),
    (8, 16, 32, 64, 100, 300),
    (30, 60, 111, 162, 213, 264),
    (60, 111, 162, 213, 264, 315),
    (_THREE, _FIVE, _FIVE, _FIVE, _THREE, _THREE),
)
"""SSD300 for Pascal VOC: 8,732 boxes."""

SSD300_COCO = DefaultBoxes(
    300,
    SSD300.maps,
    SSD300.steps,
    (21, 45, 99, 153, 207, 261),
    (45, 99, 153, 207, 261, 315),
    SSD300.ratios,
)
"""SSD300 for COCO, as torchvision has it: 8,732 boxes."""

SSD512 = DefaultBoxes(
    512,
    (64, 32, 16, 8, 4, 2, 1),
    (8, 16, 32, 64, 128, 256, 512),
    (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8),
    (76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6),
    (_THREE, _FIVE, _FIVE, _FIVE, _FIVE, _THREE, _THREE),
)
"""SSD512 for Pascal VOC: 24,564 boxes."""


def default_boxes(layout: DefaultBoxes, *, clipping: Clipping = "none") -> Float32[np.ndarray, "boxes 4"]:
    r"""SSD's default boxes: at each place two squares, then for each ratio a wide box and a tall one.

    $$(s, s), \; (\sqrt{s s'}, \sqrt{s s'}), \; (s \sqrt{a}, s / \sqrt{a}), \; (s / \sqrt{a}, s \sqrt{a})$$

    (width, height), with the map's size s and the next one's s', around the middle of each cell of the map.

    Args:
        layout: `SSD300`, `SSD300_COCO`, `SSD512`, or one's own.
        clipping: "none" as Caffe's; "sides" keeps width and height within the picture, as torchvision; "corners"
            cuts the boxes at the picture's border.

    Returns:
        Boxes in pixels.

    Raises:
        ValueError: `clipping` is none of these.

    Reference: Liu et al. (2016), "SSD: Single Shot MultiBox Detector", section 2.2.

    >>> len(default_boxes(SSD300)), len(default_boxes(SSD512))
    (8732, 24564)
    """
    if clipping not in get_args(Clipping):
        raise ValueError(f"clipping={clipping!r}; expected one of {', '.join(get_args(Clipping))}")
    boxes = []
    parts = (layout.maps, layout.steps, layout.smallest, layout.largest, layout.ratios)
    for side, step, small, large, ratios in zip(*parts, strict=True):
        square = math.sqrt(small * large)
        sides = [(small, small), (square, square)]
        for ratio in ratios:
            root = math.sqrt(ratio)
            sides += [(small * root, small / root), (small / root, small * root)]
        for (row, column), (wide, high) in itertools.product(itertools.product(range(side), repeat=2), sides):
            if clipping == "sides":
                wide, high = min(wide, layout.size), min(high, layout.size)
            x, y = (column + 0.5) * step, (row + 0.5) * step
            boxes.append((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2))
    array = np.asarray(boxes, np.float64)
    return (np.clip(array, 0, layout.size) if clipping == "corners" else array).astype(np.float32)


def kmeans_sizes(
    sizes: Float[np.ndarray, "boxes 2"], count: int, *, seed: int = 0, most_turns: int = 300
) -> Float[np.ndarray, "count 2"]:
    r"""Widths and heights that stand for a data set's boxes: k-means under the distance 1 - IoU.

    The IoU is that of boxes with one centre, so that large boxes do not count for more than small ones. A centre is
    the mean of its boxes. It starts from boxes that are far apart (k-means++).

    Args:
        sizes: width and height of each box of the data set.
        count: of the sizes wanted.
        seed: of the start.
        most_turns: after how many turns it ends even where boxes still change their centre.

    Returns:
        Width and height of each, smallest area first.

    Raises:
        ValueError: there are fewer different boxes than `count`, or a side is not positive.

    Reference: Redmon and Farhadi (2017), "YOLO9000", section 2, dimension clusters.
    """
    sizes = np.asarray(sizes, np.float64)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not (sizes > 0).all():
        raise ValueError(f"sizes of shape {sizes.shape} came; expected (boxes, 2), widths and heights above zero")
    different = np.unique(sizes, axis=0)
    if not 1 <= count <= len(different):
        raise ValueError(f"count={count}; expected from 1 to {len(different)}, the number of different sizes")
    generator = np.random.default_rng(seed)
    centres = different[generator.integers(len(different))][None]
    while len(centres) < count:
        far = _apart(different, centres).min(axis=1) ** 2
        centres = np.concatenate([centres, different[generator.choice(len(different), p=far / far.sum())][None]])
    nearest = np.full(len(sizes), -1)
    for _ in range(most_turns):
        now = _apart(sizes, centres).argmin(axis=1)
        if (now == nearest).all():
            break
        nearest = now
        centres = np.stack(
            [sizes[now == k].mean(axis=0) if (now == k).any() else centre for k, centre in enumerate(centres)]
        )
    return centres[np.argsort(centres.prod(axis=1), kind="stable")]


def _on_grid(base: np.ndarray, cells: tuple[int, int], strides: tuple[int, int]) -> Float32[np.ndarray, "anchors 4"]:
    """The base boxes moved to every cell, rows first."""
    rows, columns = (
        np.arange(number, dtype=np.float32) * stride for number, stride in zip(cells, strides, strict=True)
    )
    y, x = np.meshgrid(rows, columns, indexing="ij")
    shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (shifts + base.astype(np.float32)).reshape(-1, 4)


def _apart(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """1 - IoU of every size and every centre, as of boxes with one middle."""
    common = np.minimum(sizes[:, None], centres[None]).prod(axis=-1)
    return 1 - common / (sizes.prod(axis=-1)[:, None] + centres.prod(axis=-1)[None] - common)
