r"""The largest or smallest value in each window, and the two linear maps that its derivatives are made of.

With $e(p)$ the place of the first extremum of window p in row-major order, the pool is $x[e(p)]$. Its derivative
*takes* the tangent from there, $\dot x[e(p)]$, and the transpose of that *puts* a cotangent back,
$\sum_{p: e(p) = n} \bar y[p]$. Each is the transpose of the other and, being linear, its own derivative, so the two
carry derivatives of every order and mode.

All are lowered to `lax`'s own operations, except on a CPU, where XLA's forward loses NaN in large batches and its
gradient is slow: there a window is looked at tap by tap, in strided slices. The first extremum of a window that
holds NaN is then its first NaN, and of one that holds only -inf (for a minimum, inf) its first tap, be it padding:
XLA's gradient on CPU and GPU loses it there as well.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from cnnjax.functional.geometry import dilated_size
from cnnjax.functional.primitives import define, like, vary_alike

Axes: TypeAlias = tuple[int, ...]

# Beyond so many taps, one axis after the other is faster than all at once.
_JOINT_TAPS = 9
# Slices that a whole axis is folded into at a time.
_FOLDED = 16


@dataclass(frozen=True)
class Windows:
    """Windows over an array: an entry per axis, batch and channels included, named as in `lax.reduce_window`."""

    window_dimensions: tuple[int, ...]
    window_strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    window_dilation: tuple[int, ...]

    def positions(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The number of windows along each axis of an array of that shape."""
        return tuple(
            (size + before + after - dilated_size(window, dilation)) // stride + 1
            for size, window, stride, (before, after), dilation in zip(
                shape, self.window_dimensions, self.window_strides, self.padding, self.window_dilation, strict=True
            )
        )

    def offsets(self, axis: int) -> tuple[int, ...]:
        """Where the taps of the first window stand along an axis; negative in the padding."""
        first = -self.padding[axis][0]
        return tuple(first + tap * self.window_dilation[axis] for tap in range(self.window_dimensions[axis]))

    def on(self, axes: Axes) -> "Windows":
        """The same along `axes`, and windows of one along the others."""

        def kept(entries: Sequence[Any], other: Any) -> tuple[Any, ...]:
            return tuple(entry if axis in axes else other for axis, entry in enumerate(entries))

        return Windows(
            kept(self.window_dimensions, 1),
            kept(self.window_strides, 1),
            kept(self.padding, (0, 0)),
            kept(self.window_dilation, 1),
        )

    def under_leading_axis(self) -> "Windows":
        """The same for arrays with one more axis in front, which the windows do not reach along."""
        return Windows(
            (1, *self.window_dimensions),
            (1, *self.window_strides),
            ((0, 0), *self.padding),
            (1, *self.window_dilation),
        )


def extremum(images: jax.Array, windows: Windows, *, largest: bool) -> jax.Array:
    """The largest or the smallest value in each window; on a CPU, NaN exactly where a window holds NaN."""
    # Under the name and the parameters of lax's own primitive, so that whatever reads programs knows it.
    primitive = _MAXIMUM if largest else _MINIMUM
    return primitive.bind(images, base_dilation=(1,) * images.ndim, **vars(windows))


def take(tangent: jax.Array, images: jax.Array, windows: Windows, *, largest: bool) -> jax.Array:
    """The entries of `tangent` where the images have their windows' first extrema: linear in `tangent`."""
    tangent, images = vary_alike(tangent, images)
    return _TAKE.bind(tangent, images, windows=windows, largest=largest)


def put(cotangent: jax.Array, images: jax.Array, windows: Windows, *, largest: bool) -> jax.Array:
    """The transpose of `take`: the entry of `cotangent` for each window, added where its first extremum stands."""
    cotangent, images = vary_alike(cotangent, images)
    return _PUT.bind(cotangent, images, windows=windows, largest=largest)


def extremum_along(array: jax.Array, axis: int, *, largest: bool) -> jax.Array:
    """The largest or the smallest value along an axis, which goes; its derivative is that of the first such value."""
    return (_MAXIMUM_ALONG if largest else _MINIMUM_ALONG).bind(array, axes=(axis,))


