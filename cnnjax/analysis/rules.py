"""What each primitive does to reach: one rule per family of primitives."""

import math
from collections.abc import Sequence

import numpy as np

from cnnjax.analysis import placement, rearranging, sliding
from cnnjax.analysis import reach as reaching
from cnnjax.analysis.reach import Reach
from cnnjax.analysis.step import Rule, Step

ELEMENTWISE = frozenset(
    (
        "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz "
        "complex conj convert_element_type copy copy_p cos cosh device_put digamma div eq eq_to erf erf_inv erfc "
        "exp exp2 expm1 floor ge gt igamma igamma_grad_a igammac imag integer_pow is_finite layout_constraint le "
        "le_to lgamma log log1p logistic lt lt_to max min mul name ne neg nextafter not optimization_barrier or "
        "polygamma population_count pow pvary random_gamma_grad real reduce_precision regularized_incomplete_beta "
        "rem reshard round rsqrt select_n sharding_constraint shift_left shift_right_arithmetic "
        "shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor zeta "
    ).split()
)
_REDUCTIONS = frozenset(
    "reduce reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split()
)
_WINDOWS = frozenset("reduce_window_sum reduce_window_max reduce_window_min reduce_window".split())
_TOTALS = frozenset("cumsum cumprod cummax cummin cumlogsumexp".split())
_SCATTERS = frozenset(
    "scatter-add scatter_add scatter-mul scatter_mul scatter-min scatter_min scatter-max scatter_max"
    " scatter-sub scatter_sub".split()
)

# A product with a constant matrix of more elements than this is taken to have no zeros.
_LARGEST_MATRIX = 2**27


def find(primitive: str) -> Rule | None:
    """The rule of a primitive, if there is one."""
    return _RULES.get(primitive)


def see_all(step: Step) -> list[Reach]:
    """Every output sees all that any input sees."""
    return [reaching.join([reaching.hull(reach, len(shape)) for reach in step.present]) for shape in step.after]


def joins(step: Step) -> bool:
    """Whether several values meet here, position by position."""
    primitive = step.equation.primitive
    if len(step.present) < 2:
        return False
    if primitive in ("concatenate", "stack"):
        axis = step.params["dimension" if primitive == "concatenate" else "axis"]
        return primitive == "stack" or all(reach.axis != axis for reach in step.present)
    return primitive in ELEMENTWISE and len(step.after) == 1


def _elementwise(step: Step) -> list[Reach]:
    if len(step.after) > 1:
        # Several values pass side by side, each to its own place.
        return [
            reaching.nowhere(len(shape)) if reach is None else reach
            for reach, shape in zip(step.inputs, step.after, strict=True)
        ]
    # Scalars (a predicate, a bound) act on every element.
    rank = len(step.after[0])
    return [reaching.join([reach if reach.rank == rank else reaching.hull(reach, rank) for reach in step.present])]


def _select(step: Step) -> list[Reach] | None:
    """A choice that is known beforehand takes each element from one case only."""
    if step.inputs[0] is not None or (which := step.constant(0)) is None:
        return _elementwise(step)
    cases, shape = step.inputs[1:], step.after[0]
    which = np.broadcast_to(which.astype(int), shape)
    if (which == which.flat[0]).all():
        chosen = cases[which.flat[0]]
        return [reaching.nowhere(len(shape)) if chosen is None else chosen]
    size = math.prod(shape)
    return [rearranging.moved(cases, [shape] * len(cases), which * size + np.arange(size).reshape(shape))]


def _reduce(step: Step) -> list[Reach] | None:
    """Along axes; by a function of one's own several values at once, and as many beginnings, which see nothing."""
    operands = len(step.after)
    if any(step.inputs[operands:]):
        return None
    reach, axes = reaching.join(step.present), step.params.get("axes", step.params.get("dimensions"))
    kept = [axis for axis in range(reach.rank) if axis not in axes]
    return [reaching.rearrange(reaching.reduce(reach, axes), kept)] * operands


def _reduce_window(step: Step) -> list[Reach] | None:
    operands = len(step.inputs) // 2 if step.equation.primitive == "reduce_window" else len(step.inputs)
    if any(step.inputs[operands:]):
        return None
    reach, params = reaching.join(step.present), step.params
    for dim, window in enumerate(params["window_dimensions"]):
        low, high = params["padding"][dim]
        stride, base = params["window_strides"][dim], params["base_dilation"][dim]
        if window > 1 or stride > 1 or base > 1 or low or high:
            reach = sliding.slide(
                reach,
                dim,
                step.before[0][dim],
                step.after[0][dim],
                window=window,
                stride=stride,
                before=low,
                dilation=params["window_dilation"][dim],
                base_dilation=base,
            )
    return [reach for _ in step.after]


def _running(step: Step) -> list[Reach]:
    (reach,), axis = step.present, step.params["axis"]
    return [rearranging.running(reach, axis, step.before[0], backwards=step.params["reverse"])]


def _convolution(step: Step) -> list[Reach] | None:
    images, kernel = step.inputs
    params, numbers = step.params, step.params["dimension_numbers"]
    if images is None or kernel is not None or params["batch_group_count"] != 1:
        return None
    channel_in, channel_out = numbers.lhs_spec[1], numbers.out_spec[1]
    reach = reaching.mix_groups(images, channel_in, params["feature_group_count"], step.after[0][channel_out])
    for number, dim in enumerate(numbers.lhs_spec[2:]):
        reach = sliding.slide(
            reach,
            dim,
            step.before[0][dim],
            step.after[0][numbers.out_spec[2:][number]],
            window=step.before[1][numbers.rhs_spec[2:][number]],
            stride=params["window_strides"][number],
            before=params["padding"][number][0],
            dilation=params["rhs_dilation"][number],
            base_dilation=params["lhs_dilation"][number],
        )
    order = [0] * reach.rank
    for source, target in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        order[target] = source
    return [reaching.rearrange(reach, order)]


