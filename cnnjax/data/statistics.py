"""Statistics of a source's pictures."""

import json
import math

import numpy as np

from cnnjax.data.cache import read_cache, write_cache
from cnnjax.data.fingerprint import fingerprint
from cnnjax.data.progress import counted
from cnnjax.data.sources import Source, read_example

Channels = tuple[tuple[float, ...], tuple[float, ...]]

# Raised when the same pictures would give other numbers, so that kept ones are not taken for them.
_VERSION = 1


def channel_statistics(source: Source, *, limit: int = 2048, skip_unreadable: bool = False) -> Channels:
    """Mean and standard deviation of every channel on the scale of 0..1, over at most `limit` evenly spaced pictures.

    Every pixel counts the same, so large pictures count for more. A constant channel has deviation 1, so that
    dividing by it is harmless. Of a source with a fingerprint they are worked out once, and kept in the cache folder.

    Args:
        source: Pictures, encoded or not, of any sizes.
        limit: The largest number of pictures.
        skip_unreadable: Whether pictures that cannot be read are left out, instead of being an error.

    Raises:
        ValueError: An example cannot be read or has no "image", or pictures differ in their channels.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1")
    mark = source.info.fingerprint
    key = fingerprint(mark, str(limit), str(skip_unreadable), str(_VERSION))
    name = f"statistics-{key[:32]}.json" if mark else ""
    kept = _parse(read_cache(name)) if name else None
    if kept is not None:
        return kept
    mean, deviation = _measure(source, limit, skip_unreadable)
    if name:
        write_cache(name, json.dumps({"mean": mean, "deviation": deviation}).encode())
    return mean, deviation


def _measure(source: Source, limit: int, skip_unreadable: bool) -> Channels:
    chosen = np.unique(np.linspace(0, len(source) - 1, num=min(limit, len(source))).round().astype(int))
    count, total, squares = 0, 0.0, 0.0
    for index in counted(chosen.tolist(), f"measuring pictures of {source.info.name} ({source.info.split})"):
        try:
            example = read_example(source, int(index))
        except ValueError:
            if skip_unreadable:
                continue
            raise
        if "image" not in example:
            raise ValueError(f"{source.info.name} has no element 'image', only {', '.join(example)}")
        image = example["image"]
        if count and image.shape[-1] != np.size(total):
            raise ValueError(
                f"{source.info.name} mixes pictures of {np.size(total)} and {image.shape[-1]} channels"
                f" (example {index}); bring them to one"
            )
        pixels = image.reshape(-1, image.shape[-1]) / 255.0
        count += len(pixels)
        total, squares = total + pixels.sum(axis=0), squares + (pixels**2).sum(axis=0)
    if not count:
        raise ValueError(
            f"none of {len(chosen)} pictures of {source.info.name} ({source.info.split}) has pixels that can be read; "
            "expected one at least"
        )
    mean = np.asarray(total) / count
    deviation = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 0.0))
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    return tuple(map(float, mean)), tuple(map(float, deviation))


def _parse(data: bytes | None) -> Channels | None:
    """The numbers of a kept file, or None if it does not hold what was written."""
    try:
        kept = json.loads(data or b"")
        mean, deviation = (tuple(float(value) for value in kept[name]) for name in ("mean", "deviation"))
    except (ValueError, TypeError, KeyError):
        return None
    sound = len(mean) == len(deviation) > 0 and all(map(math.isfinite, (*mean, *deviation))) and min(deviation) > 0
    return (mean, deviation) if sound else None
