"""What each primitive does to reach: one rule per family of primitives.

An unknown primitive is taken to let every output see all that its inputs see, and is reported.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from cnnjax.analysis import reach as reaching
from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.reach import Reach

Shape: TypeAlias = tuple[int, ...]
Rule: TypeAlias = Callable[[Equation, list[Reach | None], list[Shape], list[Shape]], list[Reach]]

_ELEMENTWISE = frozenset(
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
    "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split()
)
_WINDOWS = frozenset("reduce_window_sum reduce_window_max reduce_window_min reduce_window".split())


def propagate(program: Program) -> tuple[list[tuple[Reach, ...] | None], tuple[str, ...]]:
    """The reach of every value along every spatial axis of the image, and the primitives that have no rule.

    None stands for a value that does not depend on the image.
    """
    shape = program.shapes[program.image]
    reaches: list[tuple[Reach, ...] | None] = [None] * len(program.shapes)
    reaches[program.image] = tuple(
        reaching.of_input(len(shape), axis, shape[axis]) for axis in range(1, len(shape) - 1)
    )
    unknown: dict[str, None] = {}
    for equation in program.equations:
        found = [reaches[value] for value in equation.inputs]
        shapes_in = [program.shapes[value] for value in equation.inputs]
        shapes_out = [program.shapes[value] for value in equation.outputs]
        # Values without elements (the edges of a padding by zero) see nothing.
        if not any(found) or all(0 in out for out in shapes_out):
            continue
        rule = _rule(equation.primitive)
        if rule is _unknown:
            unknown[equation.primitive] = None
        per_axis = [
            rule(equation, [None if reach is None else reach[axis] for reach in found], shapes_in, shapes_out)
            for axis in range(len(shape) - 2)
        ]
        for value, reach in zip(equation.outputs, zip(*per_axis, strict=True), strict=True):
            reaches[value] = None if 0 in program.shapes[value] else reach
    return reaches, tuple(unknown)


def _rule(primitive: str) -> Rule:
    if primitive in _ELEMENTWISE:
        return _elementwise
    if primitive in _REDUCTIONS:
        return _reduce
    if primitive in _WINDOWS:
        return _reduce_window
    return _RULES.get(primitive, _unknown)


def _present(inputs: Sequence[Reach | None]) -> list[Reach]:
    return [reach for reach in inputs if reach is not None]


def _unknown(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    return [reaching.join([reaching.hull(r, len(shape)) for r in _present(inputs)]) for shape in after]


def _elementwise(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    if len(after) > 1:
        # Several values pass side by side, each to its own place.
        return [
            reaching.nowhere(len(shape)) if reach is None else reach for reach, shape in zip(inputs, after, strict=True)
        ]
    # Scalars (a predicate, a bound) act on every element.
    return [
        reaching.join([r if r.rank == len(after[0]) else reaching.hull(r, len(after[0])) for r in _present(inputs)])
    ]


def _reduce(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    axes = eqn.params["axes"]
    kept = [axis for axis in range(reach.rank) if axis not in axes]
    return [reaching.rearrange(reaching.reduce(reach, axes), kept)]


def _reduce_window(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    operands = len(inputs) // 2 if eqn.primitive == "reduce_window" else len(inputs)
    if _present(inputs[operands:]):
        return _unknown(eqn, inputs, before, after)
    reach = reaching.join(_present(inputs))
    params = eqn.params
    for dim, window in enumerate(params["window_dimensions"]):
        low, high = params["padding"][dim]
        stride, base = params["window_strides"][dim], params["base_dilation"][dim]
        if window > 1 or stride > 1 or base > 1 or low or high:
            reach = reaching.slide(
                reach,
                dim,
                before[0][dim],
                after[0][dim],
                window=window,
                stride=stride,
                before=low,
                dilation=params["window_dilation"][dim],
                base_dilation=base,
            )
    return [reach for _ in after]


def _convolution(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    images, kernel = inputs
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    if images is None or kernel is not None or params["batch_group_count"] != 1:
        return _unknown(eqn, inputs, before, after)
    channel_in, channel_out = numbers.lhs_spec[1], numbers.out_spec[1]
    groups = params["feature_group_count"]
    channels = after[0][channel_out]
    reach = reaching.mix_groups(images, channel_in, groups, channels)
    for number, dim in enumerate(numbers.lhs_spec[2:]):
        reach = reaching.slide(
            reach,
            dim,
            before[0][dim],
            after[0][numbers.out_spec[2:][number]],
            window=before[1][numbers.rhs_spec[2:][number]],
            stride=params["window_strides"][number],
            before=params["padding"][number][0],
            dilation=params["rhs_dilation"][number],
            base_dilation=params["lhs_dilation"][number],
        )
    order = [0] * reach.rank
    for source, target in zip(numbers.lhs_spec, numbers.out_spec, strict=True):
        order[target] = source
    return [reaching.rearrange(reach, order)]


def _dot(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    contract, batch = eqn.params["dimension_numbers"]
    products = []
    for side, reach in enumerate(inputs):
        if reach is None:
            continue
        free: list[int | None] = [axis for axis in range(reach.rank) if axis not in (*contract[side], *batch[side])]
        others: list[int | None] = [None] * (len(after[0]) - len(free) - len(batch[side]))
        order = [*batch[side], *free, *others] if side == 0 else [*batch[side], *others, *free]
        products.append(reaching.rearrange(reaching.reduce(reach, contract[side]), order))
    return [reaching.join(products)]


def _pad(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    reach, fill = inputs
    if reach is None or fill is not None:
        return _unknown(eqn, inputs, before, after)
    for dim, amounts in enumerate(eqn.params["padding_config"]):
        low, high, interior = map(int, amounts)
        if low or high or interior:
            reach = reaching.slide(
                reach, dim, before[0][dim], after[0][dim], window=1, before=low, base_dilation=interior + 1
            )
    return [reach]


def _slice(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    params = eqn.params
    strides = params["strides"] or (1,) * reach.rank
    for dim, bounds in enumerate(zip(params["start_indices"], params["limit_indices"], strides, strict=True)):
        reach = reaching.take(reach, dim, *bounds)
    return [reach]


def _split(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    parts, start = [], 0
    for size in map(int, eqn.params["sizes"]):
        parts.append(reaching.take(reach, eqn.params["axis"], start, start + size, 1))
        start += size
    return parts


def _concatenate(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    dimension = eqn.params["dimension"]
    sizes = [shape[dimension] for shape in before]
    return [reaching.concatenate(inputs, sizes, dimension, len(after[0]))]


def _stack(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    axis, rank = eqn.params["axis"], len(after[0])
    order: list[int | None] = list(range(rank - 1))
    order.insert(axis, None)
    layers = [None if reach is None else reaching.rearrange(reach, order) for reach in inputs]
    return [reaching.concatenate(layers, [1] * len(layers), axis, rank)]


def _broadcast(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    axes: list[int | None] = [None] * len(after[0])
    for source, target in enumerate(eqn.params["broadcast_dimensions"]):
        axes[target] = source
        if source == reach.axis and before[0][source] != after[0][target]:
            reach = reaching.reduce(reach, [source])  # one position, seen from everywhere
    return [reaching.rearrange(reach, axes)]


def _reshape(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    if eqn.params.get("dimensions") is not None:
        return _unknown(eqn, inputs, before, after)
    return [reaching.reshape(reach, before[0], after[0])]


def _squeeze(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    return [reaching.rearrange(reach, [a for a in range(reach.rank) if a not in eqn.params["dimensions"]])]


def _transpose(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    return [reaching.rearrange(reach, list(eqn.params["permutation"]))]


def _reverse(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    (reach,) = _present(inputs)
    return [reaching.reverse(reach, eqn.params["dimensions"])]


def _sort(eqn: Equation, inputs: list[Reach | None], before: list[Shape], after: list[Shape]) -> list[Reach]:
    everything = reaching.reduce(reaching.join(_present(inputs)), [eqn.params["dimension"]])
    return [everything for _ in after]


_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
}
