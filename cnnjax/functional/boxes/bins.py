r"""Weighted sums of a table's rows, bin by bin: what RoIAlign is made of, with a gradient that a CPU does fast.

$$S[n, p, q, c] = \sum_{a, b} u[n, p, a] \, v[n, q, b] \, T[i[n, p, a] + j[n, q, b], c]$$

for a table T of pixels, places i and j, and weights u and v. Its transpose with respect to the table is the second
primitive; each is the derivative of the other, so derivatives of every order and mode exist.

On CPUs, in a program compiled for it, the transpose as XLA derives it takes ten times as long as a loop over the boxes
with one scatter each, and a consumer that XLA fuses with the sum makes it four times as slow; a barrier keeps them
apart. Both measured with 512 boxes of 7x7 bins on 256 channels.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.interpreters import ad, batching

from cnnjax.functional import primitives


def sum_bins(table: jax.Array, rows: jax.Array, columns: jax.Array, down: jax.Array, along: jax.Array) -> jax.Array:
    """The sums S.

    Args:
        table: pixels, channels.
        rows: the places i: boxes, bins, taps; whole numbers.
        columns: the places j, likewise. Sums of the two must lie within the table.
        down: the weights u of the places i.
        along: the weights v of the places j.

    Returns:
        Boxes, bins down, bins along, channels.
    """
    return _sum.bind(*primitives.vary_alike(table, rows, columns, down, along))


def _plain_sum(table: jax.Array, rows: jax.Array, columns: jax.Array, down: jax.Array, along: jax.Array) -> jax.Array:
    out = jnp.zeros((*rows.shape[:2], columns.shape[1], table.shape[1]), table.dtype)
    # One gather for each pair of taps, all of which XLA fuses into one pass.
    for a in range(rows.shape[2]):
        for b in range(columns.shape[2]):
            place = rows[:, :, None, a] + columns[:, None, :, b]
            weight = down[:, :, None, a] * along[:, None, :, b]
            out = out + table.at[place].get(mode="promise_in_bounds") * weight[..., None]
    return out


def _sum_on_cpu(*operands: jax.Array) -> jax.Array:
    return lax.optimization_barrier(_plain_sum(*operands))


def _plain_spread(
    cotangent: jax.Array, rows: jax.Array, columns: jax.Array, down: jax.Array, along: jax.Array, *, size: int
) -> jax.Array:
    out = jnp.zeros((size, cotangent.shape[-1]), cotangent.dtype)
    for a in range(rows.shape[2]):
        for b in range(columns.shape[2]):
            place = rows[:, :, None, a] + columns[:, None, :, b]
            weight = down[:, :, None, a] * along[:, None, :, b]
            out = out.at[place].add(cotangent * weight[..., None], mode="promise_in_bounds")
    return out


def _spread_on_cpu(
    cotangent: jax.Array, rows: jax.Array, columns: jax.Array, down: jax.Array, along: jax.Array, *, size: int
) -> jax.Array:
    channels = cotangent.shape[-1]

    def add_box(out: jax.Array, box: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        cotangent, rows, columns, down, along = box
        place = rows[:, None, :, None] + columns[None, :, None, :]
        weight = down[:, None, :, None] * along[None, :, None, :]
        values = weight[..., None] * cotangent[:, :, None, None, :]
        return out.at[place.ravel()].add(values.reshape(-1, channels), mode="promise_in_bounds"), None

    # Made from the operands, so that under `shard_map` it varies as they do.
    zeros = jnp.zeros((size, channels), cotangent.dtype) + 0 * jnp.sum(cotangent[:0])
    return lax.optimization_barrier(lax.scan(add_box, zeros, (cotangent, rows, columns, down, along))[0])


_sum = primitives.define("sum_bins", _plain_sum, cpu=_sum_on_cpu)
_spread = primitives.define("spread_bins", _plain_spread, cpu=_spread_on_cpu)


@_sum.def_abstract_eval
def _sum_type(table: Any, rows: Any, columns: Any, down: Any, along: Any) -> Any:
    return primitives.like(table, (*rows.shape[:2], columns.shape[1], table.shape[1]))


@_spread.def_abstract_eval
def _spread_type(cotangent: Any, rows: Any, columns: Any, down: Any, along: Any, *, size: int) -> Any:
    return primitives.like(cotangent, (size, cotangent.shape[-1]))


def _derive(primitive: Any, plain: Any, primals: Any, tangents: Any, **params: Any) -> tuple[jax.Array, Any]:
    """The operation is linear in its first operand and in either weight; the places have no derivative."""
    pixels, rows, columns, down, along = primals = tuple(map(jnp.asarray, primals))
    d_pixels, _, _, d_down, d_along = (t if isinstance(t, ad.Zero) else jnp.asarray(t) for t in tangents)
    terms = []
    if not isinstance(d_pixels, ad.Zero):
        terms.append(primitive.bind(d_pixels, rows, columns, down, along, **params))
    if not isinstance(d_down, ad.Zero):
        terms.append(plain(pixels, rows, columns, d_down, along, **params))
    if not isinstance(d_along, ad.Zero):
        terms.append(plain(pixels, rows, columns, down, d_along, **params))
    return primitive.bind(*primals, **params), sum(terms[1:], terms[0])


def _batch_sum(arrays: Any, dims: Any) -> tuple[jax.Array, int]:
    size = _mapped_size(arrays, dims)
    table, *rest = (_leading(array, dim, size) for array, dim in zip(arrays, dims, strict=True))
    boxes = rest[0].shape[1]
    rows, columns, down, along = (array.reshape(size * boxes, *array.shape[2:]) for array in rest)
    # One table after the other, and each box with its own.
    first = jnp.repeat(jnp.arange(size, dtype=rows.dtype) * table.shape[1], boxes)
    out = _sum.bind(table.reshape(-1, table.shape[-1]), rows + first[:, None, None], columns, down, along)
    return out.reshape(size, boxes, *out.shape[1:]), 0


def _batch_spread(arrays: Any, dims: Any, *, size: int) -> tuple[jax.Array, int]:
    mapped = _mapped_size(arrays, dims)
    every = [_leading(array, dim, mapped) for array, dim in zip(arrays, dims, strict=True)]
    boxes = every[0].shape[1]
    cotangent, rows, columns, down, along = (array.reshape(mapped * boxes, *array.shape[2:]) for array in every)
    first = jnp.repeat(jnp.arange(mapped, dtype=rows.dtype) * size, boxes)
    out = _spread.bind(cotangent, rows + first[:, None, None], columns, down, along, size=mapped * size)
    return out.reshape(mapped, size, out.shape[-1]), 0


def _mapped_size(arrays: Any, dims: Any) -> int:
    return next(array.shape[dim] for array, dim in zip(arrays, dims, strict=True) if dim is not None)


def _leading(array: jax.Array, dim: int | None, size: int) -> jax.Array:
    """The array with the mapped axis first."""
    return jnp.broadcast_to(array, (size, *array.shape)) if dim is None else jnp.moveaxis(array, dim, 0)


def _transpose_sum(cotangent: Any, table: Any, *places_and_weights: Any) -> list[Any]:
    return [_spread.bind(jnp.asarray(cotangent), *places_and_weights, size=table.aval.shape[0]), None, None, None, None]


def _transpose_spread(cotangent: Any, _: Any, *places_and_weights: Any, size: int) -> list[Any]:
    return [_sum.bind(jnp.asarray(cotangent), *places_and_weights), None, None, None, None]


ad.primitive_jvps[_sum] = lambda primals, tangents: _derive(_sum, _plain_sum, primals, tangents)
ad.primitive_jvps[_spread] = lambda primals, tangents, *, size: _derive(
    _spread, _plain_spread, primals, tangents, size=size
)
ad.primitive_transposes[_sum] = _transpose_sum
ad.primitive_transposes[_spread] = _transpose_spread
batching.primitive_batchers[_sum] = _batch_sum
batching.primitive_batchers[_spread] = _batch_spread
