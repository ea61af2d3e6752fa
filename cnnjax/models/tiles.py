"""Pictures of any size through a net in tiles that overlap, so that each pixel is seen with what is around it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from cnnjax.models.parts.architecture import Architecture, Tiling
from cnnjax.models.registry import Model


def tiling_of(model: Model, side: int) -> Tiling:
    """Tiles for a net whose outputs are of pixels.

    Those of a net with `exact_tiles`, such as U-Net, are exact: together they are what the whole picture gives. Other
    nets see zeros around each tile, which a margin of a quarter of its side keeps away from most of what is used.

    Args:
        model: the net.
        side: of the part of a picture that one tile is for, or of a tile of a padded net, at least.
    """
    if isinstance(model, Architecture) and (exact := model.exact_tiles(side)) is not None:
        return exact
    grid = max((stage.stride for stage in model.stages), default=1) if isinstance(model, Architecture) else 1
    side = -(-side // grid) * grid
    margin = side // 4 // grid * grid
    return Tiling(model, margin, grid, side)


def apply_in_tiles(
    function: Callable[[Float[np.ndarray, "tiles side side channels"]], Any],
    picture: Float[np.ndarray, "height width channels"],
    tiling: Tiling,
    *,
    batch_size: int = 8,
) -> Float[np.ndarray, "height width outputs"]:
    """What a function of pictures gives at every pixel of one picture, computed tile by tile on mirrored borders.

    All calls are of one shape, whatever the picture's size. Neighbouring tiles advance by the largest multiple of the
    grid that leaves no gap: for the paper's U-Net, whose tiles of 572 pixels give 388, by 384. At 388 pools would fall
    on other pixels than in the whole picture, and the outputs differ.

    Args:
        function: gives outputs of its tiles' size, or of that less the margins; compiled, it is so once.
        picture: of any size.
        tiling: that of the net.
        batch_size: tiles that are computed at once.

    Returns:
        The outputs, of the picture's size.

    Raises:
        ValueError: the tiles are no larger than their margins, or the function gives outputs of another size.

    Reference: Ronneberger et al. (2015), "U-Net", section 2, figure 2.
    """
    _, margin, grid, side = tiling
    inner = side - 2 * margin
    step = inner // grid * grid
    if step < 1:
        raise ValueError(
            f"tiles of {side} pixels with a margin of {margin} leave {inner}, and advance by multiples of {grid};"
            f" expected {2 * margin + grid} pixels at least"
        )
    height, width = picture.shape[:2]
    starts = [range(0, max(length - inner + step, 1), step) for length in (height, width)]
    around = [
        (margin, along[-1] + inner - length + margin) for along, length in zip(starts, (height, width), strict=True)
    ]
    padded = np.pad(picture, [*around, (0, 0)], mode="reflect")
    corners = [(top, left) for top in starts[0] for left in starts[1]]
    whole: np.ndarray | None = None
    for first in range(0, len(corners), batch_size):
        some = corners[first : first + batch_size]
        # Filled up, so that one program serves all.
        filled = [*some, *[some[0]] * (min(batch_size, len(corners)) - len(some))]
        tiles = np.stack([padded[top : top + side, left : left + side] for top, left in filled])
        outputs = np.asarray(jax.device_get(function(tiles)))
        sides = outputs.shape[1:3]
        if sides == (side, side):
            outputs = outputs[:, margin : side - margin, margin : side - margin]
        elif sides != (inner, inner):
            raise ValueError(
                f"tiles of {side}x{side} gave outputs of {sides[0]}x{sides[1]}; expected {side}x{side}, or"
                f" {inner}x{inner} without the margins"
            )
        if whole is None:
            whole = np.zeros((starts[0][-1] + inner, starts[1][-1] + inner, outputs.shape[-1]), outputs.dtype)
        for (top, left), output in zip(some, outputs, strict=False):
            whole[top : top + inner, left : left + inner] = output
    return np.zeros((height, width, 0)) if whole is None else whole[:height, :width]
