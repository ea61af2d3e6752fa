"""The integer arithmetic of sliding windows: output sizes, padding, transposes, strides that do not fit.

One axis at a time, on Python integers; nothing here touches an array.

Reference: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", sections 2 to 5.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from operator import index
from typing import Literal, NamedTuple, TypeAlias, get_args

Misfit: TypeAlias = Literal["floor", "error", "pad", "crop"]
Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]

_NAMED_PADDING = ("VALID", "SAME", "SAME_LOWER", "FULL")


class Window(NamedTuple):
    """How a window slides along one axis: `output` positions, over the (dilated) input padded by `before` and `after`.

    A negative `after` crops the input.
    """

    output: int
    before: int
    after: int


def whole(value: int, name: str, *, minimum: int = 1) -> int:
    """`value` as a Python integer.

    Raises:
        ValueError: it is not an integer, or is below `minimum`.
    """
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"{name}={value!r} is not whole; expected an integer of at least {minimum}")
    if number < minimum:
        raise ValueError(f"{name}={value!r} is too small; expected at least {minimum}")
    return number


def per_axis(value: int | Sequence[int], rank: int, name: str, *, minimum: int = 1) -> tuple[int, ...]:
    """One integer per spatial axis, from one integer for all or one for each.

    Raises:
        ValueError: the number of entries is not `rank`, or an entry is not an integer or is below `minimum`.
    """
    return _integers(value, rank, name, minimum, "axis")


def dilated_size(size: int, dilation: int) -> int:
    """Extent of a kernel, or an input, of `size` elements that stand `dilation` apart: `dilation * (size - 1) + 1`.

    Raises:
        ValueError: a number is not whole or too small.

    >>> dilated_size(3, 2)
    5
    """
    return whole(dilation, "dilation") * (whole(size, "size") - 1) + 1


def slide(
    size: int,
    window: int,
    *,
    stride: int = 1,
    padding: str | int | tuple[int, int] = "VALID",
    dilation: int = 1,
    misfit: Misfit = "floor",
    input_dilation: int = 1,
) -> Window:
    """Places a window along one axis: `output = floor((size + before + after - extent) / stride) + 1`.

    `extent` is the dilated window; with an `input_dilation`, `size` stands for the dilated input, which has
    `input_dilation - 1` zeros between its elements. "VALID" pads nothing; "SAME" pads so that
    `output = ceil(size / stride)`, the odd element going after; "SAME_LOWER" is the same with the odd element
    going before; "FULL" pads `extent - 1` on both sides.

    When the stride does not divide the padded size less the extent, `misfit` decides: "floor" leaves the
    remainder unread, "crop" removes it (the same outputs, but `after` says so), "pad" adds zeros until one more
    window fits (fewer than the stride, so that a window may be larger than the padded input), "error" raises.

    Raises:
        ValueError: the window is larger than the padded input, the stride does not fit under "error", the padding
            or the misfit has no such name, or a number is not whole or too small.

    >>> slide(227, 11, stride=4)
    Window(output=55, before=0, after=0)
    >>> slide(224, 3, stride=2, padding="SAME")
    Window(output=112, before=0, after=1)
    """
    if misfit not in get_args(Misfit):
        raise ValueError(f"misfit={misfit!r} is unknown; expected one of {', '.join(get_args(Misfit))}")
    size, window, stride = whole(size, "size"), whole(window, "window"), whole(stride, "stride")
    dilation, input_dilation = whole(dilation, "dilation"), whole(input_dilation, "input_dilation")
    extent = dilated_size(window, dilation)
    spread = dilated_size(size, input_dilation)
    before, after = _pad_amounts(spread, extent, stride, padding)
    span = spread + before + after - extent
    room = stride - 1 if misfit == "pad" else 0
    if span + room < 0:
        missing = extent - before - after - room
        raise ValueError(
            f"a window of {window}{f' (dilated to {extent})' if dilation > 1 else ''} does not fit an input of {size}"
            f"{f' (dilated to {spread})' if input_dilation > 1 else ''}"
            f"{f' padded to {spread + before + after}' if before or after else ''};"
            f" the input needs at least {-(-(missing - 1) // input_dilation) + 1}"
        )
    steps, remainder = divmod(span, stride)
    if remainder and misfit == "error":
        raise ValueError(
            f"stride {stride} does not fit: ({spread} + {before} + {after} - {extent}) / {stride} + 1 is not whole;"
            f" change the padding or pass misfit='floor', 'pad' or 'crop'"
        )
    if remainder and misfit == "pad":
        steps, after = steps + 1, after + stride - remainder
    elif remainder and misfit == "crop":
        after -= remainder
    return Window(steps + 1, before, after)


def slide_all(
    sizes: Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
    input_dilation: int | Sequence[int] = 1,
) -> tuple[Window, ...]:
    """`slide` on every spatial axis; `padding` is a name, an integer, or an integer or (before, after) per axis.

    Raises:
        ValueError: as `slide`, naming the axis; or an argument has the wrong number of entries.
    """
    rank = len(sizes)
    return _on_each_axis(
        slide,
        sizes,
        window=per_axis(window, rank, "window"),
        stride=per_axis(strides, rank, "strides"),
        padding=_paddings(padding, rank),
        dilation=per_axis(dilation, rank, "dilation"),
        misfit=(misfit,) * rank,
        input_dilation=per_axis(input_dilation, rank, "input_dilation"),
    )


def pad_all(
    sizes: Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
) -> tuple[tuple[int, int], ...]:
    """How much `padding` alone adds before and after each spatial axis, whatever the misfit.

    Raises:
        ValueError: an argument has the wrong number of entries, or one that is no padding.

    >>> pad_all((5, 5), 3, padding=(1, (0, 2)))
    ((1, 1), (0, 2))
    """
    rank = len(sizes)
    extents = map(dilated_size, per_axis(window, rank, "window"), per_axis(dilation, rank, "dilation"))
    return tuple(map(_pad_amounts, sizes, extents, per_axis(strides, rank, "strides"), _paddings(padding, rank)))


def output_size(
    size: int | Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    misfit: Misfit = "floor",
    input_dilation: int | Sequence[int] = 1,
) -> int | tuple[int, ...]:
    """Positions of a sliding window: an integer for an integer `size`, a tuple for one size per axis.

    Raises:
        ValueError: as `slide`.

    >>> output_size(32, 5)
    28
    >>> output_size((28, 28), 2, strides=2)
    (14, 14)
    """
    alone, sizes = _sizes(size)
    placed = slide_all(
        sizes,
        window,
        strides=strides,
        padding=padding,
        dilation=dilation,
        misfit=misfit,
        input_dilation=input_dilation,
    )
    return placed[0].output if alone else tuple(axis.output for axis in placed)


def slide_transposed(
    size: int,
    window: int,
    *,
    stride: int = 1,
    padding: str | int | tuple[int, int] = "VALID",
    dilation: int = 1,
    output_padding: int = 0,
) -> Window:
    """Places the window of a transposed convolution: `output = (size - 1) * stride + extent - before - after`.

    `before` and `after` are the padding of the forward correlation that this is the adjoint of: slid over an axis
    of `output` elements with them, the window stands at exactly `size` positions. Forward padding takes elements
    away here: "VALID" none, "FULL" `extent - 1` on each side, "SAME" and "SAME_LOWER" what makes
    `output = size * stride`, which a forward "SAME" maps back to `size`.

    A forward stride leaves up to `stride - 1` trailing elements unread, so that several sizes shrink to the same
    one; `output_padding` chooses among them by adding elements at the end. It is taken from `after`, which turns
    negative where the forward correlation crops, as it does for `slide` under "crop".

    The operation itself is a correlation with the reversed kernel at stride 1 over the input dilated by `stride`
    and padded by `extent - 1 - before` and `extent - 1 - after`.

    Raises:
        ValueError: nothing is left of the output, `output_padding` is neither below the stride nor below the
            dilation, or is given with "SAME", the padding has no such name, or a number is not whole or too small.

    Reference: Dumoulin and Visin (2016), section 4, relationships 8 to 14.

    >>> slide_transposed(3, 3, stride=2, padding=1)
    Window(output=5, before=1, after=1)
    >>> slide_transposed(3, 3, stride=2, padding=1, output_padding=1)
    Window(output=6, before=1, after=0)
    >>> slide(6, 3, stride=2, padding=1, misfit="crop")
    Window(output=3, before=1, after=0)
    """
    size, window, stride = whole(size, "size"), whole(window, "window"), whole(stride, "stride")
    dilation, output_padding = whole(dilation, "dilation"), whole(output_padding, "output_padding", minimum=0)
    extent = dilated_size(window, dilation)
    before, after = _pad_amounts(size * stride, extent, stride, padding)
    if isinstance(padding, str) and padding.upper().startswith("SAME"):
        if output_padding:
            raise ValueError(
                f"output_padding={output_padding} came with padding={padding!r}, whose output is size * stride;"
                f" pass output_padding=0, or the padding in integers"
            )
        after = extent - stride - before
    elif output_padding >= max(stride, dilation):
        raise ValueError(
            f"output_padding={output_padding} is too large;"
            f" it must be smaller than either stride ({stride}) or dilation ({dilation})"
        )
    else:
        after -= output_padding
    output = (size - 1) * stride + extent - before - after
    if output < 1:
        raise ValueError(
            f"padding={padding!r} leaves nothing of the output:"
            f" ({size} - 1) * {stride} + {extent} - {before} - {after} = {output}; expected at least 1, so pad less"
        )
    return Window(output, before, after)


def slide_all_transposed(
    sizes: Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    output_padding: int | Sequence[int] = 0,
) -> tuple[Window, ...]:
    """`slide_transposed` on every spatial axis, with `padding` as `slide_all` takes it.

    Raises:
        ValueError: as `slide_transposed`, naming the axis; or an argument has the wrong number of entries.
    """
    rank = len(sizes)
    return _on_each_axis(
        slide_transposed,
        sizes,
        window=per_axis(window, rank, "window"),
        stride=per_axis(strides, rank, "strides"),
        padding=_paddings(padding, rank),
        dilation=per_axis(dilation, rank, "dilation"),
        output_padding=per_axis(output_padding, rank, "output_padding", minimum=0),
    )


def transposed_size(
    size: int | Sequence[int],
    window: int | Sequence[int],
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "VALID",
    dilation: int | Sequence[int] = 1,
    output_padding: int | Sequence[int] = 0,
) -> int | tuple[int, ...]:
    """Size of a transposed convolution: an integer for an integer `size`, a tuple for one size per axis.

    `(size - 1) * stride - before - after + dilation * (window - 1) + 1 + output_padding`, or `size * stride` with
    "SAME" and "SAME_LOWER".

    Raises:
        ValueError: as `slide_transposed`.

    >>> transposed_size(6, 3, strides=2, padding=1)
    11
    >>> transposed_size((6, 6), 3, strides=2, padding=1, output_padding=1)
    (12, 12)
    """
    alone, sizes = _sizes(size)
    placed = slide_all_transposed(
        sizes, window, strides=strides, padding=padding, dilation=dilation, output_padding=output_padding
    )
    return placed[0].output if alone else tuple(axis.output for axis in placed)


def _on_each_axis(
    place: Callable[..., Window], sizes: Sequence[int], **options: Sequence[object]
) -> tuple[Window, ...]:
    placed = []
    for axis, size in enumerate(sizes):
        try:
            placed.append(place(size, **{name: values[axis] for name, values in options.items()}))
        except ValueError as error:
            raise ValueError(f"spatial axis {axis} of {tuple(sizes)}: {error}") from None
    return tuple(placed)


def _sizes(size: int | Sequence[int]) -> tuple[bool, tuple[int, ...]]:
    """Whether one integer came, and the size of each axis."""
    if isinstance(size, Iterable):
        entries = tuple(size)
        return False, per_axis(entries, len(entries), "size")
    return True, (whole(size, "size"),)


def _integers(value: int | Sequence[int], count: int, name: str, minimum: int, each: str) -> tuple[int, ...]:
    expected = f"expected one integer or {count}, one per {each}"
    try:
        values = tuple(map(index, value)) if isinstance(value, Iterable) else (index(value),) * count
    except TypeError:
        raise ValueError(f"{name}={value!r} is not whole; {expected}") from None
    if len(values) != count:
        raise ValueError(f"{name}={value!r} has {len(values)} entries; {expected}")
    if any(entry < minimum for entry in values):
        raise ValueError(f"{name}={value!r} is too small; every entry must be at least {minimum}")
    return values


def _paddings(padding: Padding, rank: int) -> Sequence[str | int | tuple[int, int]]:
    if isinstance(padding, Mapping | Set):
        raise ValueError(f"padding={padding!r} has no order; expected a name, integers, or pairs of them in a tuple")
    if isinstance(padding, str) or not isinstance(padding, Iterable):
        return (padding,) * rank
    paddings = tuple(padding)
    if len(paddings) != rank:
        raise ValueError(f"padding={padding!r} has {len(paddings)} entries; expected {rank}, one per axis")
    return paddings


def _pad_amounts(size: int, extent: int, stride: int, padding: str | int | tuple[int, int]) -> tuple[int, int]:
    if not isinstance(padding, str):
        before, after = _integers(padding, 2, "padding", 0, "side")
        return before, after
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    match padding.upper():
        case "VALID":
            return 0, 0
        case "SAME":
            return total // 2, total - total // 2
        case "SAME_LOWER":
            return total - total // 2, total // 2
        case "FULL":
            return extent - 1, extent - 1
    raise ValueError(f"padding={padding!r} is unknown; expected {', '.join(_NAMED_PADDING)} or integers")
