"""Weights that PyTorch drew too, for detectors, in double precision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import models
from cnnjax.models.weights import from_torch, to_torch
from tests.models import torch_detector_goldens as goldens


def filled(model: models.Model, shape: tuple[int, ...]) -> Any:
    """The variables of a model for pictures of this shape."""
    like = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    names = to_torch(model, jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), like), shape=shape)
    drawn = goldens.weights({name: array.shape for name, array in names.items()})
    variables = from_torch(model, drawn, shape=shape)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)


def true_objects(masks: bool = False, scale: float = 1.0, pictures: int | None = None) -> models.Objects:
    """The objects of the goldens."""
    truth = {name: array[:pictures] for name, array in goldens.objects().items()}
    return models.Objects(
        jnp.asarray(truth["boxes"] * scale),
        jnp.asarray(truth["classes"]),
        jnp.asarray(truth["present"]),
        jnp.asarray(truth["masks"]) if masks else None,
    )


def of_batch(parts: dict[str, models.Part]) -> dict[str, jax.Array]:
    """Parts of a loss divided for all pictures together, as torchvision does."""
    return {name: jnp.sum(part.total) / jnp.maximum(jnp.sum(part.count), 1) for name, part in parts.items()}


def check_gradients(model: models.Model, gradients: Any, kept: dict[str, np.ndarray], shape: tuple[int, ...]) -> None:
    """Raises AssertionError unless the gradient of every parameter has the norm that PyTorch found."""
    found = to_torch(model, gradients, shape=shape)
    for name, norm in kept.items():
        np.testing.assert_allclose(np.linalg.norm(found[name]), norm, rtol=1e-6, atol=1e-12, err_msg=name)
