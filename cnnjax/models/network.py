"""A model together with its variables: a function of pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
from flax import errors

from cnnjax.models.initialization import inference_options
from cnnjax.models.registry import Model, name_of
from cnnjax.models.stacking import unstack

# Differences between what a model needs and what it was given that are listed.
_MOST_LISTED = 5


@runtime_checkable
class Bound(Protocol):
    """A function of pictures that knows its model and variables: a `Network`, or a trained run.

    It is a frozen dataclass, so that `dataclasses.replace(net, variables=...)` is the same net with other weights.
    """

    @property
    def model(self) -> Model:
        """The Flax model."""

    @property
    def variables(self) -> Mapping[str, Any]:
        """Its variables, all collections."""

    def __call__(self, images: Any, /) -> Any:
        """What the model makes of pictures."""


@dataclass(frozen=True, eq=False, repr=False)
class Network:
    """A model with its variables, called with pictures (see `bind`)."""

    model: Model
    variables: Mapping[str, Any]

    def __call__(self, images: Any, **options: Any) -> Any:
        """`model.apply(variables, images, train=False, **options)`.

        Args:
            images: what the model takes.
            options: of `model.apply`, or of the model, such as `stages`; `train` for another way than inference.

        Raises:
            ValueError: the variables are not those of the model; what is missing and what has another shape is listed.
        """
        try:
            return self.model.apply(self.variables, images, **{**inference_options(self.model), **options})
        except (errors.ScopeCollectionNotFound, errors.ScopeParamNotFoundError, errors.ScopeParamShapeError) as error:
            raise ValueError(self._misfit(images) or str(error)) from error

    def __repr__(self) -> str:
        leaves = jax.tree.leaves(self.variables.get("params", {}))
        others = "".join(f", {name}" for name in self.variables if name != "params")
        return f"Network({name_of(self.model)}, {sum(leaf.size for leaf in leaves):,} parameters{others})"

    def _misfit(self, images: Any) -> str:
        """In what the variables differ from those that the model needs for pictures like these."""
        init = partial(self.model.init, **inference_options(self.model))
        needed, given = (
            {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}
            for leaves in map(
                jax.tree_util.tree_leaves_with_path,
                (unstack(jax.eval_shape(init, jax.random.key(0), images)), unstack(self.variables)),
            )
        )
        missing = [f"{name} {shape} is missing" for name, shape in needed.items() if name not in given]
        wrong = [
            f"{name} is {given[name]}, expected {shape}"
            for name, shape in needed.items()
            if given.get(name, shape) != shape
        ]
        listed = [*missing, *wrong]
        if not listed:
            return ""
        more = f"; and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
        return f"the variables are not those of {name_of(self.model)}: {'; '.join(listed[:_MOST_LISTED])}{more}"


def bind(model: Model, variables: Mapping[str, Any]) -> Network:
    """Joins a model and its variables to a function of pictures, which all analyses take.

    Args:
        model: a Flax model.
        variables: all of its collections, as `models.initialize` gives them.

    Returns:
        A `Network`: `net(images)` is `model.apply(variables, images, train=False)`.

    Raises:
        ValueError: what came is no model, or no mapping of collections, one of which is "params".

    >>> import jax.numpy as jnp
    >>> from cnnjax import models
    >>> model, pictures = models.create("lenet5"), jnp.zeros((1, 32, 32, 1))
    >>> net = bind(model, models.initialize(jax.random.key(0), model, pictures))
    >>> net
    Network(lenet5, 61,706 parameters)
    >>> net(pictures).shape
    (1, 10)
    """
    if not isinstance(model, Model):
        raise ValueError(f"model is of type {type(model).__name__}; expected a Flax model: bind(model, variables)")
    if not isinstance(variables, Mapping):
        raise ValueError(
            f"variables are of type {type(variables).__name__}; expected collections by name, as models.initialize"
            " gives them"
        )
    if variables and "params" not in variables:
        raise ValueError(
            f"variables have the collections {', '.join(map(str, variables))}; expected params among them: bind(model,"
            ' {"params": params}) where parameters came alone'
        )
    return Network(model, variables)