def reference_extremum(images: jax.Array, *, largest: bool, **params: Any) -> jax.Array:
    """`extremum` by `lax.reduce_window`, whose parameters it takes."""
    worst, combine = (-math.inf, lax.max) if largest else (math.inf, lax.min)
    return lax.reduce_window(images, worst, combine, **params)


def reference_take(tangent: jax.Array, images: jax.Array, *, windows: Windows, largest: bool) -> jax.Array:
    """`take` by what `lax.reduce_window` is differentiated into."""
    return lax.select_and_gather_add_p.bind(
        tangent,
        images,
        select_prim=lax.ge_p if largest else lax.le_p,
        base_dilation=(1,) * images.ndim,
        **vars(windows),
    )


def reference_put(cotangent: jax.Array, images: jax.Array, *, windows: Windows, largest: bool) -> jax.Array:
    """`put` by what `lax.reduce_window` is differentiated into; dilated, where that fails, by slices."""
    if any(dilation > 1 for dilation in windows.window_dilation):
        return _put_by_slices(cotangent, images, windows=windows, largest=largest)
    return lax.select_and_scatter_add_p.bind(
        cotangent,
        images,
        select_prim=lax.ge_p if largest else lax.le_p,
        window_dimensions=windows.window_dimensions,
        window_strides=windows.window_strides,
        padding=windows.padding,
    )


def reference_extremum_along(array: jax.Array, *, largest: bool, axes: Axes) -> jax.Array:
    """`extremum_along` by `jax.numpy`."""
    return array.max(axes) if largest else array.min(axes)


def _extremum_by_slices(images: jax.Array, *, largest: bool, base_dilation: tuple[int, ...], **sizes: Any) -> jax.Array:
    windows = Windows(**sizes)
    for axes in _stages(windows):
        images = _slid(images, windows.on(axes), largest)
    return images


def _take_by_slices(tangent: jax.Array, images: jax.Array, *, windows: Windows, largest: bool) -> jax.Array:
    for axes in _stages(windows):
        stage = windows.on(axes)
        taps = zip(_taps(images, stage, _worst(largest)), _taps(tangent, stage, 0.0), strict=True)
        images, tangent = reduce(partial(_first, largest), taps)
    return tangent


def _put_by_slices(cotangent: jax.Array, images: jax.Array, *, windows: Windows, largest: bool) -> jax.Array:
    seen = []
    for axes in _stages(windows):
        seen.append((axes, images))
        images = _slid(images, windows.on(axes), largest)
    for axes, images in reversed(seen):
        cotangent = _put_along(cotangent, images, windows.on(axes), axes, largest)
    return cotangent


def _stages(windows: Windows) -> Iterator[Axes]:
    """Which axes to look along together, the last first.

    The first extremum in row-major order is the first along the leading axes of what is first along the others.
    """
    axes: Axes = ()
    for axis in reversed(range(len(windows.padding))):
        if windows.on((axis,)) == windows.on(()):
            continue
        if axes and math.prod(windows.window_dimensions[each] for each in (axis, *axes)) > _JOINT_TAPS:
            yield axes
            axes = ()
        axes = (axis, *axes)
    if axes:
        yield axes


def _taps(array: jax.Array, windows: Windows, fill: float) -> Iterator[jax.Array]:
    """The values of every window at its first tap, at its second, and so on in row-major order."""
    positions = windows.positions(array.shape)
    padded = lax.pad(array, jnp.full((), fill, array.dtype), [(*amounts, 0) for amounts in windows.padding])
    steps = windows.window_strides
    for tap in np.ndindex(*windows.window_dimensions):
        start = [index * dilation for index, dilation in zip(tap, windows.window_dilation, strict=True)]
        stop = [s + (count - 1) * step + 1 for s, count, step in zip(start, positions, steps, strict=True)]
        yield lax.slice(padded, start, stop, steps)


def _worst(largest: bool) -> float:
    return -math.inf if largest else math.inf


def _slid(images: jax.Array, windows: Windows, largest: bool) -> jax.Array:
    return reduce(lax.max if largest else lax.min, _taps(images, windows, _worst(largest)))


_Pair: TypeAlias = tuple[jax.Array, jax.Array]


