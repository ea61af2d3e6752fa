"""The integer arithmetic of sliding windows: output sizes, padding, and what to do when the stride does not fit.

One axis at a time, on Python integers; nothing here touches an array.

Reference: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", section 2.
"""

from collections.abc import Iterable, Sequence
from operator import index
from typing import Literal, NamedTuple, TypeAlias, get_args

Misfit: TypeAlias = Literal["floor", "error", "pad", "crop"]
Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]

_NAMED_PADDING = ("VALID", "SAME", "FULL")


class Window(NamedTuple):
    """How a window slides along one axis: `output` positions, over the input padded by `before` and `after`.

    A negative `after` crops the input.
    """

    output: int
    before: int
    after: int


def per_axis(value: int | Sequence[int], rank: int, name: str, *, minimum: int = 1) -> tuple[int, ...]:
    """One integer per spatial axis, from one integer for all or one for each.

    Raises:
        ValueError: the number of entries is not `rank`, or an entry is below `minimum`.
    """
    try:
        values = tuple(map(index, value)) if isinstance(value, Iterable) else (index(value),) * rank
    except TypeError:
        raise ValueError(f"{name}={value!r} is not whole; expected one integer or {rank}, one per axis") from None
    if len(values) != rank:
        raise ValueError(f"{name}={value!r} has {len(values)} entries; expected one integer or {rank}, one per axis")
    if any(entry < minimum for entry in values):
        raise ValueError(f"{name}={value!r} is too small; every entry must be at least {minimum}")
    return values


def dilated_size(size: int, dilation: int) -> int:
    """Extent of a kernel of `size` taps that stand `dilation` apart: `dilation * (size - 1) + 1`.

    >>> dilated_size(3, 2)
    5
    """
    return dilation * (size - 1) + 1


def slide(
    size: int,
    window: int,
    *,
    stride: int = 1,
    padding: str | int | tuple[int, int] = "VALID",
    dilation: int = 1,
    misfit: Misfit = "floor",
) -> Window:
    """Places a window along one axis: `output = floor((size + before + after - extent) / stride) + 1`.

    `extent` is the dilated window. "VALID" pads nothing; "SAME" pads so that `output = ceil(size / stride)`,
    the odd element going after; "FULL" pads `extent - 1` on both sides.

    When the stride does not divide the padded size less the extent, `misfit` decides: "floor" leaves the
    remainder unread, "crop" removes it (the same outputs, but `after` says so), "pad" adds zeros until one more
    window fits, "error" raises.

    Raises:
        ValueError: the window is larger than the padded input, the stride does not fit under "error", or a number
            is not whole or too small.

    >>> slide(227, 11, stride=4)
    Window(output=55, before=0, after=0)
    >>> slide(224, 3, stride=2, padding="SAME")
    Window(output=112, before=0, after=1)
    """
    if misfit not in get_args(Misfit):
        raise ValueError(f"misfit={misfit!r} is unknown; expected one of {', '.join(get_args(Misfit))}")
    for name, value in (("size", size), ("window", window), ("stride", stride), ("dilation", dilation)):
        per_axis(value, 1, name)
    extent = dilated_size(window, dilation)
    before, after = _pad_amounts(size, extent, stride, padding)
    span = size + before + after - extent
    if span < 0:
        raise ValueError(
            f"a window of {window}{f' (dilated to {extent})' if dilation > 1 else ''} does not fit an input of {size}"
            f"{f' padded to {size + before + after}' if before or after else ''};"
            f" the input needs at least {extent - before - after}"
        )
    steps, remainder = divmod(span, stride)
    if remainder and misfit == "error":
        raise ValueError(
            f"stride {stride} does not fit: ({size} + {before} + {after} - {extent}) / {stride} + 1 is not whole;"
            f" change the padding or pass misfit='floor', 'pad' or 'crop'"
        )
    if remainder and misfit == "pad":
        steps, after = steps + 1, after + stride - remainder
    elif remainder and misfit == "crop":
        after -= remainder
    return Window(steps + 1, before, after)


def slide_all(
    sizes: Sequence[int],
    window: Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
) -> tuple[Window, ...]:
    """`slide` on every spatial axis; `padding` is a name, an integer, or an integer or (before, after) per axis.

    Raises:
        ValueError: as `slide`, naming the axis; or an argument has the wrong number of entries.
    """
    rank = len(sizes)
    strides = per_axis(strides, rank, "strides")
    dilation = per_axis(dilation, rank, "dilation")
    window = per_axis(window, rank, "window")
    paddings = padding if isinstance(padding, Sequence) and not isinstance(padding, str) else (padding,) * rank
    if len(paddings) != rank:
        raise ValueError(f"padding={padding!r} has {len(paddings)} entries; expected {rank}, one per axis")
    placed = []
    for axis in range(rank):
        try:
            placed.append(
                slide(
                    sizes[axis],
                    window[axis],
                    stride=strides[axis],
                    padding=paddings[axis],
                    dilation=dilation[axis],
                    misfit=misfit,
                )
            )
        except ValueError as error:
            raise ValueError(f"spatial axis {axis} of {tuple(sizes)}: {error}") from None
    return tuple(placed)


def output_size(
    size: int | Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
) -> int | tuple[int, ...]:
    """Positions of a sliding window: an integer for an integer `size`, a tuple for one size per axis.

    Raises:
        ValueError: as `slide`.

    >>> output_size(32, 5)
    28
    >>> output_size((28, 28), 2, strides=2)
    (14, 14)
    """
    alone = not isinstance(size, Iterable)
    sizes = per_axis(size, 1 if alone else len(tuple(size)), "size")
    placed = slide_all(
        sizes,
        per_axis(window, len(sizes), "window"),
        strides=strides,
        padding=padding,
        dilation=dilation,
        misfit=misfit,
    )
    return placed[0].output if alone else tuple(axis.output for axis in placed)


def _pad_amounts(size: int, extent: int, stride: int, padding: str | int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(padding, str):
        match padding.upper():
            case "VALID":
                return 0, 0
            case "SAME":
                total = max((-(-size // stride) - 1) * stride + extent - size, 0)
                return total // 2, total - total // 2
            case "FULL":
                return extent - 1, extent - 1
        raise ValueError(f"padding={padding!r} is unknown; expected {', '.join(_NAMED_PADDING)} or integers")
    before, after = per_axis(padding, 2, "padding", minimum=0)
    return before, after
