"""What a training run carries from step to step."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cnnjax.models import Model, initialize

# As PyTorch's GradScaler.
FIRST_LOSS_SCALE = 2.0**16


class Guard(NamedTuple):
    """What became of the steps so far.

    Attributes:
        refused: steps whose numbers were not finite, and which changed nothing; int32.
        in_a_row: how many of them were the last ones; int32.
        loss_scale: what the loss is multiplied by before it is differentiated; float32, 1 except in float16.
        since: steps taken since the scale last changed; int32.
    """

    refused: Any
    in_a_row: Any
    loss_scale: Any
    since: Any


@flax.struct.dataclass
class TrainState:
    """A frozen pytree: everything that the next step depends on, and nothing else.

    JAX fills pytrees with stand-ins of its own (shapes, shardings), so the types are `Any`.

    Attributes:
        step: steps behind, refused ones included, an int32 scalar.
        params: the model's parameters.
        batch_stats: the model's running statistics; empty where it has none.
        opt_state: the optimizer's state.
        key: random key of the whole run; each step folds its own number in.
        guard: what became of the steps so far.
        averages: running averages of `params` and `batch_stats`, under these names; empty where none are kept.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    key: Any
    guard: Any
    averages: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes: the averages, where they are kept."""
        return dict(self.averages) or {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    model: Model,
    optimizer: optax.GradientTransformation,
    inputs: Any,
    *,
    seed: int,
    averaged: bool = False,
    loss_scaling: bool = False,
) -> TrainState:
    """The state before the first step, for inputs like these.

    Raises:
        ValueError: the inputs do not fit the model (see `models.initialize`).
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = initialize(init_key, model, inputs)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        key=key,
        guard=Guard(
            refused=jnp.zeros((), jnp.int32),
            in_a_row=jnp.zeros((), jnp.int32),
            loss_scale=jnp.asarray(FIRST_LOSS_SCALE if loss_scaling else 1.0, jnp.float32),
            since=jnp.zeros((), jnp.int32),
        ),
        # Copies: two names for one array cannot both be donated.
        averages=jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats}) if averaged else {},
    )
