"""Optax optimizers and schedules from settings."""

from typing import Any

import jax
import optax
from optax import contrib

from cnnjax.train import settings


def make_schedule(schedule: settings.Schedule, *, learning_rate: float, steps: int) -> optax.Schedule:
    """Learning rate as a function of the step, for a run of `steps` steps."""
    warmup = round(schedule.warmup * steps)
    if schedule.name == "one_cycle":
        # The shares and factors of fastai and PyTorch, with a straight rise.
        rising = max(round((schedule.warmup or 0.3) * steps), 1)
        return optax.warmup_cosine_decay_schedule(
            learning_rate / 25, learning_rate, rising, max(steps, rising + 1), learning_rate / 25e4
        )
    rest = max(steps - warmup, 1)
    main = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "step": lambda: optax.piecewise_constant_schedule(
            learning_rate, {max(steps // 2 - warmup, 1): 0.1, max(steps * 3 // 4 - warmup, 2): 0.1}
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
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), main], [warmup])


def make_optimizer(optimizer: settings.Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The update rule; weight decay touches kernels (arrays of two axes and more) only.

    Gradients are clipped before all else. LARS and LAMB scale the update of every kernel by the ratio of norms, and
    Muon makes it orthogonal, a kernel of a convolution being a matrix of its taps and inputs by its outputs; the
    arrays of one axis are updated by the plain rule (LARS, LAMB) or by AdamW (Muon).

    Reference: You et al. (2017), "Large Batch Training of Convolutional Networks"; You et al. (2020), "Large Batch
    Optimization for Deep Learning"; Jordan et al. (2024), "Muon".
    """
    momentum, decay = optimizer.momentum, optimizer.weight_decay
    decoupled = {
        "adamw": lambda: optax.adamw(schedule, b1=momentum, weight_decay=decay, mask=_kernels),
        "lars": lambda: optax.lars(
            schedule, decay, weight_decay_mask=_kernels, trust_ratio_mask=_kernels, momentum=momentum
        ),
        "lamb": lambda: optax.lamb(schedule, b1=momentum, weight_decay=decay, mask=_kernels),
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


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _matrices(params: Any) -> Any:
    """For Muon: which axes of a kernel are its rows, all but the last being summed over, and which its columns."""

    def numbers(leaf: Any) -> Any:
        if leaf.ndim < 2:
            return None
        return contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), (leaf.ndim - 1,))

    return jax.tree.map(numbers, params)
