"""Feature maps in numbers: how large, how sparse, how many dead units, how many independent directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.view.result import Figure, Result

# Part of a layer's range, at either end, in which a value counts as saturated.
_ENDS = 0.01


@dataclass(frozen=True)
class LayerStatistics:
    r"""Numbers of one layer's output on a batch of pictures.

    Values that are not finite are left out; in the rank and the entropy they count as the layer's mean.

    Attributes:
        name: the layer.
        shape: of its output.
        mean: of all values.
        spread: their standard deviation.
        sparsity: share of values that are zero.
        saturation: share of values within 1 % of the layer's range from either end.
        dead: channels that have one and the same value everywhere, on all pictures; none where there is but one value.
        channels: of how many.
        effective_rank: directions that the channels vary in, $\exp(-\sum_i p_i \ln p_i)$ with p the singular values of
            the centred channels, summed to one (Roy and Vetterli 2007, "The effective rank").
        spatial_entropy: how evenly a picture's energy lies over the positions, the entropy of its shares over that of
            equal ones: 1 for evenly, 0 for all in one place; the mean over pictures. None without positions.
        not_finite: values that are NaN or infinite.
    """

    name: str
    shape: tuple[int, ...]
    mean: float
    spread: float
    sparsity: float
    saturation: float
    dead: int
    channels: int
    effective_rank: float
    spatial_entropy: float | None
    not_finite: int


@dataclass(frozen=True)
class FeatureStatistics(Result):
    """Statistics of every layer of a network on a batch of pictures."""

    layers: tuple[LayerStatistics, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer."""
        return [
            {
                "layer": layer.name,
                "shape": "x".join(map(str, layer.shape)),
                "mean": layer.mean,
                "spread": layer.spread,
                "sparsity": layer.sparsity,
                "saturation": layer.saturation,
                "dead": layer.dead,
                "channels": layer.channels,
                "effective_rank": layer.effective_rank,
                "spatial_entropy": layer.spatial_entropy,
                "not_finite": layer.not_finite,
            }
            for layer in self.layers
        ]

    def notes(self) -> list[str]:
        """Layers with values that are not finite."""
        bad = [f"{layer.name} ({layer.not_finite:,})" for layer in self.layers if layer.not_finite]
        return [f"Values that are not finite, left out of the numbers: {', '.join(bad)}."] if bad else []

    def draw(self) -> Figure:
        """Bars of spread, sparsity, dead channels and effective rank, layer by layer."""
        from cnnjax.view import plots

        return plots.bars(
            [layer.name for layer in self.layers],
            {
                "spread": [layer.spread for layer in self.layers],
                "zeros / %": [100 * layer.sparsity for layer in self.layers],
                "dead channels / %": [100 * layer.dead / layer.channels for layer in self.layers],
                "effective rank / channels": [layer.effective_rank / layer.channels for layer in self.layers],
            },
            title="Feature maps, layer by layer",
        )


def feature_statistics(maps: Mapping[str, Any]) -> FeatureStatistics:
    """Statistics of feature maps by layer, as `feature_maps` gives them; layers that return no array are left out.

    Raises:
        ValueError: no layer has an array (batch, ..., channels) with elements.
    """
    if not isinstance(maps, Mapping):
        raise ValueError(f"{type(maps).__name__} came; expected maps by layer, as `feature_maps` gives them")
    arrays = {name: np.asarray(value, np.float64) for name, value in maps.items() if hasattr(value, "ndim")}
    found = tuple(_statistics(name, array) for name, array in arrays.items() if array.ndim > 1 and array.size)
    if not found:
        raise ValueError(f"maps: {list(maps)}; expected at least one array (batch, ..., channels) with elements")
    return FeatureStatistics(found)


def _statistics(name: str, array: np.ndarray) -> LayerStatistics:
    finite = np.isfinite(array)
    values, channels = array[finite], array.shape[-1]
    if not values.size:
        nan = float("nan")
        return LayerStatistics(name, array.shape, nan, nan, nan, nan, 0, channels, nan, None, array.size)
    low, high = float(values.min()), float(values.max())
    margin = _ENDS * (high - low)
    clean = np.where(finite, array, values.mean())
    columns = clean.reshape(-1, channels)
    return LayerStatistics(
        name,
        array.shape,
        mean=float(values.mean()),
        spread=float(values.std()),
        sparsity=float((values == 0).mean()),
        saturation=float(((values <= low + margin) | (values >= high - margin)).mean()),
        dead=_dead(np.where(finite, array, np.nan).reshape(-1, channels)),
        channels=channels,
        effective_rank=effective_rank(columns),
        spatial_entropy=_spatial_entropy(clean) if array.ndim > 2 else None,
        not_finite=int(array.size - values.size),
    )


def _dead(columns: np.ndarray) -> int:
    """Columns whose values, two or more of them finite, are all the same."""
    counted = np.isfinite(columns).sum(axis=0) > 1
    low, high = (bound(columns[:, counted], axis=0) for bound in (np.nanmin, np.nanmax))
    return int((low == high).sum())


def effective_rank(columns: np.ndarray) -> float:
    r"""$\exp$ of the entropy of the singular values of centred columns; 0 where nothing varies (Roy and Vetterli 2007).

    >>> round(effective_rank(np.eye(4)), 6)
    3.0
    """
    around = centred(columns)
    # Of the smaller Gram matrix; its eigenvalues are the squares of the singular values.
    gram = around.T @ around if around.shape[0] >= around.shape[1] else around @ around.T
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    values = values[values > 1e-7 * values.max()] if values.max() > 0 else values[:0]
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if shares.size else 0.0


def centred(columns: np.ndarray) -> np.ndarray:
    """Columns without their means; those that do not vary are exactly zero, which a rounded mean would not give."""
    around = columns - columns.mean(axis=0)
    around[:, np.ptp(columns, axis=0) == 0] = 0
    return around


def _spatial_entropy(array: np.ndarray) -> float | None:
    energy = (array**2).sum(axis=-1).reshape(len(array), -1)
    totals = energy.sum(axis=1, keepdims=True)
    if energy.shape[1] < 2 or not (totals > 0).any():
        return None
    shares = (energy / np.where(totals > 0, totals, 1))[totals[:, 0] > 0]
    entropies = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return float((entropies / np.log(energy.shape[1])).mean())
