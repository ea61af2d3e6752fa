"""Statistics of a source's pictures."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np

from cnnjax.cache import read_cache, write_cache
from cnnjax.data.batches.progress import counted
from cnnjax.data.pictures.pixels import Kind, Pixels, kind_of
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.data.sources.source import Source, read_example

# Raised when the same pictures would give other numbers, so that kept ones are not taken for them.
_VERSION = 2


def channel_statistics(source: Source, *, limit: int = 2048, skip_unreadable: bool = False) -> Pixels:
    """Type, range, and mean and standard deviation of every channel, over at most `limit` evenly spaced pictures.

    Every pixel counts the same, so large pictures count for more. A constant channel has deviation 1, so that
    dividing by it is harmless. Of a source with a fingerprint they are worked out once, and kept in the cache folder.

    Args:
        source: Pictures, encoded or not, of any sizes.
        limit: The largest number of pictures.
        skip_unreadable: Whether pictures that cannot be read are left out, instead of being an error.

    Raises:
        ValueError: An example cannot be read or has no "image", is neither bytes nor finite floats, or pictures differ
            in their channels or their type.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; expected at least 1")
    mark = source.info.fingerprint
    key = fingerprint(mark, str(limit), str(skip_unreadable), str(_VERSION))
    name = f"statistics-{key[:32]}.json" if mark else ""
    kept = _parse(read_cache(name)) if name else None
    if kept is not None:
        return kept
    measured = _measure(source, limit, skip_unreadable)
    if name:
        write_cache(name, json.dumps(dataclasses.asdict(measured)).encode())
    return measured


def _measure(source: Source, limit: int, skip_unreadable: bool) -> Pixels:
    chosen = np.unique(np.linspace(0, len(source) - 1, num=min(limit, len(source))).round().astype(int))
    known, kind, count, total, squares, low, high = "", "uint8", 0, 0.0, 0.0, np.inf, -np.inf
    for index in counted(chosen.tolist(), f"measuring pictures of {source.info.name} ({source.info.split})"):
        try:
            example = read_example(source, int(index))
        except ValueError:
            if skip_unreadable:
                continue
            raise
        image, kind = _picture(example, f"example {index} of {source.info.name} ({source.info.split})")
        found = f"{image.shape[-1]} channels of {kind}"
        if known not in ("", found):
            raise ValueError(
                f"{source.info.name} mixes pictures of {known} and of {found} (example {index}); bring them to one"
            )
        known = found
        low, high = min(low, float(image.min())), max(high, float(image.max()))
        pixels = image.reshape(-1, image.shape[-1]).astype(np.float64) / (255 if image.dtype == np.uint8 else 1)
        count += len(pixels)
        total, squares = total + pixels.sum(axis=0), squares + (pixels**2).sum(axis=0)
    if not count:
        raise ValueError(
            f"none of {len(chosen)} pictures of {source.info.name} ({source.info.split}) has pixels that can be read; "
            "expected one at least"
        )
    mean = np.asarray(total) / count
    deviation = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 0.0))
    low, high = (0.0, 255.0) if kind == "uint8" else (low, high)
    largest = 1.0 if kind == "uint8" else max(-low, high)
    deviation = np.where(deviation > 1e-6 * largest, deviation, 1.0)
    return Pixels(kind, low, high, tuple(map(float, mean)), tuple(map(float, deviation)))


def _picture(example: Mapping[str, np.ndarray], which: str) -> tuple[np.ndarray, Kind]:
    """The pixels of an example, if they are those of a picture, and whether they are bytes."""
    if "image" not in example:
        raise ValueError(f"{which} has no element 'image', only {', '.join(example)}")
    image = example["image"]
    if np.ndim(image) != 3 or not np.size(image):
        raise ValueError(
            f"{which} has the shape {np.shape(image)}; expected height x width x channels: images[..., None] where"
            " pictures are grey"
        )
    kind = kind_of(f"the pixels of {which}", image)
    return image, kind


def _parse(data: bytes | None) -> Pixels | None:
    """The numbers of a kept file, or None if it does not hold what was written."""
    try:
        kept = json.loads(data or b"")
        mean, deviation = (tuple(float(value) for value in kept[name]) for name in ("mean", "deviation"))
        return Pixels(kept["dtype"], float(kept["low"]), float(kept["high"]), mean, deviation)
    except (ValueError, TypeError, KeyError):
        return None
