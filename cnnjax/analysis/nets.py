"""What every analysis takes first: a network with its weights, any function of pictures, or a bare model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
from jax.typing import DTypeLike

from cnnjax.models import Bound, Model, inference_options

# `models.bind(model, variables)`, a trained run, or any function; where no weights are needed, a Flax model as well.
Net: TypeAlias = Model | Callable[..., Any]


def as_bound(net: Net) -> Bound | None:
    """A net that knows its model and variables; None for any other function, and for a model without them."""
    # A Flax model may have a part that is called `model`.
    return net if not isinstance(net, Model) and isinstance(net, Bound) else None


def with_weights(net: Net) -> Bound:
    """A net that knows its model and variables.

    Raises:
        ValueError: another function came, or a model without them.
    """
    bound = as_bound(net)
    if bound is None:
        raise ValueError(f"net is a {type(net).__name__}; expected one with weights: models.bind(model, variables)")
    return bound


def model_of(net: Net) -> Model | None:
    """The Flax model behind a net, if it is known."""
    bound = as_bound(net)
    return net if isinstance(net, Model) else None if bound is None else bound.model


def variables_of(net: Net, shape: Sequence[int], dtype: DTypeLike) -> Mapping[str, Any] | None:
    """The variables of a net, or their shapes where it is a bare model; None of any other function."""
    if not isinstance(net, Model):
        bound = as_bound(net)
        return None if bound is None else bound.variables
    init = partial(net.init, **inference_options(net))
    return jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct(tuple(shape), dtype))
