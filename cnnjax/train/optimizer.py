"""Optax optimizers and schedules from settings."""

import math
from typing import Any

import jax
import optax
from optax import contrib

from cnnjax.models.stacking import map_layers, stack_axes
from cnnjax.train import settings


def make_schedule(schedule: settings.Schedule, *, learning_rate: float, steps: int) -> optax.Schedule:
    r"""Learning rate as a function of the step, counted from 0, for a run of `steps` steps; above zero in all of them.

    A warm-up of w steps has the rates $r (t + 1) / w$: its last step has the whole rate, and so has the step after it,
    with which the rest of the schedule begins.
    """
    warmup = round(schedule.warmup * steps)
    if schedule.name == "one_cycle":
        # The shares and factors of fastai and PyTorch, with a straight rise.
        rising = min(max(round((schedule.warmup or 0.3) * steps), 1), steps - 1)
        return optax.warmup_cosine_decay_schedule(
            learning_rate / 25, learning_rate, rising, steps, learning_rate / 25e4
        )
    rest = max(steps - warmup, 1)
    half, three_quarters = math.ceil(steps / 2), math.ceil(steps * 3 / 4)
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "step": lambda: optax.piecewise_constant_schedule(
            learning_rate, {half - warmup: 0.1, three_quarters - warmup: 0.1}
        ),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest),
        "linear": lambda: optax.linear_schedule(learning_rate, 0.0, rest),
        "exponential": lambda: optax.exponential_decay(learning_rate, rest, 1e-2),
        "trapezoid": lambda: optax.join_schedules(
            [optax.constant_schedule(learning_rate), optax.linear_schedule(learning_rate, 0.0, max(rest // 5, 1))],
            [rest - max(rest // 5, 1)],
        ),
    }[schedule.name]()
    if not warmup:
        return main
    rise = optax.linear_schedule(learning_rate / warmup, learning_rate, max(warmup - 1, 1))
    return optax.join_schedules([rise, main], [warmup])


def make_optimizer(optimizer: settings.Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The update rule; weight decay touches kernels (arrays of two axes and more) only.

    Gradients are clipped before all else. LARS scales the update of every kernel, and LAMB that of every array, by the
    ratio of norms. Muon makes the update of a kernel orthogonal, a kernel of a convolution being a matrix of its taps
    and inputs by its outputs. The arrays of one axis are updated by plain momentum (LARS) or by AdamW (Muon). All this
    is done layer by layer: parameters of scanned blocks, which lie in one array, are updated as those of single blocks.

    Reference: You et al. (2017), "Large Batch Training of Convolutional Networks"; You et al. (2020), "Large Batch
    Optimization for Deep Learning"; Jordan et al. (2024), "Muon".
    """
    momentum, decay = optimizer.momentum, optimizer.weight_decay
    decoupled = {
        "adamw": lambda: optax.adamw(schedule, b1=momentum, weight_decay=decay, mask=_kernels),
        # `optax.lars` and `optax.lamb`, with a ratio for each layer.
        "lars": lambda: optax.chain(
            optax.add_decayed_weights(decay, mask=_kernels),
            optax.masked(_by_layer(optax.scale_by_trust_ratio(trust_coefficient=1e-3)), _kernels),
            optax.scale_by_learning_rate(schedule),
            optax.trace(momentum),
        ),
        "lamb": lambda: optax.chain(
            optax.scale_by_adam(b1=momentum, eps=1e-6),
            optax.add_decayed_weights(decay, mask=_kernels),
            _by_layer(optax.scale_by_trust_ratio()),
            optax.scale_by_learning_rate(schedule),
        ),
        "muon": lambda: contrib.muon(
            schedule,
            beta=momentum,
            weight_decay=decay,
            weight_decay_mask=_kernels,
            muon_weight_dimension_numbers=_matrices,
        ),
    }
    plain = {
        "sgd": lambda: optax.sgd(schedule),
        "momentum": lambda: optax.sgd(schedule, momentum=momentum),
        "nesterov": lambda: optax.sgd(schedule, momentum=momentum, nesterov=True),
        "rmsprop": lambda: optax.rmsprop(schedule, momentum=momentum),
        "adam": lambda: optax.adam(schedule, b1=momentum),
    }
    rule = (decoupled | plain)[optimizer.name]()
    if decay and optimizer.name in plain:
        rule = optax.chain(optax.add_decayed_weights(decay, mask=_kernels), rule)
    return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), rule) if optimizer.clip_norm else rule


def _by_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """A rule without state, given the arrays of one layer at a time."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return map_layers(lambda update, param: rule.update(update, state, param)[0], updates, params), state

    return optax.GradientTransformation(rule.init, update)


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf, stacked: leaf.ndim - stacked > 1, params, stack_axes(params))


def _matrices(params: Any) -> Any:
    """For Muon: which axes of a kernel are its rows, all but the last being summed over, and which its columns.

    An axis that is neither counts matrices.
    """

    def numbers(leaf: Any, stacked: int) -> Any:
        if leaf.ndim - stacked < 2:
            return None
        return contrib.MuonDimensionNumbers(tuple(range(stacked, leaf.ndim - 1)), (leaf.ndim - 1,))

    return jax.tree.map(numbers, params, stack_axes(params))
