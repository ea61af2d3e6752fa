"""Models by name."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn

Model: TypeAlias = nn.Module


class Stage(NamedTuple):
    """A feature map that detectors and segmenters may take: the path of the module it leaves, and its channels."""

    name: str
    channels: int


class Entry(NamedTuple):
    """A registered model: what builds it, with which options, and the shape of the pictures it was designed for."""

    builder: Callable[..., Model]
    variant: dict[str, Any]
    image_shape: tuple[int, int, int]


_ENTRIES: dict[str, Entry] = {}


def register(name: str, builder: Callable[..., Model], image_shape: tuple[int, int, int], **variant: Any) -> None:
    """Enters a model under a name: what builds it (a module's class), and the options that make it this variant.

    `image_shape` is height, width and channels of the pictures it was designed for.

    Raises:
        ValueError: the name is taken.
    """
    if name in _ENTRIES:
        raise ValueError(f"model {name!r} is registered already, by {_ENTRIES[name].builder.__module__}")
    _ENTRIES[name] = Entry(builder, variant, image_shape)


def names(pattern: str = "*") -> tuple[str, ...]:
    """Names of the registered models that match a shell pattern, sorted.

    >>> names("lenet*")
    ('lenet5', 'lenet5_1998')
    """
    return tuple(sorted(name for name in _ENTRIES if fnmatchcase(name, pattern)))


def create(name: str, **options: Any) -> Model:
    """Builds a registered model.

    Raises:
        ValueError: no model has that name (near matches are listed), or an option is not one of the model's.

    >>> create("lenet5", num_classes=7).num_classes
    7
    """
    entry, allowed = _entry(name), options_of(name)
    for option in options:
        if option not in allowed:
            near = get_close_matches(option, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(allowed)}"
            raise ValueError(f"model {name!r} has no option {option!r}; {hint}")
    return entry.builder(**{**entry.variant, **options})


def options_of(name: str) -> tuple[str, ...]:
    """The options that `create` takes for a model.

    Raises:
        ValueError: no model has that name.

    >>> options_of("lenet5")
    ('num_classes', 'dtype', 'param_dtype')
    """
    options = inspect.signature(_entry(name).builder).parameters
    return tuple(option for option in options if option not in ("parent", "name"))


def image_shape(name: str) -> tuple[int, int, int]:
    """Height, width and channels of the pictures that a registered model was designed for.

    Raises:
        ValueError: no model has that name.

    >>> image_shape("lenet5")
    (32, 32, 1)
    """
    return _entry(name).image_shape


def designed_for(model: Model) -> tuple[int, int, int]:
    """Height, width and channels of the pictures that a registered model's class was designed for.

    Raises:
        ValueError: the class is not registered.

    >>> designed_for(create("lenet5", num_classes=2))
    (32, 32, 1)
    """
    for entry in _ENTRIES.values():
        if entry.builder is type(model):
            return entry.image_shape
    raise ValueError(f"{type(model).__name__} is not registered; say the shape of pictures (batch, *spatial, channels)")


def name_of(model: Model) -> str:
    """The name that a model is registered under, with whatever number of classes; its class's where there is none.

    Whether equal blocks are scanned is left aside: it changes nothing of what the model computes.

    >>> name_of(create("resnet20", num_classes=2))
    'resnet20'
    """
    fitting = [
        (len(entry.variant), name)
        for name, entry in _ENTRIES.items()
        if entry.builder is type(model)
        and all(getattr(model, option) == value for option, value in entry.variant.items() if option != "scan")
    ]
    # The more options a name stands for, the more it says: se_resnet18 has the blocks of resnet18, and gates.
    return max(fitting)[1] if fitting else type(model).__name__


def _entry(name: str) -> Entry:
    if name not in _ENTRIES:
        near = get_close_matches(name, _ENTRIES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"unknown model {name!r}; {hint}")
    return _ENTRIES[name]
