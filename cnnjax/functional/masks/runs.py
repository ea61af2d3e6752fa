"""The runs of many masks as one table, and COCO's text for them: everything at once, without a loop over masks."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

# {"size": [height, width], "counts": str, bytes, or list of run lengths}
Code: TypeAlias = Mapping[str, Any]

# A number in COCO's text is written in characters of five bits: '0' + bits, + 32 where more follow.
_ZERO, _BITS, _MORE = 48, 5, 32
# More characters would be a run of 2^59 pixels.
_MOST_CHARACTERS = 12


class Runs(NamedTuple):
    """The runs of several masks, one mask after the other.

    Attributes:
        lengths: of all runs, in pixels; within a mask in turn of zeros and of ones.
        first: at which of them each mask starts, and how many there are in all.
        sizes: height and width of each mask.
    """

    lengths: Int[np.ndarray, "runs"]
    first: Int[np.ndarray, "masks_and_one"]
    sizes: Int[np.ndarray, "masks 2"]


class Intervals(NamedTuple):
    """Where the ones of several masks are: half-open intervals of pixels, counted down the columns.

    Attributes:
        starts: first pixel of each interval.
        ends: the pixel behind each.
        first: at which interval each mask starts, and how many there are in all.
    """

    starts: Int[np.ndarray, "intervals"]
    ends: Int[np.ndarray, "intervals"]
    first: Int[np.ndarray, "masks_and_one"]


class Regions(NamedTuple):
    """Several masks, ready to be compared.

    Attributes:
        where: the intervals of their ones.
        areas: their pixels.
        boxes: the smallest box around each, (x, y, width, height) in pixels; zeros for an empty mask.
        sizes: height and width of each mask.
    """

    where: Intervals
    areas: Int[np.ndarray, "masks"]
    boxes: Float[np.ndarray, "masks 4"]
    sizes: Int[np.ndarray, "masks 2"]


def read_runs(codes: Sequence[Code], name: str = "rle") -> Runs:
    """Reads the codes of any number of masks.

    Raises:
        ValueError: a code has no size or counts, its counts are not COCO's text or lengths, or its runs do not add up
            to its size. The message says which code it is, under the `name` of the argument.
    """
    sizes = _sizes(codes, name)
    texts = [_text(code["counts"], name, place) for place, code in enumerate(codes)]
    bounds = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
    lengths, first = _parse(b"".join(texts), bounds, name)
    # Summed as a difference, so that masks without runs count.
    totals = np.diff(np.concatenate([[0], np.cumsum(lengths)])[first])
    wrong = np.flatnonzero(totals != sizes[:, 0] * sizes[:, 1])
    negative = np.searchsorted(first, np.flatnonzero(lengths < 0), side="right") - 1
    if negative.size:
        raise ValueError(f"{name} {negative[0]}: a run has a negative length; the counts are damaged or no COCO text")
    if wrong.size:
        height, width = sizes[wrong[0]]
        raise ValueError(
            f"{name} {wrong[0]}: runs of {totals[wrong[0]]} pixels in all came, {height * width} were expected for the"
            f" size [{height}, {width}]; the size is [height, width], or the counts are of another mask"
        )
    return Runs(lengths, first, sizes)


def write_codes(runs: Runs) -> list[dict[str, Any]]:
    """COCO's dictionary of every mask, with text."""
    values = runs.lengths.copy()
    places = np.arange(len(values)) - np.repeat(runs.first[:-1], np.diff(runs.first))
    later = np.flatnonzero(places > 2)
    values[later] -= runs.lengths[later - 2]
    characters, bounds = _characters(values)
    text = characters.tobytes().decode("ascii")
    edges = bounds[runs.first]
    return [
        {"size": size, "counts": text[begin:end]}
        for size, begin, end in zip(runs.sizes.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]


def code_of_changes(changes: Int[np.ndarray, "changes"], height: int, width: int) -> dict[str, Any]:
    """The code of one mask, from the pixels, in rising order, at which it changes from zeros to ones or back."""
    lengths = np.diff(changes.astype(np.int64), prepend=0, append=height * width)
    return write_codes(Runs(lengths, np.array([0, len(lengths)]), np.array([[height, width]])))[0]


def intervals(runs: Runs) -> Intervals:
    """Where the ones of every mask are. Runs without pixels are left out."""
    total = np.concatenate([[0], np.cumsum(runs.lengths)])
    there = _odd(runs.first) & (runs.lengths > 0)
    ones = np.flatnonzero(there)
    first = np.searchsorted(ones, runs.first)
    before = np.repeat(total[runs.first[:-1]], np.diff(first))
    ends = total[ones + 1] - before
    return Intervals(ends - runs.lengths[ones], ends, first)


def regions(runs: Runs) -> Regions:
    """Where every mask is, how large, and the smallest box around it."""
    where = intervals(runs)
    areas = np.diff(np.concatenate([[0], np.cumsum(where.ends - where.starts)])[where.first])
    boxes = np.zeros((len(runs.sizes), 4), np.int64)
    counts = np.diff(where.first)
    there = counts > 0
    if there.any():
        height = np.repeat(runs.sizes[:, 0], counts)
        left, top = np.divmod(where.starts, height)
        right, bottom = np.divmod(where.ends - 1, height)
        # A run that goes on in the next column has pixels at the bottom of one and at the top of the other.
        crosses = left < right
        top, bottom = np.where(crosses, 0, top), np.where(crosses, height - 1, bottom)
        first = where.first[:-1][there]
        low = [np.minimum.reduceat(edge, first) for edge in (left, top)]
        high = [np.maximum.reduceat(edge, first) + 1 for edge in (right, bottom)]
        boxes[there] = np.stack([*low, high[0] - low[0], high[1] - low[1]], axis=-1)
    return Regions(where, areas, boxes.astype(np.float64), runs.sizes)


def _sizes(codes: Sequence[Code], name: str) -> Int[np.ndarray, "masks 2"]:
    for place, code in enumerate(codes):
        if "size" not in code or "counts" not in code:
            key = "counts" if "size" in code else "size"
            raise ValueError(f'{name} {place}: holds no "{key}"; expected {{"size": [height, width], "counts": …}}')
        if len(code["size"]) != 2:
            raise ValueError(f"{name} {place}: size {code['size']!r} came, two numbers were expected: [height, width]")
    sizes = np.array([tuple(code["size"]) for code in codes]).reshape(-1, 2)
    if sizes.size and (sizes.dtype.kind not in "iu" or sizes.min() < 0):
        wrong = sizes if sizes.dtype.kind not in "iu" else sizes[(sizes < 0).any(axis=1)]
        raise ValueError(f"{name}: a size of {wrong[0].tolist()} came, whole numbers were expected: [height, width]")
    return sizes.astype(np.int64)


def _text(counts: Any, name: str, place: int) -> bytes:
    """Counts as COCO's text, whichever way they come."""
    if isinstance(counts, bytes):
        return counts
    if isinstance(counts, str):
        try:
            return counts.encode("ascii")
        except UnicodeEncodeError:
            raise ValueError(f"{name} {place}: the counts hold characters that are not ASCII") from None
    lengths = np.asarray(counts)
    if lengths.ndim != 1 or (lengths.size and lengths.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} {place}: counts of {type(counts).__name__} came; expected COCO's text as str or bytes, or a list"
            " of whole run lengths"
        )
    lengths = lengths.astype(np.int64)
    runs = Runs(lengths, np.array([0, len(lengths)]), np.zeros((1, 2), np.int64))
    return write_codes(runs)[0]["counts"].encode("ascii")


