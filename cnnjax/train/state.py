"""What a training run carries from step to step."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cnnjax.models import Model, check_inputs, initialize, stack, unstack
from cnnjax.settings import differences

# As PyTorch's GradScaler.
FIRST_LOSS_SCALE = 2.0**16

# Differences that are told before the rest are counted.
_LISTED = 6


class Guard(NamedTuple):
    """Counters of skipped steps, and the dynamic loss scale.

    Attributes:
        skipped: steps whose numbers were not finite, and which changed nothing; int32.
        skipped_in_a_row: how many of the last steps were skipped; int32.
        loss_scale: what the loss is multiplied by before it is differentiated; float32, 1 except in float16.
        good_steps: steps taken since the scale last changed; int32.
    """

    skipped: Any
    skipped_in_a_row: Any
    loss_scale: Any
    good_steps: Any


@flax.struct.dataclass
class TrainState:
    """A frozen pytree: everything that the next step depends on, and nothing else.

    JAX fills pytrees with stand-ins of its own (shapes, shardings), so the types are `Any`.

    Attributes:
        step: number of steps so far, skipped ones included, an int32 scalar.
        params: the model's parameters.
        model_state: all other collections of the model's variables by name, such as "batch_stats".
        opt_state: the optimizer's state.
        key: random key of the whole run; each step folds its own number in.
        guard: counters of skipped steps, and the loss scale.
        averages: running averages of `params` and of the collections of `model_state`, by name; empty where none are
            kept.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    key: Any
    guard: Any
    averages: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes: the averages, where they are kept."""
        return dict(self.averages) or {"params": self.params, **self.model_state}


def create_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    inputs: Any,
    *,
    seed: int,
    variables: Mapping[str, Any] | None = None,
    averaged: bool = False,
    loss_scaling: bool = False,
) -> TrainState:
    """The state before the first step, for inputs like these.

    Args:
        model: the Flax module.
        optimizer: whose state it begins with.
        inputs: of the model, as arrays or `jax.ShapeDtypeStruct`.
        seed: of the initial variables and of all later draws.
        variables: to start from, all collections of the model; drawn where None.
        averaged: whether running averages of the variables are kept.
        loss_scaling: whether the loss is scaled, as float16 needs it.

    Raises:
        ValueError: the inputs do not fit the model (see `models.initialize`), or the variables are not those of the
            model; the message lists what differs.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = initialize(init_key, model, inputs) if variables is None else fitting(model, variables, inputs)
    # What a module notes for whoever looks at it is no state.
    model_state = {name: tree for name, tree in variables.items() if name not in ("params", "intermediates")}
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=model_state,
        opt_state=optimizer.init(params),
        key=key,
        guard=Guard(
            skipped=jnp.zeros((), jnp.int32),
            skipped_in_a_row=jnp.zeros((), jnp.int32),
            loss_scale=jnp.asarray(FIRST_LOSS_SCALE if loss_scaling else 1.0, jnp.float32),
            good_steps=jnp.zeros((), jnp.int32),
        ),
        # Copies: two names for one array cannot both be donated.
        averages=jax.tree.map(jnp.copy, {"params": params, **model_state}) if averaged else {},
    )


def fitting(model: Model, variables: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
    """Variables as arrays of a model's own types, stacked where it scans, if they are those of the model.

    Raises:
        ValueError: a collection or an array is missing, left over or of another shape; the message lists them.
    """
    check_inputs(model, inputs)
    like = dict(jax.eval_shape(lambda key: initialize(key, model, inputs), jax.random.key(0)))
    like.pop("intermediates", None)
    given = {name: tree for name, tree in variables.items() if name in like or jax.tree.leaves(tree)}
    there, here = (describe_shapes(unstack(tree)) for tree in (given, like))
    if there != here:
        wrong = differences(there, here)
        more = f"; and {len(wrong) - _LISTED} more" if len(wrong) > _LISTED else ""
        raise ValueError(
            f"variables are not those of {type(model).__name__} ({'; '.join(wrong[:_LISTED])}{more}); start from all"
            " variables of this model, such as models.initialize gives, with some of them replaced"
        )
    return jax.tree.map(lambda array, leaf: jnp.array(array, leaf.dtype), stack(unstack(given), like), like)


def describe_shapes(tree: Any) -> dict[str, str]:
    """The shape of every array of a tree, in words, by its path."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): "x".join(map(str, leaf.shape)) or "one number"
        for path, leaf in paths
    }
