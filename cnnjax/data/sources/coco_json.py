"""A COCO file read and checked: its pictures, categories and annotations as arrays, in the order of the file."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax.data.sources.class_names import class_name

_EXPECTED = 'expected a COCO file, {"images": [...], "annotations": [...], "categories": [...]}'
# The numbers of pictures go through batches as int32.
_LARGEST_ID = 2**31 - 1
# What JSON has for numbers; True is none.
_NUMBER = {int, float}


class Categories(NamedTuple):
    """The categories of a file, sorted by number: number n of them is class n.

    Attributes:
        ids: Their numbers in the file.
        names: Their names.
        points: The names of the key points of an object; of all categories that have some.
        skeleton: Pairs of places in `points`, from 0.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    points: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]


@dataclass
class CocoFile:
    """What a file holds. Each list of objects has an entry for each annotation that has a box.

    Attributes:
        file: Where it lies.
        names: The files of the pictures.
        ids: Their numbers.
        sides: Their heights and widths.
        categories: See `Categories`.
        captions: Of each picture, by its place; only of those that have some.
        picture: The place of the picture of each object.
        number: The place of its annotation in the file.
        identity: The id of its annotation, whatever it is.
        classes: Its class.
        boxes: x, y, width and height as they are written.
        crowd: Whether it is a region of many.
        area: In pixels; of its box where the file tells none.
        points: (x, y) of its key points, at the centres of the pixels that the file names, and their visibility.
        outlines: Its polygons, as arrays (x, y, x, y, ...), or its run-length code; None where there is none.
    """

    file: Path
    names: list[str]
    ids: np.ndarray
    sides: np.ndarray
    categories: Categories
    captions: dict[int, list[str]] = field(default_factory=dict)
    picture: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    identity: list[Any] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    outlines: list[Any] = field(default_factory=list)

    def tell_picture(self, place: int) -> str:
        """A picture by its entry."""
        return f"{self.file}, image {place + 1} (id {self.ids[place]})"


def tell_annotation(file: Path, number: int, identity: Any) -> str:
    """An annotation by its entry, counted from 1.

    >>> tell_annotation(Path("a.json"), 0, 17)
    'a.json, annotation 1 (id 17)'
    """
    return f"{file}, annotation {number + 1}" + ("" if identity is None else f" (id {identity})")


def read_coco(file: Path) -> CocoFile:
    """Reads a COCO file of boxes, outlines, key points or captions.

    Raises:
        ValueError: If it is no JSON or no COCO file, or an entry is not sound: a picture without a size, an annotation
            of an unknown picture or category, a box that is not four numbers, a polygon of two points, a mask of
            another size than its picture. The message names the file and the entry.

    Reference: Lin et al. (2014), "Microsoft COCO: Common Objects in Context", and its page on the data format.
    """
    told = _load(file)
    names, ids, sides = _images(file, told["images"])
    found = CocoFile(file, names, ids, sides, _categories(file, told.get("categories") or []))
    place_of = {int(number): place for place, number in enumerate(ids)}
    class_of = {number: place for place, number in enumerate(found.categories.ids)}
    for number, one in enumerate(told["annotations"]):
        at = tell_annotation(file, number, one.get("id") if isinstance(one, Mapping) else None)
        _check(isinstance(one, Mapping), at, f"it is a {type(one).__name__}; expected a dictionary")
        place = _looked_up(place_of, one.get("image_id"), at, "image_id", "images")
        if "caption" in one:
            _check(isinstance(one["caption"], str), at, f"its caption is {one['caption']!r}; expected text")
            found.captions.setdefault(place, []).append(one["caption"])
            if "bbox" not in one:
                continue
        found.picture.append(place)
        found.number.append(number)
        found.identity.append(one.get("id"))
        found.classes.append(_looked_up(class_of, one.get("category_id"), at, "category_id", "categories"))
        box = _numbers(one.get("bbox"), at, "bbox", 4, "[x, y, width, height] in pixels")
        found.boxes.append(box)
        crowd = one.get("iscrowd", 0)
        _check(crowd in (0, 1), at, f"its iscrowd is {crowd!r}; expected 0 or 1")
        found.crowd.append(bool(crowd))
        (area,) = _numbers([one.get("area", box[2] * box[3])], at, "area", 1, "a number of pixels")
        found.area.append(area)
        if found.categories.points:
            found.points.append(_points(one.get("keypoints"), len(found.categories.points), at))
        found.outlines.append(_outline(one.get("segmentation"), sides[place], at))
    return found


