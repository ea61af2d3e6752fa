"""Boxes of random-resized-crop on the host: for pictures of different sizes, which no jitted function could take."""

import hashlib
import math
import struct
from dataclasses import dataclass

from cnnjax.data.pictures.decode import Box

_TRIALS = 10


@dataclass(frozen=True)
class RandomCrop:
    """Inception's rule: a box of a random share of the area and a random shape, somewhere in the picture.

    Attributes:
        area: The least and the largest share of the picture's area; drawn uniformly.
        aspect: The least and the largest width / height; drawn uniformly in its logarithm.

    Raises:
        ValueError: If a pair is not in order, an area not above 0 and at most 1, or an aspect not above 0.

    Reference: Szegedy et al., "Going deeper with convolutions" (2015), section 6.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area is {self.area}; expected 0 < least <= largest <= 1, shares of the picture's area")
        if not 0 < self.aspect[0] <= self.aspect[1] < math.inf:
            raise ValueError(f"aspect is {self.aspect}; expected 0 < least <= largest, width / height")


def draw_box(height: int, width: int, *, seed: int, place: int, rule: RandomCrop | None = None) -> Box:
    """Draws the box for the example at a place of the training stream.

    It is a function of the arguments alone, on every platform and under every NumPy. Of ten boxes drawn, the first that
    fits into the picture is taken, rounded to whole pixels; if none fits, the largest centred one whose aspect is
    allowed.

    Args:
        height: The picture's height in pixels.
        width: The picture's width in pixels.
        seed: Decides, together with the place, what is drawn; 0 or more.
        place: The example's place in the stream of all epochs; 0 or more.
        rule: What boxes are drawn; by default Inception's.

    Raises:
        ValueError: If the picture has no pixels, or the seed or the place is negative.
    """
    if min(height, width) < 1:
        raise ValueError(f"the picture is {height}x{width}; expected a height and a width of at least 1")
    for name, value in (("seed", seed), ("place", place)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected 0 or more")
    rule = RandomCrop() if rule is None else rule
    least, largest = (math.log(bound) for bound in rule.aspect)
    for trial in range(_TRIALS):
        words = _words(seed, place, trial)
        area = height * width * (rule.area[0] + words[0] * 2.0**-64 * (rule.area[1] - rule.area[0]))
        aspect = math.exp(least + words[1] * 2.0**-64 * (largest - least))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = words[2] * (height - rows + 1) >> 64, words[3] * (width - columns + 1) >> 64
            return Box(top, left, rows, columns)
    rows = min(height, max(1, round(width / rule.aspect[0])))
    columns = min(width, max(1, round(height * rule.aspect[1])))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


def _words(seed: int, place: int, trial: int) -> tuple[int, ...]:
    """Four random words of 64 bits; a hash is as stable as NumPy's bit generators and is set up fifty times faster."""
    return struct.unpack("<4Q", hashlib.blake2b(f"{seed} {place} {trial}".encode(), digest_size=32).digest())
