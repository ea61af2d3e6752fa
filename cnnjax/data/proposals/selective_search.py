"""Selective search: boxes that may hold objects, of any class, from groupings of a picture's segments.

Reference: Uijlings et al. (2013), "Selective Search for Object Recognition"; the settings are those with which Girshick
et al. (2014), "Rich Feature Hierarchies for Accurate Object Detection", section 2, use it in R-CNN.
"""

import operator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

from cnnjax.data.proposals.colours import Space, convert
from cnnjax.data.proposals.grouping import Segments, Similarity, colour_bins, describe, group, texture_bins
from cnnjax.data.proposals.segmentation import grid_edges, join, smooth

Mode: TypeAlias = Literal["fast", "quality"]

_ALL: frozenset[Similarity] = frozenset({"colour", "texture", "size", "fill"})


@dataclass(frozen=True)
class Variety:
    """What a mode runs: one hierarchy for each space, scale and set of similarities."""

    spaces: tuple[Space, ...]
    scales: tuple[int, ...]
    similarities: tuple[frozenset[Similarity], ...]


# As the paper names them "fast" and "quality". A scale is k of the segmentation and the least pixels of its segments.
VARIETIES: dict[Mode, Variety] = {
    "fast": Variety(("hsv", "lab"), (50, 100), (_ALL, _ALL - {"colour"})),
    "quality": Variety(
        ("hsv", "lab", "rgi", "hue", "intensity"),
        (50, 100, 150, 300),
        (_ALL, _ALL - {"colour"}, frozenset({"fill"}), frozenset({"size"})),
    ),
}
_SIGMA = 0.8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of `selective_search`, checked; equal ones give equal boxes.

    Raises:
        ValueError: an option is out of range.
        TypeError: a number is not whole.
    """

    mode: Mode = "fast"
    most: int = 2000
    smallest: int = 20
    width: int = 500
    enlarge: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in VARIETIES:
            raise ValueError(f"mode is {self.mode!r}; expected {' or '.join(map(repr, VARIETIES))}")
        least = {"most": 1, "smallest": 1, "width": 1, "seed": 0}
        cures = {
            "most": "2000 is R-CNN's number of boxes",
            "smallest": "1 keeps every box",
            "width": "one as large as the picture's keeps its size",
            "seed": "any such number will do",
        }
        for name, lowest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise TypeError(f"{name} is {value!r}; expected a whole number of {lowest} or more: {cures[name]}")
            if value < lowest:
                raise ValueError(f"{name}={value}; expected a whole number of {lowest} or more: {cures[name]}")
            object.__setattr__(self, name, operator.index(value))


def selective_search(
    picture: UInt8[np.ndarray, "height width 3"],
    *,
    mode: Mode = "fast",
    most: int = 2000,
    smallest: int = 20,
    width: int = 500,
    enlarge: bool = False,
    seed: int = 0,
) -> Float32[np.ndarray, "boxes 4"]:
    """Boxes that may hold an object, the most promising first.

    A box's priority is its place in its hierarchy, 1 for the whole picture, times a random number from 0 to 1; boxes
    of all hierarchies are sorted by it, and of equal boxes the first is kept.

    Args:
        picture: RGB.
        mode: "fast" runs 8 hierarchies, "quality" 80.
        most: How many boxes at most.
        smallest: Boxes with a shorter side are dropped; in pixels of the picture after `width`, as in R-CNN.
        width: Wider pictures are brought to this width; narrower ones stay as they are.
        enlarge: Whether narrower pictures are brought to it too, as R-CNN's program does; small objects need it.
        seed: Of the random numbers.

    Returns:
        x_min, y_min, x_max, y_max in pixels of `picture` from its upper left corner, x_max - x_min wide.

    Raises:
        ValueError: `picture` is not uint8 of shape (height, width, 3) with a pixel, or an option is out of range.
        TypeError: an option's number is not whole.

    Reference: Uijlings et al. (2013), "Selective Search for Object Recognition", section 3.

    >>> selective_search(np.zeros((30, 40, 3), np.uint8)).tolist()
    [[0.0, 0.0, 40.0, 30.0]]
    """
    settings = Settings(mode=mode, most=most, smallest=smallest, width=width, enlarge=enlarge, seed=seed)
    picture = as_picture(picture)
    searched = fit_width(picture, settings.width, enlarge=settings.enlarge)
    hierarchies = [
        group(segments, similarities)
        for segments in segmentations(searched, settings.mode)
        for similarities in VARIETIES[settings.mode].similarities
    ]
    boxes = rank(hierarchies, settings)
    return to_picture(boxes, searched.shape[:2], picture.shape[:2])


def as_picture(picture: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """The picture, if it is one that can be searched.

    Raises:
        ValueError: it is not uint8 of shape (height, width, 3) with a pixel.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            f"picture is {picture.dtype} of shape {picture.shape}; expected uint8, (height, width, 3), with at least"
            " one pixel: of grey make three equal channels, and bring shares to 0 to 255"
        )
    return picture


def fit_width(
    picture: UInt8[np.ndarray, "height width 3"], width: int, *, enlarge: bool = False
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """The picture brought to a width if it is wider, or may be enlarged, bilinear with antialiasing."""
    if picture.shape[1] == width or (picture.shape[1] < width and not enlarge):
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


def segmentations(picture: UInt8[np.ndarray, "height width 3"], mode: Mode) -> list[Segments]:
    """The segments of all spaces and scales of a mode, with what the grouping needs of them."""
    found = []
    for space in VARIETIES[mode].spaces:
        image = convert(picture, space)
        edges = grid_edges(smooth(image, _SIGMA))
        colours, textures = colour_bins(image), texture_bins(image)
        found += [
            describe(join(edges, scale=scale, smallest=scale), colours, textures) for scale in VARIETIES[mode].scales
        ]
    return found


def rank(hierarchies: list[Int64[np.ndarray, "_ 4"]], settings: Settings) -> Int64[np.ndarray, "boxes 4"]:
    """The boxes of all hierarchies by priority, without small and repeated ones, at most as many as are wanted."""
    generator = np.random.default_rng(settings.seed)
    # The last region of a hierarchy, which is the whole picture, has place 1.
    priorities = [np.arange(len(boxes), 0, -1) * generator.random(len(boxes)) for boxes in hierarchies]
    boxes = np.concatenate(hierarchies)[np.argsort(np.concatenate(priorities), kind="stable")]
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(-1) >= settings.smallest]
    kept = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
    return boxes[kept[: settings.most]]


def to_picture(
    boxes: Int64[np.ndarray, "boxes 4"], searched: tuple[int, int], sides: tuple[int, int]
) -> Float32[np.ndarray, "boxes 4"]:
    """Boxes of a picture of height and width `searched`, in the pixels of one of `sides`."""
    scale = np.array([sides[1] / searched[1], sides[0] / searched[0]] * 2)
    limit = np.array([sides[1], sides[0]] * 2)
    return np.minimum(boxes * scale, limit).astype(np.float32)
