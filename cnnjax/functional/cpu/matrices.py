"""Matrix products by `lax` or by oneDNN, and the layers that are one: those whose window is the whole image."""

from collections.abc import Callable
from typing import TypeAlias

import jax
from jax import lax

from cnnjax.functional.correlation import Correlation, Factor
from cnnjax.functional.cpu import onednn_call

# A product of two matrices, summed over one axis of each.
Multiply: TypeAlias = Callable[[jax.Array, jax.Array, tuple[int, int], Correlation], jax.Array]


def by_lax(first: jax.Array, second: jax.Array, axes: tuple[int, int], form: Correlation) -> jax.Array:
    """`lax`'s product."""
    return lax.dot_general(first, second, (((axes[0],), (axes[1],)), ((), ())), precision=form.precision)


def by_onednn(first: jax.Array, second: jax.Array, axes: tuple[int, int], form: Correlation) -> jax.Array:
    """OneDNN's product, which is of full precision whatever is asked for."""
    return onednn_call.matmul(first, second, transpose_first=axes[0] == 0, transpose_second=axes[1] == 1)


def dot(images: jax.Array, matrix: jax.Array, axis: int, form: Correlation, multiply: Multiply = by_lax) -> jax.Array:
    """The channels of images times one axis of a matrix, with the positions merged: XLA is at its best with that."""
    product = multiply(images.reshape(-1, images.shape[-1]), matrix, (1, axis), form)
    return product.reshape(*images.shape[:-1], product.shape[-1])


def outer(images: jax.Array, cotangent: jax.Array, form: Correlation, multiply: Multiply = by_lax) -> jax.Array:
    """The sum over examples and positions of the outer products of channels."""
    rows, columns = images.reshape(-1, images.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    if rows.shape[-1] <= columns.shape[-1]:
        return multiply(rows, columns, (0, 0), form)
    # The wider factor on the right is up to twice as fast.
    return multiply(columns, rows, (0, 0), form).T


def is_one_product(form: Correlation) -> bool:
    """Whether the window is the whole image: a dense layer."""
    plain = max(form.input_dilation) == max(form.dilation) == form.groups == 1 and not any(map(any, form.padding))
    return plain and tuple(form.window) == tuple(form.sizes)


def as_one_product(
    first: jax.Array, second: jax.Array, result: Factor, form: Correlation, multiply: Multiply = by_lax
) -> jax.Array:
    """A product of a dense layer, images and kernel being matrices over all taps and channels."""

    def rows(array: jax.Array) -> jax.Array:
        return array.reshape(array.shape[0], -1)

    match result:
        case "output":
            product = dot(rows(first), second.reshape(-1, second.shape[-1]), 0, form, multiply)
            return product.reshape(first.shape[0], *form.positions, second.shape[-1])
        case "images":
            product = dot(rows(second), first.reshape(-1, first.shape[-1]), 1, form, multiply)
            return product.reshape(second.shape[0], *form.sizes, first.shape[-2])
        case "kernel":
            return outer(rows(first), rows(second), form, multiply).reshape(
                *form.window, first.shape[-1], second.shape[-1]
            )
