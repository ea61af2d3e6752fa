"""What each primitive does to reach: one rule per family of primitives."""

import math
from collections.abc import Sequence

import numpy as np

from cnnjax.analysis.reach import intervals, placement, rearranging, sliding
from cnnjax.analysis.reach.case import Case, Rule
from cnnjax.analysis.reach.intervals import Reach

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


def see_all(case: Case) -> list[Reach]:
    """Every output sees all that any input sees."""
    return [intervals.join([intervals.hull(reach, len(shape)) for reach in case.present]) for shape in case.after]


def joins(case: Case) -> bool:
    """Whether several values meet here, position by position."""
    primitive = case.equation.primitive
    if len(case.present) < 2:
        return False
    if primitive in ("concatenate", "stack"):
        axis = case.params["dimension" if primitive == "concatenate" else "axis"]
        return primitive == "stack" or all(reach.axis != axis for reach in case.present)
    return primitive in ELEMENTWISE and len(case.after) == 1


def _elementwise(case: Case) -> list[Reach]:
    if len(case.after) > 1:
        # Several values pass side by side, each to its own place.
        return [
            intervals.nowhere(len(shape)) if reach is None else reach
            for reach, shape in zip(case.inputs, case.after, strict=True)
        ]
    # Scalars (a predicate, a bound) act on every element.
    rank = len(case.after[0])
    return [intervals.join([reach if reach.rank == rank else intervals.hull(reach, rank) for reach in case.present])]


def _select(case: Case) -> list[Reach] | None:
    """A choice that is known beforehand takes each element from one case only."""
    if case.inputs[0] is not None or (which := case.constant(0)) is None:
        return _elementwise(case)
    cases, shape = case.inputs[1:], case.after[0]
    which = np.broadcast_to(which.astype(int), shape)
    if (which == which.flat[0]).all():
        chosen = cases[which.flat[0]]
        return [intervals.nowhere(len(shape)) if chosen is None else chosen]
    size = math.prod(shape)
    return [rearranging.moved(cases, [shape] * len(cases), which * size + np.arange(size).reshape(shape))]


def _reduce(case: Case) -> list[Reach] | None:
    """Along axes; by a function of one's own several values at once, and as many beginnings, which see nothing."""
    operands = len(case.after)
    if any(case.inputs[operands:]):
        return None
    # What batches a function may give NumPy's whole numbers.
    axes = tuple(map(int, case.params.get("axes", case.params.get("dimensions"))))
    reach = intervals.join(case.present)
    kept = [axis for axis in range(reach.rank) if axis not in axes]
    return [intervals.rearrange(intervals.reduce(reach, axes), kept)] * operands


def _reduce_window(case: Case) -> list[Reach] | None:
    operands = len(case.inputs) // 2 if case.equation.primitive == "reduce_window" else len(case.inputs)
    if any(case.inputs[operands:]):
        return None
    reach, params = intervals.join(case.present), case.params
    for dim, window in enumerate(params["window_dimensions"]):
        low, high = params["padding"][dim]
        stride, base = params["window_strides"][dim], params["base_dilation"][dim]
        if window > 1 or stride > 1 or base > 1 or low or high:
            reach = sliding.slide(
                reach,
                dim,
                case.before[0][dim],
                case.after[0][dim],
                window=window,
                stride=stride,
                before=low,
                dilation=params["window_dilation"][dim],
                base_dilation=base,
            )
    return [reach for _ in case.after]


def _running(case: Case) -> list[Reach]:
    (reach,), axis = case.present, case.params["axis"]
    return [rearranging.running(reach, axis, case.before[0], backwards=case.params["reverse"])]


def _convolution(case: Case) -> list[Reach] | None:
    images, kernel = case.inputs
    params, numbers = case.params, case.params["dimension_numbers"]
    if images is None or kernel is not None or params["batch_group_count"] != 1:
        return None
    channel_in, channel_out = numbers.lhs_spec[1], numbers.out_spec[1]
    reach = intervals.mix_groups(images, channel_in, params["feature_group_count"], case.after[0][channel_out])
    for number, dim in enumerate(numbers.lhs_spec[2:]):
        reach = sliding.slide(
            reach,
            dim,
            case.before[0][dim],
            case.after[0][numbers.out_spec[2:][number]],
            window=case.before[1][numbers.rhs_spec[2:][number]],
            stride=params["window_strides"][number],
            before=params["padding"][number][0],
            dilation=params["rhs_dilation"][number],
            base_dilation=params["lhs_dilation"][number],
        )
    order = [0] * reach.rank
    for source, target in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        order[target] = source
    return [intervals.rearrange(reach, order)]