def _first(largest: bool, held: _Pair, tap: _Pair) -> _Pair:
    """The better of two values, and what goes with it; the one held where they tie, and where it is NaN."""
    (best, held_with), (value, value_with) = held, tap
    worse = ~(best >= value if largest else best <= value) & (best == best)
    return jnp.where(worse, value, best), jnp.where(worse, value_with, held_with)


def _put_along(cotangent: jax.Array, images: jax.Array, windows: Windows, axes: Axes, largest: bool) -> jax.Array:
    """`put` for windows that reach along `axes` only.

    The images fall into blocks of a stride. Counted from its own place, every window reaches into the same few, so
    each of these few is filled for all windows at once, moved to its place, and added up.
    """
    taps = list(_taps(lax.optimization_barrier(images), windows, _worst(largest)))
    number = np.int8 if len(taps) < 128 else np.int32
    numbered = ((tap, jnp.full(tap.shape, index, number)) for index, tap in enumerate(taps))
    # Neither is to be computed anew in every block.
    winner, cotangent = lax.optimization_barrier((reduce(partial(_first, largest), numbered)[1], cotangent))

    first, layout = _layout(windows, axes)
    within = [axis + order + 1 for order, axis in enumerate(axes)]
    across = [axis for axis in range(winner.ndim + len(axes)) if axis not in within]
    winner, cotangent = jnp.expand_dims(winner, within), jnp.expand_dims(cotangent, within)
    blocks = [-(-images.shape[axis] // windows.window_strides[axis]) for axis in axes]
    parts = []
    for index in np.ndindex(*layout.shape[: len(axes)]):
        tap = jnp.expand_dims(layout[index].astype(number), across)
        filled = jnp.where(winner == tap, cotangent, jnp.zeros_like(cotangent))
        moves = [(0, 0, 0)] * filled.ndim
        for axis, start, shift, count in zip(within, first, index, blocks, strict=True):
            before = start + shift
            moves[axis - 1] = (before, count - filled.shape[axis - 1] - before, 0)
        parts.append(lax.pad(filled, jnp.zeros((), filled.dtype), moves))
    shape = list(images.shape)
    for axis, count in zip(axes, blocks, strict=True):
        shape[axis] = count * windows.window_strides[axis]
    return lax.slice(reduce(jnp.add, parts).reshape(shape), [0] * len(shape), images.shape)


def _layout(windows: Windows, axes: Axes) -> tuple[list[int], np.ndarray]:
    """The first block that the first window reaches into, and which tap stands where in this and the next blocks.

    The axes of the second are the blocks along `axes`, then the places within a block along `axes`; -1 is no tap.
    """
    offsets = [np.asarray(windows.offsets(axis)) for axis in axes]
    strides = [windows.window_strides[axis] for axis in axes]
    first = [int(each[0]) // stride for each, stride in zip(offsets, strides, strict=True)]
    shape = [(int(each[-1]) // stride + 1 - f, stride) for each, stride, f in zip(offsets, strides, first, strict=True)]
    layout = np.full([count * stride for count, stride in shape], -1)
    places = [each - f * stride for each, stride, f in zip(offsets, strides, first, strict=True)]
    layout[np.ix_(*places)] = np.arange(math.prod(map(len, offsets))).reshape([len(each) for each in offsets])
    split = layout.reshape([size for pair in shape for size in pair])
    return first, split.transpose([*range(0, split.ndim, 2), *range(1, split.ndim, 2)])


def _along_by_slices(array: jax.Array, *, largest: bool, axes: Axes) -> jax.Array:
    (axis,) = axes
    while (size := array.shape[axis]) > 1:
        length = -(-size // _FOLDED)
        # The last may overlap the one before, which makes no difference to an extremum.
        starts = sorted({min(start, size - length) for start in range(0, size, length)})
        slices = [lax.slice_in_dim(array, start, start + length, axis=axis) for start in starts]
        array = lax.optimization_barrier(reduce(lax.max if largest else lax.min, slices))
    return lax.squeeze(array, axes)


def _define_extremum_along(primitive: Primitive, largest: bool) -> None:
    @primitive.def_abstract_eval
    def kind(array: Any, *, axes: Axes) -> Any:
        return like(array, tuple(size for axis, size in enumerate(array.shape) if axis not in axes))

    def derivative(tangent: jax.Array, array: jax.Array, *, axes: Axes) -> jax.Array:
        (axis,) = axes
        best = jnp.expand_dims(extremum_along(array, axis, largest=largest), axis)
        places = lax.broadcasted_iota(jnp.int32, array.shape, axis)
        found = (array == best) | (array != array)
        first = jnp.where(found, places, array.shape[axis]).min(axis, keepdims=True)
        return jnp.where(places == first, tangent, jnp.zeros_like(tangent)).sum(axis)

    def batch(arrays: Any, dims: Any, *, axes: Axes) -> tuple[jax.Array, int]:
        (axis,) = axes
        return extremum_along(jnp.moveaxis(arrays[0], dims[0], 0), axis + 1, largest=largest), 0

    ad.defjvp(primitive, derivative)
    batching.primitive_batchers[primitive] = batch


def _define_extremum(primitive: Primitive, largest: bool) -> None:
    @primitive.def_abstract_eval
    def kind(images: Any, *, base_dilation: tuple[int, ...], **sizes: Any) -> Any:
        return like(images, Windows(**sizes).positions(images.shape))

    def derivative(tangent: Any, images: Any, *, base_dilation: tuple[int, ...], **sizes: Any) -> Any:
        return take(tangent, images, Windows(**sizes), largest=largest)

    def batch(arrays: Any, dims: Any, *, base_dilation: tuple[int, ...], **sizes: Any) -> tuple[jax.Array, int]:
        images = jnp.moveaxis(arrays[0], dims[0], 0)
        return extremum(images, Windows(**sizes).under_leading_axis(), largest=largest), 0

    ad.defjvp(primitive, derivative)
    batching.primitive_batchers[primitive] = batch


def _define_linear(
    primitive: Primitive, itself: Callable[..., jax.Array], transposed: Callable[..., jax.Array]
) -> None:
    def transpose(cotangent: Any, _: Any, images: Any, *, windows: Windows, largest: bool) -> Any:
        return [transposed(cotangent, images, windows, largest=largest), None]

    def derivative(tangent: Any, _: Any, images: Any, *, windows: Windows, largest: bool) -> Any:
        return itself(tangent, images, windows, largest=largest)

    def batch(arrays: Any, dims: Any, *, windows: Windows, largest: bool) -> tuple[jax.Array, int]:
        (size,) = {array.shape[dim] for array, dim in zip(arrays, dims, strict=True) if dim is not None}
        first, images = (
            jnp.broadcast_to(array, (size, *array.shape)) if dim is None else jnp.moveaxis(array, dim, 0)
            for array, dim in zip(arrays, dims, strict=True)
        )
        return itself(first, images, windows.under_leading_axis(), largest=largest), 0

    ad.deflinear2(primitive, transpose)
    # In the images it is constant wherever it has a derivative.
    ad.defjvp(primitive, derivative, None)
    batching.primitive_batchers[primitive] = batch


def _pair(name: str, reference: Callable[..., jax.Array], by_slices: Callable[..., jax.Array]) -> list[Primitive]:
    """The primitives of the maximum and of the minimum."""
    return [
        define(f"{name}_{kind}", partial(reference, largest=largest), cpu=partial(by_slices, largest=largest))
        for kind, largest in (("max", True), ("min", False))
    ]


_MAXIMUM, _MINIMUM = _pair("reduce_window", reference_extremum, _extremum_by_slices)
_MAXIMUM_ALONG, _MINIMUM_ALONG = _pair("reduce", reference_extremum_along, _along_by_slices)
_TAKE = define("take_extremum", reference_take, cpu=_take_by_slices)
_PUT = define("put_extremum", reference_put, cpu=_put_by_slices)

_define_extremum_along(_MAXIMUM_ALONG, largest=True)
_define_extremum_along(_MINIMUM_ALONG, largest=False)
_define_extremum(_MAXIMUM, largest=True)
_define_extremum(_MINIMUM, largest=False)
_define_linear(_TAKE, take, put)
_define_linear(_PUT, put, take)
_TAKE.def_abstract_eval(lambda tangent, images, *, windows, largest: like(tangent, windows.positions(images.shape)))
_PUT.def_abstract_eval(lambda cotangent, images, *, windows, largest: like(cotangent, images.shape))
