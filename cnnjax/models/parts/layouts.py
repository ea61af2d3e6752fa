"""Where SSD looks: its default boxes, and the layers that make the maps which a trunk does not have."""

from dataclasses import dataclass, field
from typing import NamedTuple

from cnnjax.functional.boxes import SSD300, SSD512, DefaultBoxes


class Extra(NamedTuple):
    """A 1x1 convolution and one that makes the map smaller, both rectified.

    Attributes:
        narrow: channels of the first.
        wide: of the second.
        kernel_size: of the second.
        strides: of the second.
        padding: of the second.
    """

    narrow: int
    wide: int
    kernel_size: int = 3
    strides: int = 2
    padding: int = 1


@dataclass(frozen=True)
class Layout:
    """Where SSD looks: its default boxes, and the layers that make the maps which the trunk does not have.

    Attributes:
        boxes: maps, strides and boxes; the trunk has the maps of the first two.
        extras: what makes each of the other maps from the one before.
    """

    boxes: DefaultBoxes
    extras: tuple[Extra, ...] = field(default=())

    def __post_init__(self) -> None:
        if len(self.extras) != len(self.boxes.maps) - 2:
            raise ValueError(f"{len(self.extras)} extras came for {len(self.boxes.maps)} maps; expected two less")


_HALVING, _VALID = Extra(128, 256), Extra(128, 256, strides=1, padding=0)
OF_300 = Layout(SSD300, (Extra(256, 512), _HALVING, _VALID, _VALID))
OF_512 = Layout(SSD512, (Extra(256, 512), _HALVING, _HALVING, _HALVING, Extra(128, 256, 4, 1, 1)))

# Boxes of 0.1 to 1 of the side of small pictures.
OF_128 = Layout(
    DefaultBoxes(
        128,
        (16, 8, 4, 2, 1),
        (8, 16, 32, 64, 128),
        (13, 26, 48, 70, 92),
        (26, 48, 70, 92, 115),
        ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,)),
    ),
    (Extra(32, 64), Extra(32, 64), Extra(32, 64)),
)
