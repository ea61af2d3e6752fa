"""Models by name."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import flax.linen as nn

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

_BUILDERS: dict[str, Callable[..., nn.Module]] = {}


def register(builder: Builder) -> Builder:
    """Enters a function that builds a model under the function's own name.

    Raises:
        ValueError: the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"model {name!r} is registered already, by {_BUILDERS[name].__module__}")
    _BUILDERS[name] = builder
    return builder


def names(pattern: str = "*") -> tuple[str, ...]:
    """Names of the registered models that match a shell pattern, sorted.

    >>> names("lenet*")
    ('lenet5',)
    """
    return tuple(sorted(name for name in _BUILDERS if fnmatchcase(name, pattern)))


def create(name: str, **options: Any) -> nn.Module:
    """Builds a registered model.

    Raises:
        ValueError: no model has that name (near matches are listed), or an option is not one of the model's.

    >>> create("lenet5", num_classes=7).num_classes
    7
    """
    if name not in _BUILDERS:
        near = get_close_matches(name, _BUILDERS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"unknown model {name!r}; {hint}")
    allowed = inspect.signature(_BUILDERS[name]).parameters
    for option in options:
        if option not in allowed:
            near = get_close_matches(option, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(allowed)}"
            raise ValueError(f"model {name!r} has no option {option!r}; {hint}")
    return _BUILDERS[name](**options)
