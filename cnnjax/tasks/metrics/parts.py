"""Metrics of a batch that can be put together with those of others: means, counts, and rows that are joined."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

# A metric's own class: what puts two of them together gives the same kind.
Kind = TypeVar("Kind")


@runtime_checkable
class Metric(Protocol):
    """What a batch adds to a metric: a pytree of arrays that is put together in two ways.

    `Mean` adds up, `Rows` are joined; a class of your own, such as a `NamedTuple` of counts, may do as it likes.
    """

    def over(self: Kind, axis: str) -> Kind:
        """That of all replicas along a mapped axis, equal on each; runs inside the compiled step."""
        ...

    def merge(self: Kind, others: Sequence[Kind]) -> Kind:
        """That of this batch and the others after it, in their order; runs on the host, in NumPy."""
        ...


class Sums:
    """A metric whose arrays add up, over replicas and over batches: a base for classes of named tuples."""

    def over(self: Kind, axis: str) -> Kind:
        """The sums over all replicas."""
        return lax.psum(self, axis)

    def merge(self: Kind, others: Sequence[Kind]) -> Kind:
        """The sums over all batches."""
        return jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), self, *others)


class _Mean(NamedTuple):
    total: Float[Array, ""]
    count: Float[Array, ""]


class Mean(_Mean, Sums):
    """A mean as the two sums that make it, so that the means of batches add up to the mean of all.

    Attributes:
        total: sum of the values.
        count: number of them, or sum of their weights.
    """

    @property
    def value(self) -> Float[Array, ""]:
        """Total over count; of nothing it is 0, with a gradient of 0."""
        return self.total / jnp.maximum(self.count, jnp.finfo(jnp.float32).tiny)


class Rows(NamedTuple):
    """One entry per example, joined and not summed: for metrics that no sums make, such as those of a ranking.

    All rows since the last summary are kept, on the device and whole on each, so they should be short.

    Attributes:
        values: arrays, or pytrees of them, with an entry per example.
        valid: False for the entries that are padding.
    """

    values: Any
    valid: Bool[Array, "batch"]

    def over(self, axis: str) -> "Rows":
        """The rows of all replicas, in their order."""
        return jax.tree.map(lambda leaf: lax.all_gather(leaf, axis, tiled=True), self)

    def merge(self, others: Sequence["Rows"]) -> "Rows":
        """The rows of all batches, in their order."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *jax.device_get([self, *others]))

    def kept(self) -> Any:
        """The values of the valid examples, in NumPy."""
        values, valid = jax.device_get((self.values, self.valid))
        return jax.tree.map(lambda array: array[valid], values)


def merge(parts: Sequence[Mapping[str, Metric]]) -> dict[str, Metric]:
    """The metrics of several batches as those of one, each by its own `merge`."""
    first, *others = jax.device_get([dict(part) for part in parts])
    return {name: metric.merge([other[name] for other in others]) for name, metric in first.items()}


def masked_mean(values: Float[Array, "batch"], valid: Bool[Array, "batch"]) -> Mean:
    """The mean of one number per example, over the valid ones, in float32."""
    return Mean(
        jnp.sum(values.astype(jnp.float32), where=valid),
        jnp.sum(valid, dtype=jnp.float32),
    )


def means(metrics: Mapping[str, Mean]) -> dict[str, float]:
    """Each `Mean` as a number; NaN where nothing was counted.

    >>> means({"accuracy": Mean(jnp.float32(3), jnp.float32(4))})
    {'accuracy': 0.75}
    """
    values = jax.device_get(dict(metrics))
    return {name: float(mean.total / mean.count) if mean.count else float("nan") for name, mean in values.items()}
