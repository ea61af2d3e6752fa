"""First variables of a model, and the smallest pictures it can take."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.functional.factors import check_channels_last
from cnnjax.models.registry import Model

LARGEST_SEARCHED = 1024


def initialize(key: jax.Array, model: Model, inputs: Any) -> Any:
    """Initial variables for inputs like these, compiled as one program.

    Args:
        key: for the parameters.
        model: a Flax model.
        inputs: arrays, or `jax.ShapeDtypeStruct` in their place.

    Raises:
        ValueError: as `check_inputs`; or what came in the model's place is none.
    """
    if not isinstance(model, Model):
        raise ValueError(f"model is of type {type(model).__name__}; expected initialize(key, model, inputs)")
    check_inputs(model, inputs)
    shapes = _shapes(inputs)

    def init(key: jax.Array) -> Any:
        # Made here, inputs that no parameter depends on take no memory, however many they are.
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return model.init(key, zeros, **inference_options(model))

    # A program that runs once is not worth optimising: on a CPU that takes 5 to 20 times as long. Where it becomes a
    # part of another, such as under `jax.eval_shape`, JAX takes no options for it.
    alone = jax.default_backend() == "cpu" and not isinstance(key, jax.core.Tracer)
    options = {"xla_backend_optimization_level": 0} if alone else {}
    return jax.jit(init, compiler_options=options)(key)


def check_inputs(model: Model, inputs: Any) -> None:
    """Traces the model's shapes for inputs like these.

    Raises:
        ValueError: the inputs do not fit the model; for pictures that are too small, the message names the layer
            and the smallest size that works. Or pictures have their channels first.
    """
    shapes = _shapes(inputs)
    if isinstance(shapes, jax.ShapeDtypeStruct):
        check_channels_last(shapes.shape)
    try:
        jax.eval_shape(partial(model.init, **inference_options(model)), jax.random.key(0), shapes)
    except ValueError as error:
        if not (isinstance(shapes, jax.ShapeDtypeStruct) and len(shapes.shape) == 4):
            raise
        _, height, width, channels = shapes.shape
        smallest = smallest_image_size(model, channels=channels, dtype=shapes.dtype)
        if smallest is None or smallest <= min(height, width):
            raise
        raise ValueError(
            f"pictures of {height}x{width} are too small for {type(model).__name__}: {error};"
            f" the smallest size that works is {smallest}x{smallest} (--image-size {smallest})"
        ) from None


def smallest_image_size(model: Model, *, channels: int, dtype: Any = jnp.float32) -> int | None:
    """Side of the smallest square picture that the model accepts, or None if none up to 1,024 works.

    Only shapes are traced. The search is a bisection: a size that works is taken to work for all larger ones.
    """
    init = partial(model.init, **inference_options(model))

    def accepts(size: int) -> bool:
        try:
            jax.eval_shape(init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, channels), dtype))
        except ValueError:
            return False
        return True

    if not accepts(LARGEST_SEARCHED):
        return None
    too_small, enough = 0, LARGEST_SEARCHED
    while enough - too_small > 1:
        middle = (too_small + enough) // 2
        too_small, enough = (too_small, middle) if accepts(middle) else (middle, enough)
    return enough


def inference_options(model: Model) -> dict[str, Any]:
    """`{"train": False}` for a model that knows training from inference, nothing for others."""
    return {"train": False} if "train" in inspect.signature(type(model).__call__).parameters else {}


def _shapes(inputs: Any) -> Any:
    """Shapes and types as JAX takes the inputs: NumPy's float64 becomes float32 unless x64 is on."""
    return jax.eval_shape(lambda tree: tree, inputs)
