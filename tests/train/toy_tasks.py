"""Tasks that `train` and `report` have never heard of."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

from cnnjax.tasks import Mean, masked_mean, means


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A class for every pixel."""

    headline: ClassVar[str] = "pixel_accuracy"

    def inputs(self, batch, *, train):
        return batch["image"]

    def loss(self, output, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(output, batch["map"]).mean((1, 2))
        loss = masked_mean(losses, batch["valid"])
        return loss, {"loss": loss}

    def predict(self, output, batch):
        return jnp.argmax(output, -1)

    def metrics(self, output, predictions, batch):
        right = (predictions == batch["map"]).mean((1, 2))
        return {"pixel_accuracy": masked_mean(right, batch["valid"])}

    def summarize(self, metrics):
        return means(metrics)

    def score(self, summary):
        return summary["pixel_accuracy"]

    def rows(self, predictions):
        return [{"of class 1": int(row.sum())} for row in predictions]

    def draw(self, batch, predictions):
        figure = Figure()
        for axes, array in zip(figure.subplots(1, 2), (batch["map"][0], predictions[0]), strict=True):
            axes.imshow(array)
        return {"Maps beside predictions": figure}


@dataclasses.dataclass(frozen=True)
class Boxes:
    """At most three boxes a picture, the rest padding; two outputs, one of them an intermediate result."""

    headline: ClassVar[str] = "gap"

    def inputs(self, batch, *, train):
        return batch["image"]

    def loss(self, output, batch):
        gap = jnp.abs(output["boxes"] - batch["boxes"]).sum(-1)
        present = batch["present"] & batch["valid"][:, None]
        found = optax.sigmoid_binary_cross_entropy(output["objectness"], batch["present"].astype(jnp.float32))
        of_boxes = jnp.sum(gap, where=present) / jnp.maximum(jnp.sum(present, dtype=jnp.float32), 1.0)
        # The loss reads the model's own intermediate result.
        loss = of_boxes + found.mean() + 1e-3 * jnp.square(output["features"]).mean()
        examples = jnp.sum(batch["valid"], dtype=jnp.float32)
        parts = {"boxes": Mean(of_boxes * examples, examples), "objectness": Mean(found.mean() * examples, examples)}
        return Mean(loss * examples, examples), parts

    def predict(self, output, batch):
        return {"boxes": output["boxes"], "present": output["objectness"] > 0}

    def metrics(self, output, predictions, batch):
        gap = jnp.abs(predictions["boxes"] - batch["boxes"]).mean(-1)
        present = batch["present"] & batch["valid"][:, None]
        return {"gap": Mean(jnp.sum(gap, where=present), jnp.sum(present, dtype=jnp.float32))}

    def summarize(self, metrics):
        return means(metrics)

    def score(self, summary):
        return -summary["gap"]

    def rows(self, predictions):
        return [{"boxes": int(present.sum())} for present in predictions["present"]]

    def draw(self, batch, predictions):
        return {}
