"""Optax optimizers and schedules from settings."""

from typing import Any

import jax
import optax

from cnnjax.train import config


def make_schedule(schedule: config.Schedule, *, learning_rate: float, steps: int) -> optax.Schedule:
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
    }[schedule.name]()
    if not warmup:
        return main
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup), main], [warmup])


def make_optimizer(optimizer: config.Optimizer, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The update rule; weight decay touches kernels (arrays of two axes and more) only."""
    momentum, decay = optimizer.momentum, optimizer.weight_decay
    if optimizer.name == "adamw":
        return optax.adamw(schedule, b1=momentum, weight_decay=decay, mask=_kernels)
    rule = {
        "sgd": lambda: optax.sgd(schedule),
        "momentum": lambda: optax.sgd(schedule, momentum=momentum),
        "nesterov": lambda: optax.sgd(schedule, momentum=momentum, nesterov=True),
        "rmsprop": lambda: optax.rmsprop(schedule, momentum=momentum),
        "adam": lambda: optax.adam(schedule, b1=momentum),
    }[optimizer.name]()
    return optax.chain(optax.add_decayed_weights(decay, mask=_kernels), rule) if decay else rule


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