def _load(file: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(file.read_bytes())
    # RecursionError is of brackets within brackets.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON ({error}); restore it: {_EXPECTED}") from error
    if not isinstance(told, Mapping):
        raise ValueError(f"{file} holds a {type(told).__name__}; {_EXPECTED}")
    for part in ("images", "annotations"):
        if not isinstance(told.get(part), list):
            hint = ", as a file of results has not" if part == "images" else ", as a file of test pictures has not"
            raise ValueError(f'{file} has no list called "{part}"{hint}; {_EXPECTED}')
    return told


def _images(file: Path, images: Sequence[Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    names, ids, sides, seen = [], [], [], {}
    for number, one in enumerate(images):
        at = f"{file}, image {number + 1}"
        _check(isinstance(one, Mapping), at, f"it is a {type(one).__name__}; expected a dictionary")
        identity, name = one.get("id"), one.get("file_name")
        sound = _is_whole(identity) and 0 <= identity <= _LARGEST_ID
        _check(sound, at, f"its id is {identity!r}; expected a whole number from 0 to {_LARGEST_ID:,}")
        at = f"{at} (id {identity})"
        _check(identity not in seen, at, f"image {seen.get(identity, 0) + 1} has this id too; expected one for each")
        seen[identity] = number
        _check(isinstance(name, str) and name != "", at, f"its file_name is {name!r}; expected that of a picture")
        for side in ("height", "width"):
            length = one.get(side)
            _check(
                _is_whole(length) and length > 0,
                at,
                f"its {side} is {length!r}; expected a number of pixels, by which boxes are checked",
            )
        names.append(name)
        ids.append(identity)
        sides.append((one["height"], one["width"]))
    if not names:
        raise ValueError(f"{file} lists no pictures; {_EXPECTED}")
    return names, np.array(ids, np.int32), np.array(sides, np.int64)


def _categories(file: Path, categories: Sequence[Any]) -> Categories:
    found: dict[int, str] = {}
    points: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    _check(isinstance(categories, list), str(file), f"categories is {categories!r:.50}; expected a list")
    for number, one in enumerate(categories):
        at = f"{file}, category {number + 1}"
        _check(isinstance(one, Mapping), at, f"it is a {type(one).__name__}; expected a dictionary")
        identity, name = one.get("id"), one.get("name")
        _check(_is_whole(identity), at, f"its id is {identity!r}; expected a whole number")
        _check(identity not in found, at, f"its id {identity} is that of another category too; expected one for each")
        _check(isinstance(name, str) and name.strip() != "", at, f"its name is {name!r}; expected text")
        found[identity] = class_name(name.strip())
        own = one.get("keypoints") or []
        if not own:
            continue
        _check(isinstance(own, list), at, f"its keypoints are {own!r:.50}; expected a list of names")
        _check(
            points in ((), tuple(map(str, own))),
            at,
            "its key points are others than those of the categories before; expected one list of names for all",
        )
        points = tuple(map(str, own))
        pairs = one.get("skeleton") or []
        sound = isinstance(pairs, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(_is_whole(end) and 1 <= end <= len(own) for end in pair)
            for pair in pairs
        )
        _check(sound, at, f"its skeleton does not join key points; expected pairs of numbers from 1 to {len(own)}")
        skeleton = tuple((start - 1, end - 1) for start, end in pairs)
    ids = tuple(sorted(found))
    return Categories(ids, tuple(found[identity] for identity in ids), points, skeleton)


def _points(given: Any, count: int, at: str) -> np.ndarray:
    """(count, 3): x, y and visibility; zeros where none are given."""
    if not given:
        return np.zeros((count, 3))
    _numbers(given, at, "keypoints", 3 * count, f"{count} times x, y and visibility", finite=True)
    points = np.array(given, np.float64).reshape(-1, 3)
    _check(np.isin(points[:, 2], (0, 1, 2)).all(), at, "a visibility of its keypoints is none of 0, 1 and 2")
    # The file names a pixel; here the one in column i covers i to i + 1.
    points[:, :2] += np.where(points[:, 2:] > 0, 0.5, 0.0)
    return points


def _outline(given: Any, sides: np.ndarray, at: str) -> Any:
    if not given:
        return None
    if isinstance(given, Mapping):
        size, counts = given.get("size"), given.get("counts")
        _check(isinstance(counts, str | list), at, "its segmentation has no counts; expected COCO's text, or a list")
        _check(
            size == sides.tolist(),
            at,
            f"its mask has the size {size}, its picture {sides.tolist()}, height and width; expected the same: correct"
            " it, or remove the annotation",
        )
        return dict(given)
    _check(isinstance(given, list), at, "its segmentation is neither polygons nor a run-length code")
    polygons = []
    for place, polygon in enumerate(given):
        which = f"polygon {place + 1} of its segmentation"
        _check(isinstance(polygon, list), at, f"{which} is {polygon!r:.50}; expected a list, [x, y, x, y, ...]")
        _check(
            len(polygon) >= 6 and len(polygon) % 2 == 0,
            at,
            f"{which} has {len(polygon) / 2:g} points; an area needs three at least: correct it, or remove it",
        )
        polygons.append(np.array(_numbers(polygon, at, which, len(polygon), "x, y, x, y, ...", finite=True)))
    return polygons


def _looked_up(known: Mapping[int, int], given: Any, at: str, name: str, where: str) -> int:
    if not _is_whole(given) or given not in known:
        raise ValueError(
            f'{at}: its {name} is {given!r}, and "{where}" has none with this id; add it there, or remove the'
            " annotation"
        )
    return known[given]


def _numbers(given: Any, at: str, name: str, count: int, expected: str, *, finite: bool = False) -> tuple[float, ...]:
    sound = isinstance(given, list) and len(given) == count
    if not sound or not set(map(type, given)) <= _NUMBER:
        raise ValueError(f"{at}: its {name} is {given!r:.100}; expected {expected}")
    if finite and not all(map(math.isfinite, given)):
        raise ValueError(f"{at}: its {name} holds NaN or infinity; expected {expected}")
    return tuple(map(float, given))


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _check(sound: Any, at: str, said: str) -> None:
    if not sound:
        raise ValueError(f"{at}: {said}")