def _dot(case: Case) -> list[Reach]:
    contract, batch = case.params["dimension_numbers"]
    products = []
    for side, reach in enumerate(case.inputs):
        if reach is None:
            continue
        free: list[int | None] = [axis for axis in range(reach.rank) if axis not in (*contract[side], *batch[side])]
        others: list[int | None] = [None] * (len(case.after[0]) - len(free) - len(batch[side]))
        chosen = _nonzero(case, 1 - side) if len(contract[side]) == 1 and not batch[side] else None
        if chosen is None or chosen.all():
            reach = intervals.reduce(reach, contract[side])
        else:
            # The matrix's outputs lie where the axis was that the product runs over.
            axis = contract[side][0]
            reach, others = rearranging.picked(reach, axis, chosen, case.before[side]), [axis]
        order = [*batch[side], *free, *others] if side == 0 else [*batch[side], *others, *free]
        products.append(intervals.rearrange(reach, order))
    return [intervals.join(products)]


def _nonzero(case: Case, side: int) -> np.ndarray | None:
    """Where a constant matrix is not zero, as (summed over, outputs); None where there is no such matrix."""
    shape = case.before[side]
    if case.inputs[side] is not None or len(shape) != 2 or math.prod(shape) > _LARGEST_MATRIX:
        return None
    matrix = case.constant(side)
    (summed,) = case.params["dimension_numbers"][0][side]
    return None if matrix is None else np.moveaxis(matrix != 0, summed, 0)


def _pad(case: Case) -> list[Reach] | None:
    reach, fill = case.inputs
    if reach is None or fill is not None:
        return None
    for dim, amounts in enumerate(case.params["padding_config"]):
        low, high, interior = map(int, amounts)
        if low or high or interior:
            sizes = case.before[0][dim], case.after[0][dim]
            reach = sliding.slide(reach, dim, *sizes, window=1, before=low, base_dilation=interior + 1)
    return [reach]


def _slice(case: Case) -> list[Reach]:
    (reach,), params = case.present, case.params
    strides = params["strides"] or (1,) * reach.rank
    for dim, bounds in enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True)):
        reach = intervals.take(reach, dim, *bounds)
    return [reach]


def _split(case: Case) -> list[Reach]:
    (reach,), parts, start = case.present, [], 0
    for size in map(int, case.params["sizes"]):
        parts.append(intervals.take(reach, case.params["axis"], start, start + size, 1))
        start += size
    return parts


def _concatenate(case: Case) -> list[Reach]:
    dimension = int(case.params["dimension"])
    return [_one_after_the_other(case, case.inputs, [shape[dimension] for shape in case.before], dimension)]


def _one_after_the_other(case: Case, reaches: Sequence[Reach | None], sizes: Sequence[int], dimension: int) -> Reach:
    """Pieces along an axis: where none has an axis along the input, this one may be (rows that were taken apart)."""
    rank = len(case.after[0])
    joined = intervals.concatenate(reaches, sizes, dimension, rank)
    apart = joined.axis is None and dimension < rank - 1  # not pooled vectors, joined along their channels
    return rearranging.along(joined, among=[dimension]) if apart else joined


def _stack(case: Case) -> list[Reach]:
    axis, rank = case.params["axis"], len(case.after[0])
    order: list[int | None] = list(range(rank - 1))
    order.insert(axis, None)
    layers = [None if reach is None else intervals.rearrange(reach, order) for reach in case.inputs]
    return [_one_after_the_other(case, layers, [1] * len(layers), axis)]


def _broadcast(case: Case) -> list[Reach]:
    (reach,) = case.present
    axes: list[int | None] = [None] * len(case.after[0])
    for source, target in enumerate(case.params["broadcast_dimensions"]):
        axes[target] = source
        if source == reach.axis and case.before[0][source] != case.after[0][target]:
            reach = intervals.reduce(reach, [source])  # one position, seen from everywhere
    return [intervals.rearrange(reach, axes)]


def _reshape(case: Case) -> list[Reach] | None:
    (reach,) = case.present
    if case.params.get("dimensions") is not None:
        return None
    return [rearranging.reshape(reach, case.before[0], case.after[0])]


def _squeeze(case: Case) -> list[Reach]:
    (reach,) = case.present
    return [intervals.rearrange(reach, [a for a in range(reach.rank) if a not in case.params["dimensions"]])]


def _transpose(case: Case) -> list[Reach]:
    (reach,) = case.present
    return [intervals.rearrange(reach, list(case.params["permutation"]))]


def _reverse(case: Case) -> list[Reach]:
    (reach,) = case.present
    return [intervals.reverse(reach, case.params["dimensions"])]


def _sort(case: Case) -> list[Reach]:
    reach = intervals.join(case.present)
    axis = case.params.get("dimension", case.params.get("reduction_dimension", case.params.get("axis", -1)))
    return [intervals.reduce(reach, [axis % reach.rank])] * len(case.after)


def _transform(case: Case) -> list[Reach]:
    (reach,) = case.present
    lengths = len(case.params["fft_lengths"])
    return [intervals.reduce(reach, list(range(reach.rank - lengths, reach.rank)))]


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
