"""Sums over pieces of a batch, one piece after the other, for what is read together to stay in a core's cache."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.functional.correlation import Correlation
from cnnjax.functional.cpu.arrays import pad
from cnnjax.functional.geometry import dilated_size
from cnnjax.functional.primitives import vary_alike


def in_pieces(
    product: Callable[[jax.Array, jax.Array], jax.Array], images: jax.Array, cotangent: jax.Array, size: int
) -> jax.Array:
    """The sum of a product of both over pieces of `size` examples; what is left of the batch comes last."""

    def part(start: int | jax.Array, count: int) -> jax.Array:
        return product(*(lax.dynamic_slice_in_dim(array, start, count) for array in (images, cotangent)))

    if images.shape[0] <= size:
        return product(images, cotangent)
    whole, rest = divmod(images.shape[0], size)
    total = summed(lambda index: part(index * size, size), whole, images)
    return total + part(whole * size, rest) if rest else total


def in_bands(
    product: Callable[[jax.Array, jax.Array, Correlation], jax.Array],
    images: jax.Array,
    cotangent: jax.Array,
    form: Correlation,
    *,
    rows: int,
    rest: Callable[[jax.Array, jax.Array, Correlation], jax.Array] | None = None,
) -> jax.Array:
    """The sum of a product over bands of `rows` positions along the first axis of each example.

    What is left of all examples comes last, by `rest` where it is given.
    """
    step, overlap = form.strides[0], dilated_size(form.window[0], form.dilation[0]) - 1
    # Padded by hand along the first axis, for every band to be like the others.
    extent = dilated_size(form.positions[0], step) + overlap
    before, size = form.padding[0][0], dilated_size(form.sizes[0], form.input_dilation[0])
    margins = [(before, extent - size - before, form.input_dilation[0] - 1), *[(0, 0, 0)] * (len(form.sizes) - 1)]
    images = pad(images, margins)

    def of_rows(count: int) -> Correlation:
        return replace(
            form,
            sizes=(dilated_size(count, step) + overlap, *form.sizes[1:]),
            padding=((0, 0), *form.padding[1:]),
            input_dilation=(1, *form.input_dilation[1:]),
        )

    examples, positions = cotangent.shape[:2]
    whole, left = divmod(positions, rows)

    def part(index: int | jax.Array) -> jax.Array:
        example, band = index // whole, index % whole * rows
        sizes = of_rows(rows).sizes[0], rows
        seen, given = (
            lax.dynamic_slice_in_dim(lax.dynamic_slice_in_dim(array, example, 1), start, size, axis=1)
            for array, start, size in zip((images, cotangent), (band * step, band), sizes, strict=True)
        )
        return product(seen, given, of_rows(rows))

    total = summed(part, examples * whole, images)
    if not left:
        return total
    done = whole * rows
    return total + (rest or product)(images[:, done * step :], cotangent[:, done:], of_rows(left))


def summed(part: Callable[[int | jax.Array], jax.Array], count: int, images: jax.Array) -> jax.Array:
    """The sum of `part(0)` to `part(count - 1)`, which vary over a mesh as the images do."""
    if count == 1:
        return part(0)
    kind = jax.eval_shape(part, 0)
    zeros, _ = vary_alike(jnp.zeros(kind.shape, kind.dtype), images)
    return lax.fori_loop(0, count, lambda index, total: total + part(index), zeros)
