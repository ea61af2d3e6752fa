"""Our side of the comparison of dense prediction, in a process of its own."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from cnnjax import models
from cnnjax.data.augment import unchanged
from cnnjax.models.weights import from_torch
from cnnjax.tasks import Detection, Instances, Segmentation
from cnnjax.train import Recipe
from cnnjax.train.parallel import Parallel, make_mesh
from experiments.benchmarks.jax_side import main, optimizer


def model_of(case: dict[str, Any]) -> Any:
    """The model of a case: all is trained but the normalisation of a detector's trunk."""
    if case["net"] == "unet":
        return models.create("unet", num_classes=2, width=16, padding="zeros", batch_norm=True, dropout=0.0)
    frozen = {} if case["net"] == "ssd300" else {"frozen_norm": True}
    return models.create(case["net"], num_classes=case["classes"], **frozen)


def variables_of(case: dict[str, Any], model: Any, images: jax.Array) -> Any:
    """The other side's weights, where it has them."""
    if case["net"] == "unet" or not case["weights"]:
        return models.initialize(jax.random.key(0), model, images[:1])
    with np.load(case["weights"]) as stored:
        return from_torch(model, dict(stored), source="the other side", shape=(1, *images.shape[1:]))


def task_of(case: dict[str, Any]) -> Any:
    """What the output of a case means."""
    names = tuple(map(str, range(case["classes"])))
    if case["net"] == "unet":
        return Segmentation(("outside", "inside"))
    return Instances(names) if case["net"].startswith("mask") else Detection(names)


def make_side(name: str, case: dict[str, Any]) -> Callable[[], Any]:
    """The step of a run, or detections, as a run that is loaded computes them."""
    model = model_of(case)
    with np.load(case["arrays"]) as stored:
        batch = dict(stored)
    variables = variables_of(case, model, batch["image"])
    if not case["training"]:
        images = jax.device_put(batch["image"])
        return partial(
            jax.jit(lambda variables, images: model.apply(variables, images).detections()), variables, images
        )
    if case["net"] == "unet":
        batch["masks"] = (batch["masks"] > 0).astype(np.int32)
    recipe = Recipe(model, task_of(case), optimizer(1e-4), unchanged, lambda batch: batch)
    parallel = Parallel(make_mesh(1))
    state = parallel.replicate(recipe.first_state(batch, seed=0, variables=variables))
    (on_device,) = parallel.to_devices([batch], training=True)
    run = parallel.compile_training(recipe, state, on_device, None, steps=1)

    def step() -> Any:
        nonlocal state
        state, metrics = run(state, on_device, None)
        return metrics

    return step


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], make_side)