def _dot(step: Step) -> list[Reach]:
    contract, batch = step.params["dimension_numbers"]
    products = []
    for side, reach in enumerate(step.inputs):
        if reach is None:
            continue
        free: list[int | None] = [axis for axis in range(reach.rank) if axis not in (*contract[side], *batch[side])]
        others: list[int | None] = [None] * (len(step.after[0]) - len(free) - len(batch[side]))
        chosen = _nonzero(step, 1 - side) if len(contract[side]) == 1 and not batch[side] else None
        if chosen is None or chosen.all():
            reach = reaching.reduce(reach, contract[side])
        else:
            # The matrix's outputs lie where the axis was that the product runs over.
            axis = contract[side][0]
            reach, others = rearranging.picked(reach, axis, chosen, step.before[side]), [axis]
        order = [*batch[side], *free, *others] if side == 0 else [*batch[side], *others, *free]
        products.append(reaching.rearrange(reach, order))
    return [reaching.join(products)]


def _nonzero(step: Step, side: int) -> np.ndarray | None:
    """Where a constant matrix is not zero, as (summed over, outputs); None where there is no such matrix."""
    shape = step.before[side]
    if step.inputs[side] is not None or len(shape) != 2 or math.prod(shape) > _LARGEST_MATRIX:
        return None
    matrix = step.constant(side)
    (summed,) = step.params["dimension_numbers"][0][side]
    return None if matrix is None else np.moveaxis(matrix != 0, summed, 0)


def _pad(step: Step) -> list[Reach] | None:
    reach, fill = step.inputs
    if reach is None or fill is not None:
        return None
    for dim, amounts in enumerate(step.params["padding_config"]):
        low, high, interior = map(int, amounts)
        if low or high or interior:
            sizes = step.before[0][dim], step.after[0][dim]
            reach = sliding.slide(reach, dim, *sizes, window=1, before=low, base_dilation=interior + 1)
    return [reach]


def _slice(step: Step) -> list[Reach]:
    (reach,), params = step.present, step.params
    strides = params["strides"] or (1,) * reach.rank
    for dim, bounds in enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True)):
        reach = reaching.take(reach, dim, *bounds)
    return [reach]


def _split(step: Step) -> list[Reach]:
    (reach,), parts, start = step.present, [], 0
    for size in map(int, step.params["sizes"]):
        parts.append(reaching.take(reach, step.params["axis"], start, start + size, 1))
        start += size
    return parts


def _concatenate(step: Step) -> list[Reach]:
    dimension = int(step.params["dimension"])
    return [_one_after_the_other(step, step.inputs, [shape[dimension] for shape in step.before], dimension)]


def _one_after_the_other(step: Step, reaches: Sequence[Reach | None], sizes: Sequence[int], dimension: int) -> Reach:
    """Pieces along an axis: where none has an axis along the input, this one may be (rows that were taken apart)."""
    rank = len(step.after[0])
    joined = reaching.concatenate(reaches, sizes, dimension, rank)
    apart = joined.axis is None and dimension < rank - 1  # not pooled vectors, joined along their channels
    return rearranging.along(joined, among=[dimension]) if apart else joined


def _stack(step: Step) -> list[Reach]:
    axis, rank = step.params["axis"], len(step.after[0])
    order: list[int | None] = list(range(rank - 1))
    order.insert(axis, None)
    layers = [None if reach is None else reaching.rearrange(reach, order) for reach in step.inputs]
    return [_one_after_the_other(step, layers, [1] * len(layers), axis)]


def _broadcast(step: Step) -> list[Reach]:
    (reach,) = step.present
    axes: list[int | None] = [None] * len(step.after[0])
    for source, target in enumerate(step.params["broadcast_dimensions"]):
        axes[target] = source
        if source == reach.axis and step.before[0][source] != step.after[0][target]:
            reach = reaching.reduce(reach, [source])  # one position, seen from everywhere
    return [reaching.rearrange(reach, axes)]


def _reshape(step: Step) -> list[Reach] | None:
    (reach,) = step.present
    if step.params.get("dimensions") is not None:
        return None
    return [rearranging.reshape(reach, step.before[0], step.after[0])]


def _squeeze(step: Step) -> list[Reach]:
    (reach,) = step.present
    return [reaching.rearrange(reach, [a for a in range(reach.rank) if a not in step.params["dimensions"]])]


def _transpose(step: Step) -> list[Reach]:
    (reach,) = step.present
    return [reaching.rearrange(reach, list(step.params["permutation"]))]


def _reverse(step: Step) -> list[Reach]:
    (reach,) = step.present
    return [reaching.reverse(reach, step.params["dimensions"])]


def _sort(step: Step) -> list[Reach]:
    reach = reaching.join(step.present)
    axis = step.params.get("dimension", step.params.get("reduction_dimension", step.params.get("axis", -1)))
    return [reaching.reduce(reach, [axis % reach.rank])] * len(step.after)


def _transform(step: Step) -> list[Reach]:
    (reach,) = step.present
    lengths = len(step.params["fft_lengths"])
    return [reaching.reduce(reach, list(range(reach.rank - lengths, reach.rank)))]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_WINDOWS, _reduce_window),
    **dict.fromkeys(_TOTALS, _running),
    **dict.fromkeys(_SCATTERS, placement.scatter_combined),
    **dict.fromkeys(placement.MOVED, placement.move),
    "approx_top_k": _sort,
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "fft": _transform,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "select_n": _select,  # elementwise, but for choices that are known
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "top_k": _sort,
    "transpose": _transpose,
}
