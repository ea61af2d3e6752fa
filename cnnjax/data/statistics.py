"""Statistics of a source's pictures."""

import numpy as np

from cnnjax.data.sources import Source


def channel_statistics(source: Source, *, limit: int = 2048) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel on the scale of 0..1, over at most `limit` evenly spaced pictures.

    A constant channel has deviation 1, so that dividing by it is harmless.

    Raises:
        ValueError: an example has no "image", or pictures differ in their channels.
    """
    chosen = np.unique(np.linspace(0, len(source) - 1, num=min(limit, len(source))).round().astype(int))
    count, total, squares = 0, 0.0, 0.0
    for index in chosen:
        example = source[int(index)]
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
    mean = np.asarray(total) / count
    deviation = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 0.0))
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    return tuple(map(float, mean)), tuple(map(float, deviation))
