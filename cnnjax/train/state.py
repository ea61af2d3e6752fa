"""What a training run carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from cnnjax.models import Model, initialize


@flax.struct.dataclass
class TrainState:
    """A frozen pytree: everything that the next step depends on, and nothing else.

    JAX fills pytrees with stand-ins of its own (shapes, shardings), so the types are `Any`.

    Attributes:
        step: steps taken, an int32 scalar.
        params: the model's parameters.
        batch_stats: the model's running statistics; empty where it has none.
        opt_state: the optimizer's state.
        key: random key of the whole run; each step folds its own number in.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    key: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(model: Model, optimizer: optax.GradientTransformation, inputs: Any, *, seed: int) -> TrainState:
    """The state before the first step, for inputs like these.

    Raises:
        ValueError: the inputs do not fit the model (see `models.initialize`).
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = initialize(model, init_key, inputs)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        key=key,
    )