def _odd(first: Int[np.ndarray, "masks_and_one"]) -> Bool[np.ndarray, "runs"]:
    """Whether the place of every run within its mask, from 0, is odd: the runs of ones."""
    odd = np.zeros(first[-1], bool)
    odd[1::2] = True
    return odd ^ np.repeat(first[:-1] % 2 == 1, np.diff(first))


def _parse(
    text: bytes, bounds: Int[np.ndarray, "masks_and_one"], name: str
) -> tuple[Int[np.ndarray, "runs"], Int[np.ndarray, "masks_and_one"]]:
    """Run lengths of the texts of several masks that stand one after the other, and at which run each mask starts."""
    characters = np.frombuffer(text, np.uint8)
    _refuse(characters < _ZERO, bounds, name, "a character below '0'")
    _refuse(characters >= _ZERO + 2 * _MORE, bounds, name, "a character above 'o'")
    codes = characters - np.uint8(_ZERO)
    final = codes < _MORE
    there = np.flatnonzero(np.diff(bounds))
    cut = np.zeros(len(codes), bool)
    cut[bounds[1:][there] - 1] = True
    _refuse(cut & ~final, bounds, name, "a number that is cut off at the end")
    ends = np.flatnonzero(final)
    starts = np.concatenate([[-1], ends[:-1]])[: len(ends)] + 1
    count = ends - starts + 1
    if len(count) and count.max() > _MOST_CHARACTERS:
        _refuse(np.isin(np.arange(len(codes)), ends[count > _MOST_CHARACTERS]), bounds, name, "a number without end")
    values = (codes[starts] & (_MORE - 1)).astype(np.int64)
    for place in range(1, count.max(initial=1)):
        longer = np.flatnonzero(count > place)
        values[longer] += (codes[starts[longer] + place] & (_MORE - 1)).astype(np.int64) << (_BITS * place)
    # The highest bit of the last character is the sign.
    below = np.flatnonzero(codes[ends] & (_MORE >> 1))
    values[below] -= 1 << (_BITS * count[below])
    first = np.concatenate([[0], np.cumsum(final)])[bounds]
    return _summed(values, first), first


