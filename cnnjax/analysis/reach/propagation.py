"""Reach carried through a program, equation by equation: what every value sees of the image.

Loops whose turns are not written out are run until nothing changes; a choice sees what all of its branches see. What
has no rule is taken to let every output see all that its inputs see, and is reported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.reach import intervals, rules
from cnnjax.analysis.reach.case import Case
from cnnjax.analysis.reach.intervals import Reach
from cnnjax.analysis.tracing import scan_inputs

# Turns of a loop after which it is taken to see the whole input.
_MOST_TURNS = 16


@dataclass(frozen=True, eq=False)
class Propagation:
    """What every value of a program reaches, a tuple over the spatial axes; None where it does not see the image.

    `unknown` names the primitives that have no rule. `misaligned` are the equations where branches meet whose fields
    have other centres at the same position. `loops` are those whose turns are not written out, and which see the image.
    """

    reaches: tuple[tuple[Reach, ...] | None, ...]
    unknown: tuple[str, ...]
    misaligned: tuple[Equation, ...]
    loops: tuple[Equation, ...]


def propagate(program: Program, *, gates: bool = False) -> Propagation:
    """The reach of every value along every spatial axis of the image.

    Without `gates`, a value that meets others at every position without having one itself (a squeeze-and-excitation
    gate, a statistic of the batch) is left out where it meets them.
    """
    shape = program.shapes[program.image]
    walk = _Walk({}, {}, {}, gates)
    per_axis = [
        walk.through(program, {program.image: intervals.of_input(len(shape), axis, shape[axis])}, shape[axis])
        for axis in range(1, len(shape) - 1)
    ]
    reaches = tuple(
        None if any(reach is None for reach in found) else tuple(reach for reach in found if reach is not None)
        for found in zip(*per_axis, strict=True)
    )
    return Propagation(reaches, tuple(walk.unknown), tuple(walk.misaligned), tuple(walk.loops))


def reach_along(program: Program, image: Reach, extent: int, *, gates: bool = False) -> list[Reach | None]:
    """The reach of every value along one axis of `extent` pixels, for an image whose own reach is given."""
    return _Walk({}, {}, {}, gates).through(program, {program.image: image}, extent)


@dataclass(frozen=True, eq=False)
class _Walk:
    unknown: dict[str, None]
    misaligned: dict[Equation, None]
    loops: dict[Equation, None]
    gates: bool

    def through(self, program: Program, given: Mapping[int, Reach], extent: int) -> list[Reach | None]:
        """The reach of every value along one axis of the image, which has `extent` pixels."""
        reaches: list[Reach | None] = [None] * len(program.shapes)
        for value, reach in given.items():
            reaches[value] = reach
        for equation in program.equations:
            found = [reaches[value] for value in equation.inputs]
            # Values without elements (the edges of a padding by zero) see nothing.
            if not any(found) or all(0 in program.shapes[value] for value in equation.outputs):
                continue
            case = Case(program, equation, tuple(found))
            if not self.gates and rules.joins(case):
                case = Case(program, equation, _without_gates(found))
            for value, reach in zip(equation.outputs, self._rule(case, extent), strict=True):
                reaches[value] = None if 0 in program.shapes[value] else reach
        return reaches

    def _rule(self, case: Case, extent: int) -> Sequence[Reach | None]:
        if case.equation.inner:
            # Where branches meet inside of it, it is told as a whole.
            inside = _Walk(self.unknown, {}, {}, self.gates)
            loop = {"cond": inside._cond, "while": inside._while, "scan": inside._scan}[case.equation.primitive]
            outputs = loop(case, extent)
            if inside.misaligned:
                self.misaligned[case.equation] = None
            if inside.loops or case.equation.primitive != "cond":
                self.loops[case.equation] = None
            return outputs
        rule = rules.find(case.equation.primitive)
        if rule is None or (outputs := rule(case)) is None:
            self.unknown[case.equation.primitive] = None
            return rules.see_all(case)
        if rules.joins(case) and not _aligned(case.present, extent):
            self.misaligned[case.equation] = None
        return outputs

    def _inner(self, program: Program, inputs: Sequence[Reach | None], extent: int) -> list[Reach | None]:
        given = {value: reach for value, reach in zip(program.inputs, inputs, strict=True) if reach is not None}
        reaches = self.through(program, given, extent)
        return [reaches[value] for _, value in program.outputs]

    def _cond(self, case: Case, extent: int) -> list[Reach | None]:
        chosen, *inputs = case.inputs
        known = None if chosen is not None else case.constant(0)
        possible = case.equation.inner
        if known is not None:
            place = min(max(int(known), 0), len(possible) - 1)
            possible = possible[place : place + 1]
        branches = [self._inner(branch, inputs, extent) for branch in possible]
        return [
            _union([*outputs, _for_all(chosen, len(shape))])
            for outputs, shape in zip(zip(*branches, strict=True), case.after, strict=True)
        ]

    def _while(self, case: Case, extent: int) -> list[Reach | None]:
        condition, body = case.equation.inner
        checked, fixed = case.equation.params["cond_nconsts"], case.equation.params["body_nconsts"]
        constants, carry = case.inputs[checked:][:fixed], list(case.inputs[checked + fixed :])

        def turn(carry: list[Reach | None]) -> list[Reach | None]:
            (goes_on,) = self._inner(condition, [*case.inputs[:checked], *carry], extent)
            changed = self._inner(body, [*constants, *carry], extent)
            return [
                _union([reach, _for_all(goes_on, len(shape))]) for reach, shape in zip(changed, case.after, strict=True)
            ]

        return self._settle(carry, case.after, turn, extent)

    def _scan(self, case: Case, extent: int) -> list[Reach | None]:
        (body,) = case.equation.inner
        parts = scan_inputs(case.equation.params, range(len(case.inputs)))
        fixed, carry, scanned = ([case.inputs[place] for place in part] for part in parts)
        taken = [
            None if r is None else intervals.rearrange(intervals.reduce(r, [0]), range(1, r.rank)) for r in scanned
        ]
        shapes = [body.shapes[value] for _, value in body.outputs]

        def turn(outputs: list[Reach | None]) -> list[Reach | None]:
            return self._inner(body, [*fixed, *outputs[: len(carry)], *taken], extent)

        outputs = self._settle([*carry, *[None] * (len(shapes) - len(carry))], shapes, turn, extent)
        collected = [
            None if reach is None else intervals.rearrange(reach, [None, *range(reach.rank)])
            for reach in outputs[len(carry) :]
        ]
        return [*outputs[: len(carry)], *collected]

    def _settle(
        self,
        values: list[Reach | None],
        shapes: Sequence[Sequence[int]],
        turn: Callable[[list[Reach | None]], list[Reach | None]],
        extent: int,
    ) -> list[Reach | None]:
        """What values of a loop see after any number of turns."""
        for _ in range(_MOST_TURNS):
            grown = [_union(pair) for pair in zip(values, turn(values), strict=True)]
            if all(_same(*pair) for pair in zip(values, grown, strict=True)):
                return grown
            values = grown
        return [
            None if reach is None else intervals.everything(len(shape), extent)
            for reach, shape in zip(values, shapes, strict=True)
        ]


def _without_gates(reaches: Sequence[Reach | None]) -> tuple[Reach | None, ...]:
    """Those that have a position where they meet: what is the same at every position of the others is left out."""
    axes = {reach.axis for reach in reaches if reach is not None and reach.axis is not None}

    def is_gate(reach: Reach) -> bool:
        return reach.axis is None and all(axis >= reach.rank or reach.low.shape[axis] == 1 for axis in axes)

    return tuple(None if reach is None or (axes and is_gate(reach)) else reach for reach in reaches)


def _union(reaches: Sequence[Reach | None]) -> Reach | None:
    present = [reach for reach in reaches if reach is not None]
    return intervals.join(present) if present else None


def _for_all(reach: Reach | None, rank: int) -> Reach | None:
    """What a scalar sees, for every element of a value."""
    return None if reach is None else intervals.hull(reach, rank)


def _same(one: Reach | None, other: Reach | None) -> bool:
    return one is other or (one is not None and other is not None and intervals.same(one, other))


def _aligned(reaches: Sequence[Reach], extent: int) -> bool:
    """Whether the fields of values that meet have the same centres (Araujo et al. 2019, alignment).

    What sees the whole input from everywhere, as after a gate, has no centre of its own.
    """
    centres = [
        (line.plane_low + line.plane_high).ravel()
        for reach in reaches
        if reach.axis is not None
        for line in [intervals.line(reach, reach.axis)]
        if (line.plane_low <= line.plane_high).all() and ((line.plane_low > 0) | (line.plane_high < extent - 1)).any()
    ]
    return all(np.array_equal(centres[0], other) for other in centres[1:] if len(other) == len(centres[0]))
