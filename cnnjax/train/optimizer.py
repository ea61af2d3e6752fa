"""Optax optimizers and schedules from settings; parameters that stay, or have rates of their own."""

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np
import optax
from optax import contrib

from cnnjax import settings
from cnnjax.models.stacking import map_layers, stack, stack_axes, unstack

# Settings of some update rules only.
_OF_SOME = {
    "b2": ("rmsprop", "adam", "adamw", "lamb", "muon"),
    "eps": ("rmsprop", "adam", "adamw", "lamb", "muon"),
    "momentum_dtype": ("momentum", "nesterov", "adam", "adamw", "lars", "lamb", "muon"),
}


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
    Parameters that stay, and rates of their own, are not of the rule; see `by_path`.

    Reference: You et al. (2017), "Large Batch Training of Convolutional Networks"; You et al. (2020), "Large Batch
    Optimization for Deep Learning"; Jordan et al. (2024), "Muon".

    Raises:
        ValueError: a setting is given that the rule has not.
    """
    for name, rules in _OF_SOME.items():
        if getattr(optimizer, name) is not None and optimizer.name not in rules:
            raise ValueError(
                f"optimizer.{name}={getattr(optimizer, name)!r}, but {optimizer.name} has none; leave it out, or choose"
                f" one of {', '.join(rules)}"
            )
    momentum, decay, dtype = optimizer.momentum, optimizer.weight_decay, optimizer.momentum_dtype
    b2 = 0.999 if optimizer.b2 is None else optimizer.b2
    eps = 1e-8 if optimizer.eps is None else optimizer.eps
    adam: dict[str, Any] = {"b1": momentum, "b2": b2, "eps": eps, "mu_dtype": dtype}
    decoupled = {
        "adamw": lambda: optax.adamw(schedule, **adam, weight_decay=decay, mask=_kernels),
        # `optax.lars` and `optax.lamb`, with a ratio for each layer.
        "lars": lambda: optax.chain(
            optax.add_decayed_weights(decay, mask=_kernels),
            optax.masked(_by_layer(optax.scale_by_trust_ratio(trust_coefficient=1e-3)), _kernels),
            optax.scale_by_learning_rate(schedule),
            optax.trace(momentum, accumulator_dtype=dtype),
        ),
        "lamb": lambda: optax.chain(
            optax.scale_by_adam(**adam | {"eps": 1e-6 if optimizer.eps is None else eps}),
            optax.add_decayed_weights(decay, mask=_kernels),
            _by_layer(optax.scale_by_trust_ratio()),
            optax.scale_by_learning_rate(schedule),
        ),
        "muon": lambda: contrib.muon(
            schedule,
            beta=momentum,
            eps=eps,
            adam_b2=b2,
            mu_dtype=dtype,
            weight_decay=decay,
            weight_decay_mask=_kernels,
            muon_weight_dimension_numbers=_matrices,
        ),
    }
    plain = {
        "sgd": lambda: optax.sgd(schedule),
        "momentum": lambda: optax.sgd(schedule, momentum=momentum, accumulator_dtype=dtype),
        "nesterov": lambda: optax.sgd(schedule, momentum=momentum, nesterov=True, accumulator_dtype=dtype),
        "rmsprop": lambda: optax.rmsprop(
            schedule, decay=0.9 if optimizer.b2 is None else b2, eps=eps, momentum=momentum
        ),
        "adam": lambda: optax.adam(schedule, **adam),
    }
    rule = (decoupled | plain)[optimizer.name]()
    if decay and optimizer.name in plain:
        rule = optax.chain(optax.add_decayed_weights(decay, mask=_kernels), rule)
    return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), rule) if optimizer.clip_norm else rule


def by_path(
    rule: optax.GradientTransformation, *, frozen: Sequence[str] = (), rates: Mapping[str, float] | None = None
) -> optax.GradientTransformation:
    """A rule under which parameters of some paths stay as they are, and others have a learning rate of their own.

    Args:
        rule: any Optax transformation, whose updates are scaled; of frozen parameters it sees and keeps nothing.
        frozen: patterns of the paths of parameters that stay.
        rates: factors of the updates by pattern; the first that fits counts, and 1 where none does.

    Returns:
        The rule; `init` raises ValueError if a pattern fits no parameter, or some of several scanned blocks.
    """
    factors = dict(rates or {})
    if factors:
        rule = optax.chain(rule, _scale_by_path(factors))
    if not frozen:
        return rule

    def labels(params: Any) -> Any:
        held = frozen_parameters(params, frozen)
        return jax.tree.map(lambda stays: "frozen" if stays else "trained", held)

    return optax.partition({"trained": rule, "frozen": optax.set_to_zero()}, labels)


def frozen_parameters(params: Any, patterns: Sequence[str]) -> Any:
    """Whether each parameter stays as it is, by patterns of its path.

    Raises:
        ValueError: a pattern fits no parameter, or some of several scanned blocks.
    """
    _check_patterns(params, patterns)
    return _chosen(params, lambda path: any(fits(path, pattern) for pattern in patterns))


def fits(path: str, pattern: str) -> bool:
    """Whether a pattern fits a path, or a module above it.

    >>> fits("stage1/conv2/kernel", "stage1"), fits("stage1/conv2/kernel", "conv2"), fits("stage1/bn/scale", "*/bn*")
    (True, False, True)
    """
    parts = path.split("/")
    return any(fnmatchcase("/".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
    def factor(path: str) -> float:
        return next((factor for pattern, factor in factors.items() if fits(path, pattern)), 1.0)

    def init(params: Any) -> optax.EmptyState:
        _check_patterns(params, tuple(factors))
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        chosen = _chosen(updates, factor)
        return jax.tree.map(lambda leaf, factor: (leaf * factor).astype(leaf.dtype), updates, chosen), state

    return optax.GradientTransformation(init, update)


def _check_patterns(params: Any, patterns: Sequence[str]) -> None:
    paths = _paths(params)
    for pattern in patterns:
        if not any(fits(path, pattern) for path in paths):
            modules = dict.fromkeys(path.rpartition("/")[0] or path for path in paths)
            near = get_close_matches(pattern, modules, n=3) or list(modules)[:6]
            raise ValueError(f"no parameter has a path that fits {pattern!r}; there are {', '.join(near)}, ...")


def _paths(params: Any) -> list[str]:
    leaves = jax.tree_util.tree_leaves_with_path(unstack(params))
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def _chosen(params: Any, choose: Callable[[str], float]) -> Any:
    """A number for each parameter, by its path in the model that is not scanned."""

    def each(path: Any, _: Any) -> np.ndarray:
        return np.asarray(choose(jax.tree_util.keystr(path, simple=True, separator="/")))

    def one(path: Any, chosen: Any) -> Any:
        values = np.unique(chosen)
        if len(values) > 1:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"patterns tell apart blocks of {name}, which are scanned; create the model with scan=False"
            )
        return values[0].item()

    shapes = jax.eval_shape(lambda tree: tree, params)
    return jax.tree_util.tree_map_with_path(one, stack(jax.tree_util.tree_map_with_path(each, unstack(shapes)), shapes))


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
