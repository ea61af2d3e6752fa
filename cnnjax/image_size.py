"""The size of pictures as a setting: one number, or height and width. Importing this imports no JAX."""

import re
from collections.abc import Sequence
from numbers import Integral
from typing import Annotated, TypeAlias

from tyro.constructors import PrimitiveConstructorSpec

# Height and width in pixels.
Size: TypeAlias = tuple[int, int]


def height_and_width(image_size: int | Sequence[int] | None) -> Size | None:
    """Height and width of a size that is given as one number, for squares, or as both; None for None.

    Raises:
        ValueError: it is something else.

    >>> height_and_width(32), height_and_width((40, 64))
    ((32, 32), (40, 64))
    """
    if image_size is None:
        return None
    sides = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    sound = all(isinstance(side, Integral) and not isinstance(side, bool) and side > 0 for side in sides)
    if len(sides) != 2 or not sound:
        raise ValueError(
            f"image_size={image_size!r}; expected a number of pixels above 0, or height and width: (40, 64), on the"
            " command line 40x64"
        )
    return int(sides[0]), int(sides[1])


def joined_sizes(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command in which "--image-size 40 64" is "--image-size 40x64".

    >>> joined_sizes(["--image-size", "40", "64", "resnet20"])
    ['--image-size', '40x64', 'resnet20']
    """
    joined: list[str] = []
    for argument in arguments:
        before = joined[-2:]
        if len(before) == 2 and before[0] in ("--image-size", "--image_size") and argument.isdecimal():
            joined[-1] += f"x{argument}"
        else:
            joined.append(argument)
    return joined


def _parse(arguments: list[str]) -> int | Size | None:
    (text,) = arguments
    if text == "None":
        return None
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise ValueError(f"{text!r}; expected a number of pixels, such as 224, or height x width, such as 40x64")
    height, _, width = text.partition("x")
    return (int(height), int(width)) if width else int(height)


# One word on the command line, so that what follows is not taken for a part of it.
ImageSize: TypeAlias = Annotated[
    int | Size | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="N|HxW",
        instance_from_str=_parse,
        is_instance=lambda value: value is None or isinstance(value, int | tuple),
        str_from_instance=lambda value: ["x".join(map(str, value)) if isinstance(value, tuple) else str(value)],
    ),
]
