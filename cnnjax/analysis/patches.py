"""What units respond to: the patches that activate them most, cut out by their receptive field; nearest examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from cnnjax.analysis.inputs import as_pictures, check_finite
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.receptive_field import value_and_field
from cnnjax.analysis.tracing import trace_call
from cnnjax.view.result import Figure, Result
from cnnjax.view.visible import scale_of, visible


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of a picture: of which example, where its unit is, its value, and the pixels, grey beyond the picture.

    `box` is first and last pixel per axis.
    """

    channel: int
    example: int
    position: tuple[int, ...]
    value: float
    box: tuple[tuple[int, int], ...]
    pixels: np.ndarray


@dataclass(frozen=True, eq=False)
class TopPatches(Result):
    """The patches that activate each channel of a layer most, strongest first."""

    layer: str
    patches: tuple[Patch, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per patch."""
        return [
            {
                "channel": patch.channel,
                "example": patch.example,
                "position": ",".join(map(str, patch.position)),
                "value": patch.value,
                "pixels": " ".join(f"{low}..{high}" for low, high in patch.box),
            }
            for patch in self.patches
        ]

    def draw(self) -> Figure:
        """A line of patches for each channel."""
        from cnnjax.view import plots

        shown, note = visible([patch.pixels for patch in self.patches])
        tiles = [
            plots.Tile(pixels, f"channel {patch.channel}: {patch.value:.3g}\nexample {patch.example}")
            for pixels, patch in zip(shown, self.patches, strict=True)
        ]
        per_channel = sum(patch.channel == self.patches[0].channel for patch in self.patches)
        size = "x".join(map(str, self.patches[0].pixels.shape[:2]))
        title = f"{self.layer}: patches of {size} pixels that activate a channel most{note and f' ({note})'}"
        return plots.pictures(tiles, title=title, columns=per_channel)


def top_patches(
    net: Callable[..., Any],
    images: Any,
    *,
    layer: str | None = None,
    channels: Sequence[int] | None = None,
    count: int = 8,
) -> TopPatches:
    """The `count` pictures on which each channel of a layer has its largest value, cut out around that unit.

    Args:
        net: `models.bind(model, variables)`, a trained run, or any function of pictures.
        images: the pictures, (batch, height, width, colours), as floats, or bytes, which become floats from 0 to 1.
        layer: whose units, by name; the net's output where left out.
        channels: which; the first eight where left out.
        count: patches for each channel, from as many pictures.

    Raises:
        ValueError: there is no such layer or channel; the layer has no rows and columns along those of the pictures.
    """
    images = as_pictures(images, axes=4)
    program = trace_call(net, images)
    value, field = value_and_field(program, layer)
    field.check_rows_and_columns()
    (maps,) = jax.jit(lambda pictures: evaluate(program, [pictures], [value]))(images)
    maps, images = np.asarray(maps, np.float64), np.asarray(images, np.float64)
    check_finite(field.name, maps)
    chosen = list(range(min(8, maps.shape[-1]))) if channels is None else [int(channel) for channel in channels]
    if count < 1 or not chosen:
        raise ValueError(f"count={count}, channels={chosen}; expected a number above 0, and a channel")
    if wrong := [channel for channel in chosen if not 0 <= channel < maps.shape[-1]]:
        raise ValueError(f"channels {wrong}; {field.name} has {maps.shape[-1]}, counted from 0")
    patches, grey = [], sum(scale_of([images])) / 2
    for channel in chosen:
        flat = maps[..., channel].reshape(len(maps), -1)
        best = flat.max(axis=1)
        for example in np.argsort(-best, kind="stable")[:count]:
            row, column = map(int, np.unravel_index(flat[example].argmax(), maps.shape[1:3]))
            box = field.box((row, column))
            pixels = crop(images[example], box, fill=grey)
            patches.append(Patch(channel, int(example), (row, column), float(best[example]), box, pixels))
    return TopPatches(field.name, tuple(patches))


def crop(image: np.ndarray, box: Sequence[tuple[int, int]], *, fill: float = 0.5) -> np.ndarray:
    """The pixels of a box, first and last included, with `fill` beyond the picture.

    >>> crop(np.ones((2, 2, 1)), [(-1, 0), (0, 1)])[..., 0].tolist()
    [[0.5, 0.5], [1.0, 1.0]]
    """
    (top, bottom), (left, right) = box
    patch = np.full((bottom - top + 1, right - left + 1, image.shape[-1]), fill)
    first_row, first_column = max(top, 0), max(left, 0)
    last_row, last_column = min(bottom, image.shape[0] - 1), min(right, image.shape[1] - 1)
    if first_row <= last_row and first_column <= last_column:
        inside = image[first_row : last_row + 1, first_column : last_column + 1]
        patch[first_row - top : last_row - top + 1, first_column - left : last_column - left + 1] = inside
    return patch


@dataclass(frozen=True, eq=False)
class Neighbours(Result):
    """The examples nearest to each query, nearest first, by the distance of their features."""

    queries: tuple[int, ...]
    nearest: np.ndarray
    distances: np.ndarray
    images: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """One record per query and neighbour."""
        return [
            {"query": query, "rank": rank + 1, "example": int(example), "distance": float(distance)}
            for query, examples, distances in zip(self.queries, self.nearest, self.distances, strict=True)
            for rank, (example, distance) in enumerate(zip(examples, distances, strict=True))
        ]

    def draw(self) -> Figure:
        """A line for each query: itself, then its neighbours."""
        from cnnjax.view import plots

        captions = []
        for query, examples, distances in zip(self.queries, self.nearest, self.distances, strict=True):
            captions.append((query, f"example {query}"))
            captions += [(example, f"{example}: {far:.3g}") for example, far in zip(examples, distances, strict=True)]
        shown, note = visible([self.images[example] for example, _ in captions])
        tiles = [plots.Tile(image, caption) for image, (_, caption) in zip(shown, captions, strict=True)]
        title = f"Nearest examples{note and f' ({note})'}"
        return plots.pictures(tiles, title=title, columns=1 + self.nearest.shape[1])


def nearest_examples(
    features: Any, images: Any, *, queries: Sequence[int] | None = None, count: int | None = None
) -> Neighbours:
    r"""The examples whose features are nearest to those of some, by the cosine distance $1 - \cos(u, v)$.

    Args:
        features: of all examples, (examples, ...), such as a layer's feature maps.
        images: the examples, (examples, height, width, colours), as floats, or bytes, which become floats from 0 to 1.
        queries: examples whose neighbours are looked for; the first four where left out.
        count: neighbours of each, itself not among them; seven, or all, where left out.

    Raises:
        ValueError: other numbers of features and pictures, no pictures, or a query or a count that there is not.
    """
    columns = np.asarray(features, np.float64).reshape(len(features), -1)
    images = np.asarray(as_pictures(images, axes=4))
    queries = range(min(4, len(columns))) if queries is None else [int(query) for query in queries]
    count = min(7, len(columns) - 1) if count is None else count
    if len(columns) != len(images) or not 0 < count < len(columns):
        raise ValueError(
            f"{len(columns)} features, {len(images)} images, count={count}; expected as many images as features, and a"
            f" count from 1 to {len(columns) - 1}"
        )
    if wrong := [query for query in queries if not 0 <= query < len(columns)]:
        raise ValueError(f"queries {wrong}; there are {len(columns)} examples, counted from 0")
    check_finite("features", columns)
    lengths = np.linalg.norm(columns, axis=1, keepdims=True)
    unit = columns / np.where(lengths > 0, lengths, 1)
    distances = 1 - unit[list(queries)] @ unit.T
    for line, query in zip(distances, queries, strict=True):
        line[query] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return Neighbours(tuple(queries), order, np.take_along_axis(distances, order, axis=1), images)