def _summed(values: Int[np.ndarray, "runs"], first: Int[np.ndarray, "masks_and_one"]) -> Int[np.ndarray, "runs"]:
    """Run lengths from what they differ by from the run two before, which holds from a mask's fourth run on."""
    odd = _odd(first)
    even = ~odd
    even[first[:-1][np.diff(first) > 0]] = False
    for chain in (odd, even):
        chosen = np.flatnonzero(chain)
        bounds = np.searchsorted(chosen, first)
        sums = np.concatenate([[0], np.cumsum(values[chosen])])
        values[chosen] = sums[1:] - np.repeat(sums[bounds[:-1]], np.diff(bounds))
    return values


def _characters(
    values: Int[np.ndarray, "numbers"],
) -> tuple[np.ndarray, Int[np.ndarray, "numbers_and_one"]]:
    """Characters of all numbers as bytes, and where each number starts."""
    magnitude = np.where(values < 0, ~values, values)
    count = np.ones(len(values), np.int64)
    for place in range(1, _MOST_CHARACTERS):
        longer = magnitude >= 1 << (_BITS * place - 1)
        if not longer.any():
            break
        count += longer
    bounds = np.concatenate([[0], np.cumsum(count)])
    characters = np.empty(bounds[-1], np.uint8)
    for place in range(count.max(initial=0)):
        longer = count > place
        digits = (values[longer] >> (_BITS * place)) & (_MORE - 1)
        characters[bounds[:-1][longer] + place] = digits + np.where(count[longer] > place + 1, _MORE, 0) + _ZERO
    return characters, bounds


def _refuse(
    wrong: Bool[np.ndarray, "characters"], bounds: Int[np.ndarray, "masks_and_one"], name: str, what: str
) -> None:
    if wrong.any():
        place = int(np.searchsorted(bounds, np.argmax(wrong), side="right")) - 1
        raise ValueError(f"{name} {place}: {what} came in the counts, which are then no text of COCO's run-length code")
