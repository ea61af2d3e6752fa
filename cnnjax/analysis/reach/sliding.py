"""A window that slides over a value, and what it then reaches: convolutions, pools and padding."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from cnnjax.analysis.reach.intervals import NOWHERE, Reach


def tap_positions(outputs: int, window: int, *, stride: int, before: int, dilation: int) -> np.ndarray:
    """Where each tap (column) of a window falls at each output position (row): `j * stride - before + t * dilation`.

    >>> tap_positions(2, 3, stride=2, before=1, dilation=1).tolist()
    [[-1, 0, 1], [1, 2, 3]]
    """
    return np.arange(outputs)[:, None] * stride - before + np.arange(window)[None, :] * dilation


def slide(
    reach: Reach,
    dimension: int,
    size: int,
    outputs: int,
    *,
    window: int,
    stride: int = 1,
    before: int = 0,
    dilation: int = 1,
    base_dilation: int = 1,
) -> Reach:
    """A window of taps `dilation` apart slides along one axis of a value that has `size` elements there.

    Output j holds what taps `j * stride - before + t * dilation` see, on the axis stretched by `base_dilation`;
    taps between the stretched elements see nothing. Beyond the ends the exact reach sees nothing, and the plane
    goes on: with the value's own stride along the axis that runs along the input, else with what the ends see.
    """
    step = reach.stride if reach.axis == dimension else None
    taps = tap_positions(outputs, window, stride=stride, before=before, dilation=dilation)
    between = taps % base_dilation != 0
    taps = taps // base_dilation
    outside = (taps < 0) | (taps >= size)
    exact = between | outside
    if step is None and reach.low.shape[dimension] == 1 and not exact.all(axis=1).any():
        return reach

    def gather(
        bound: np.ndarray, empty: int, extreme: Callable, hidden: np.ndarray, beyond: Fraction | None
    ) -> np.ndarray:
        line = np.moveaxis(bound, dimension, 0)
        line = np.broadcast_to(line, (size, *line.shape[1:]))
        seen = _continued(line, taps, beyond)
        wide = (...,) + (None,) * (line.ndim - 1)
        return np.moveaxis(extreme(np.where(hidden[wide] | (abs(seen) >= NOWHERE), empty, seen), axis=1), 0, dimension)

    return Reach(
        gather(reach.low, NOWHERE, np.min, exact, None),
        gather(reach.high, -NOWHERE, np.max, exact, None),
        gather(reach.plane_low, NOWHERE, np.min, between, step),
        gather(reach.plane_high, -NOWHERE, np.max, between, step),
        reach.axis,
        reach.stride if step is None else step * stride / base_dilation,
    )


def _continued(line: np.ndarray, taps: np.ndarray, stride: Fraction | None) -> np.ndarray:
    """What taps see along the first axis, those beyond its ends as if the value went on.

    A stride of a/b repeats itself every b elements: beyond an end, the last elements that many apart are continued
    with their own difference (zero where all see the same), or with the stride where there are too few.
    """
    size = len(line)
    inside = np.clip(taps, 0, size - 1)
    if stride is None or (taps == inside).all():
        return line[inside]
    period = stride.denominator if stride.denominator <= size else 1
    beyond = taps - inside
    periods = np.sign(beyond) * -(-abs(beyond) // period)
    stand_in = taps - periods * period
    seen = line[stand_in]
    shift: np.ndarray | int = int(stride * period)
    if 2 * period <= size:
        inner = stand_in - np.sign(beyond) * period
        shift = np.sign(beyond)[(..., *(None,) * (line.ndim - 1))] * (seen - line[inner])
        empty = (abs(seen) >= NOWHERE) | (abs(line[inner]) >= NOWHERE)
        shift = np.where(empty, int(stride * period), shift)
    moved = seen + periods[(..., *(None,) * (line.ndim - 1))] * shift
    return np.where(abs(seen) >= NOWHERE, seen, moved)
