"""The effective receptive field: how much each input pixel really moves a unit, and a Gaussian fitted to it.

Reference: Luo, Li, Urtasun and Zemel (2016), "Understanding the Effective Receptive Field in Deep Convolutional Neural
Networks".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from cnnjax.analysis.inputs import as_pictures
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.reach.fields import LayerField
from cnnjax.analysis.receptive_field import value_and_field
from cnnjax.analysis.tracing import trace_call
from cnnjax.view.result import Figure, Result

# Of the largest value: what a Gaussian keeps beyond two deviations (section 3.1 of the paper).
_EDGE = 1 - 0.9545


@dataclass(frozen=True, eq=False)
class EffectiveField(Result):
    r"""Gradients of one position of a layer with respect to the pixels, over a batch, and the Gaussian that fits them.

    Attributes:
        layer: which layer.
        position: of the unit, per axis of the map (`LayerField.position_axes`).
        field: its theoretical receptive field.
        gradient: by pixel, the root mean square over examples (and root of the sum of squares over colours).
        centre: mean place of the gradient, in pixels, per axis.
        sigma: its standard deviation, per axis: those of the Gaussian of the greatest likelihood.
    """

    layer: str
    position: tuple[int, ...]
    field: LayerField
    gradient: np.ndarray
    centre: tuple[float, ...]
    sigma: tuple[float, ...]

    @property
    def radius(self) -> tuple[float, ...]:
        """Two standard deviations, in pixels, per axis."""
        return tuple(2 * sigma for sigma in self.sigma)

    @cached_property
    def size(self) -> float:
        """Side of the square with as many pixels as have 4.55 % of the largest gradient, or more."""
        count = int((self.gradient >= _EDGE * self.gradient.max()).sum())
        return float(count ** (1 / self.gradient.ndim))

    @property
    def ratio(self) -> float:
        """Effective size over theoretical size (the geometric mean of its axes)."""
        return self.size / float(np.prod(self.field.size)) ** (1 / len(self.field.size))

    @cached_property
    def gaussian(self) -> np.ndarray:
        """The fitted Gaussian by pixel, of the height that fits best."""
        grids = np.meshgrid(*map(np.arange, self.gradient.shape), indexing="ij")
        exponent = sum(
            ((grid - centre) / max(sigma, 1e-6)) ** 2
            for grid, centre, sigma in zip(grids, self.centre, self.sigma, strict=True)
        )
        shape = np.exp(-exponent / 2)
        return shape * (self.gradient * shape).sum() / max((shape**2).sum(), 1e-30)

    @property
    def r_squared(self) -> float:
        """The share of the gradient's variance that the Gaussian explains."""
        residual = ((self.gradient - self.gaussian) ** 2).sum()
        return float(1 - residual / max(((self.gradient - self.gradient.mean()) ** 2).sum(), 1e-30))

    def rows(self) -> list[dict[str, Any]]:
        """One record per spatial axis."""
        return [
            {
                "layer": self.layer,
                "axis": axis,
                "position": ",".join(map(str, self.position)),
                "centre": self.centre[axis],
                "sigma": self.sigma[axis],
                "radius": self.radius[axis],
                "theoretical_size": self.field.size[axis],
                "effective_size": self.size,
                "ratio": self.ratio,
                "gaussian_r_squared": self.r_squared,
            }
            for axis in range(len(self.sigma))
        ]

    def draw(self) -> Figure:
        """The gradient by pixel, and its profile along the rows with the Gaussian; of a volume, its middle plane."""
        from cnnjax.view import field_figures

        bounds = self.field.box(self.position)
        return field_figures.effective_field(
            self.gradient,
            self.gaussian,
            box=bounds,
            title=f"{self.layer}: effective field {self.size:.1f} of {self.field.size[0]} pixels ({self.ratio:.0%})",
        )


def effective_receptive_field(
    net: Callable[..., Any], images: Any, *, layer: str | None = None, position: Sequence[int] | None = None
) -> EffectiveField:
    r"""How strongly every pixel moves the centre unit of a layer: one backward pass over a batch.

    $$g(p) = \sqrt{\mathrm{mean}_x \sum_{c} \left(\frac{\partial \sum_k y_k(u)}{\partial x_c(p)}\right)^2}$$

    for the unit at position u of the maps y, summed over their channels k. For random weights this is, on the average,
    what the paper derives: a Gaussian whose deviation grows with the square root of the number of layers.

    Args:
        net: `models.bind(model, variables)`, a trained run, or any function of pictures (batch, *spatial, channels),
            independent of each other.
        images: the batch; noise will do for random weights.
        layer: whose unit; the net's output where left out.
        position: of the unit, per axis of the map (`LayerField.position_axes`); the middle one where left out.

    Raises:
        ValueError: there is no such layer, or it has no positions; or nothing reaches the unit.
    """
    images = as_pictures(images)
    program = trace_call(net, images)
    value, field = value_and_field(program, layer)
    if any(axis.reach.axis is None for axis in field.axes):
        raise ValueError(
            f"{field.name} has the shape {field.shape}, without positions along every axis of the pictures"
        )
    chosen = field.middle if position is None else tuple(map(int, position))
    field.box(chosen)  # says what is wrong with it

    def activity(images: jax.Array) -> jax.Array:
        (maps,) = evaluate(program, [images], [value])
        for axis, place in zip(field.position_axes, chosen, strict=True):
            maps = jax.lax.index_in_dim(maps, place, axis, keepdims=True)
        return maps.sum()

    gradient = np.asarray(jax.jit(jax.grad(activity))(images), np.float64)
    power = np.sqrt((gradient**2).sum(axis=-1).mean(axis=0))
    if not np.isfinite(power).all() or not power.any():
        state = "no gradient reaches the pixels" if np.isfinite(power).all() else "the gradient is not finite"
        raise ValueError(f"{field.name} at {chosen}: {state}; other pictures or weights are needed")
    centre, sigma = _moments(power)
    return EffectiveField(field.name, chosen, field, power, centre, sigma)


def _moments(density: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation along each axis."""
    shares = density / density.sum()
    centres, sigmas = [], []
    for axis in range(density.ndim):
        line = shares.sum(axis=tuple(other for other in range(density.ndim) if other != axis))
        places = np.arange(len(line))
        centre = float((line * places).sum())
        centres.append(centre)
        sigmas.append(float(np.sqrt((line * (places - centre) ** 2).sum())))
    return tuple(centres), tuple(sigmas)
