"""Models by name."""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import flax.linen as nn

from cnnjax.functional.geometry import whole

Model: TypeAlias = nn.Module

# What a model's logits are of: the picture, (batch, classes), each pixel, (batch, rows, columns, classes), or boxes, of
# objects and, with "instances", of their masks too: then a detector's output, see `parts.detector`.
LogitsOf: TypeAlias = Literal["picture", "pixels", "boxes", "instances"]


class Entry(NamedTuple):
    """A registered model.

    Attributes:
        builder: what builds it.
        variant: with which options.
        image_shape: of the pictures that it was designed for.
        logits_of: what its logits are of.
    """

    builder: Callable[..., Model]
    variant: dict[str, Any]
    image_shape: tuple[int, int, int]
    logits_of: LogitsOf = "picture"


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    builder: Callable[..., Model],
    image_shape: tuple[int, int, int],
    *,
    logits_of: LogitsOf = "picture",
    **variant: Any,
) -> None:
    """Enters a model under a name.

    Args:
        name: that `create` takes.
        builder: what builds it, a module's class.
        image_shape: height, width and channels of the pictures it was designed for.
        logits_of: "picture" for logits (batch, classes), "pixels" for (batch, rows, columns, classes), "boxes" for a
            detector, and "instances" for one with masks.
        variant: the options that make it this variant of what is built.

    Raises:
        ValueError: the name is taken, or logits are of nothing of these.
    """
    if name in _ENTRIES:
        raise ValueError(f"model {name!r} is registered already, by {_ENTRIES[name].builder.__module__}")
    if logits_of not in get_args(LogitsOf):
        raise ValueError(f"logits_of={logits_of!r}; expected {' or '.join(map(repr, get_args(LogitsOf)))}")
    _ENTRIES[name] = Entry(builder, variant, image_shape, logits_of)


def names(pattern: str = "*") -> tuple[str, ...]:
    """Names of the registered models that match a shell pattern, sorted.

    >>> names("lenet*")
    ('lenet5', 'lenet5_1998')
    """
    return tuple(sorted(name for name in _ENTRIES if fnmatchcase(name, pattern)))


def create(name: str, /, **options: Any) -> Model:
    """Builds a registered model; within another module, `create("resnet50", name="backbone")` names it as a part.

    Options that its builder annotates as `int`, `int | None`, `Sequence[int]`, `float` or `bool` are checked. Whole
    numbers are 1 or more, unless the builder's own default is less. Where a part is chosen, such as `backbone`, the
    registered options of another one, `backbone_options`, do not hold.

    Raises:
        ValueError: no model has that name (near matches are listed), an option is not one of the model's, or a number
            or switch has a value that none can have.

    >>> create("lenet5", num_classes=7).num_classes
    7
    """
    entry, allowed = _entry(name), options_of(name)
    for option, value in options.items():
        if option not in (*allowed, "name"):
            near = get_close_matches(option, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(allowed)}"
            raise ValueError(f"model {name!r} has no option {option!r}; {hint}")
        try:
            options[option] = _checked(inspect.signature(entry.builder).parameters[option], value)
        except ValueError as error:
            raise ValueError(f"model {name!r}: {error}") from None
    of_others = {
        part: None for part in entry.variant if part.endswith("_options") and part.removesuffix("_options") in options
    }
    return entry.builder(**{**entry.variant, **of_others, **options})


def options_of(name: str) -> tuple[str, ...]:
    """The options that `create` takes for a model.

    Raises:
        ValueError: no model has that name.

    >>> options_of("lenet5")
    ('num_classes', 'dtype', 'param_dtype')
    """
    options = inspect.signature(_entry(name).builder).parameters
    return tuple(option for option in options if option not in ("parent", "name"))


def builder_of(name: str) -> tuple[Callable[..., Model], dict[str, Any]]:
    """What builds a model, and the options that make it this variant of what is built.

    Raises:
        ValueError: no model has that name.
    """
    entry = _entry(name)
    return entry.builder, dict(entry.variant)


def image_shape(name: str) -> tuple[int, int, int]:
    """Height, width and channels of the pictures that a registered model was designed for.

    Raises:
        ValueError: no model has that name.

    >>> image_shape("lenet5")
    (32, 32, 1)
    """
    return _entry(name).image_shape


def logits_of(name: str) -> LogitsOf:
    """What the logits of a registered model are of: "picture", (batch, classes), "pixels", "boxes" or "instances".

    Those of "pixels" have the shape (batch, rows, columns, classes). Rows and columns are the picture's, or fewer where
    convolutions are not padded. "boxes" are of detectors, and "instances" of detectors with masks.

    Raises:
        ValueError: no model has that name.

    >>> logits_of("lenet5")
    'picture'
    """
    return _entry(name).logits_of


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


def _checked(option: inspect.Parameter, value: Any) -> Any:
    """The value of a builder's option, whole numbers as Python's."""
    kind, name = option.annotation, option.name
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}; expected True or False")
    if kind is int or (kind == int | None and value is not None):
        least = min(1, option.default) if isinstance(option.default, int) else 1
        try:
            return whole(value, name, minimum=least)
        except ValueError as error:
            cure = "; None gives the features before the output" if name == "num_classes" else ""
            raise ValueError(f"{error}{cure}") from None
    if kind == Sequence[int]:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"{name}={value!r}; expected a tuple of whole numbers")
        return tuple(whole(each, name) for each in value)
    if kind is float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise ValueError(f"{name}={value!r}; expected a number")
    return value


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
    if not isinstance(name, str):
        raise ValueError(
            f"the name of a model is of type {type(name).__name__}; expected text, such as 'lenet5'. A class of your"
            f" own gets a name by models.register(name, class, (height, width, channels))"
        )
    if name not in _ENTRIES:
        near = get_close_matches(name, _ENTRIES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"unknown model {name!r}; {hint}")
    return _ENTRIES[name]
