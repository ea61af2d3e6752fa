"""One annotation of Pascal VOC: its XML read safely, and checked."""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Bool, Float

from cnnjax.data.sources.class_names import class_name
from cnnjax.image_size import Size

# A larger file is no annotation of one picture.
_MOST_BYTES = 2**26
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Annotation(NamedTuple):
    """What an XML file says of its picture.

    Attributes:
        sides: Height and width of the picture.
        names: The class of each object.
        written: The corners as they are written: 1-based pixels, the last one included.
        difficult: Whether each object is marked so.
        truncated: Whether each object is marked so.
    """

    sides: Size
    names: tuple[str, ...]
    written: Float[np.ndarray, "objects 4"]
    difficult: Bool[np.ndarray, "objects"]
    truncated: Bool[np.ndarray, "objects"]

    @property
    def boxes(self) -> Float[np.ndarray, "objects 4"]:
        """(x_min, y_min, x_max, y_max) in pixels from the upper left corner: pixel n covers n - 1 to n."""
        return self.written - [1.0, 1.0, 0.0, 0.0]


def read_annotation(file: Path) -> Annotation:
    """Reads an XML file of one picture.

    Entities that a file could declare, which may fill the memory or fetch other files, are refused with their DOCTYPE.

    Raises:
        ValueError: If it is no XML, has a DOCTYPE, tells no size, or an object has no name, no box or a corner that is
            no number. The message names the file and the object.

    Reference: Everingham et al. (2010), "The PASCAL Visual Object Classes (VOC) Challenge", and its development kit.
    """
    root = _parse(file)
    objects = root.findall("object")
    told = [f"{file}, object {number + 1}" for number in range(len(objects))]
    names = tuple(_name(one, at) for one, at in zip(objects, told, strict=True))
    told = [f"{at} ({name})" for at, name in zip(told, names, strict=True)]
    corners = [_corners(one, at) for one, at in zip(objects, told, strict=True)]
    flags = [
        [_flag(one, flag, at) for one, at in zip(objects, told, strict=True)] for flag in ("difficult", "truncated")
    ]
    return Annotation(
        _size(root, file),
        names,
        np.array(corners, np.float64).reshape(-1, 4),
        np.array(flags[0], bool),
        np.array(flags[1], bool),
    )


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds the tree, and stops where a DOCTYPE begins, before what it declares is read."""

    def doctype(self, *_: object) -> None:
        raise ValueError("it has a DOCTYPE, which annotations do not need and may do harm; remove it")


def _parse(file: Path) -> ElementTree.Element:
    with open(file, "rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{file} has more than {_MOST_BYTES:,} bytes; expected the annotation of one picture")
    try:
        parser = ElementTree.XMLParser(target=_WithoutDoctype())
        parser.feed(data)
        return parser.close()
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is no XML ({error}); restore it, or annotate its picture anew") from error
    # LookupError is of an encoding that is not known.
    except (ValueError, LookupError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def _size(root: ElementTree.Element, file: Path) -> Size:
    sides = []
    for side in ("height", "width"):
        text = (root.findtext(f"size/{side}") or "").strip()
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(
                f"{file} tells no size: its {side} is {text!r}; expected <size><width>640</width><height>480</height>"
                "</size> with those of the picture in pixels, by which boxes are checked"
            )
        sides.append(int(text))
    return sides[0], sides[1]


def _name(one: ElementTree.Element, at: str) -> str:
    name = class_name((one.findtext("name") or "").strip())
    if not name:
        raise ValueError(f"{at} has no <name>; expected that of its class")
    return name


def _corners(one: ElementTree.Element, at: str) -> list[float]:
    box = one.find("bndbox")
    if box is None:
        raise ValueError(f"{at} has no <bndbox>; expected one with {', '.join(_CORNERS)}: add it, or remove the object")
    found = []
    for corner in _CORNERS:
        text = (box.findtext(corner) or "").strip()
        try:
            found.append(float(text))
        except ValueError:
            raise ValueError(f"{at}: its {corner} is {text!r}; expected a number of pixels") from None
    return found


def _flag(one: ElementTree.Element, flag: str, at: str) -> bool:
    text = (one.findtext(flag) or "").strip() or "0"
    if text not in ("0", "1"):
        raise ValueError(f"{at}: {flag} is {text!r}; expected 0 or 1")
    return text == "1"


def tell_corners(written: Float[np.ndarray, "4"]) -> str:
    """The corners of a box as they are written.

    >>> tell_corners(np.array([1.0, 2.0, 3.5, 4.0]))
    'the box xmin 1, ymin 2, xmax 3.5, ymax 4'
    """
    return "the box " + ", ".join(
        f"{corner} {number:.10g}" if math.isfinite(number) else f"{corner} {number}"
        for corner, number in zip(_CORNERS, written.tolist(), strict=True)
    )
