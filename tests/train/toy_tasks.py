"""A task that `train` and `report` have never heard of."""

import dataclasses

import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

from cnnjax.tasks import masked_mean, means


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A class for every pixel."""

    def inputs(self, batch):
        return batch["image"]

    def loss(self, output, batch):
        losses = optax.softmax_cross_entropy_with_integer_labels(output, batch["map"]).mean((1, 2))
        return masked_mean(losses, batch["valid"])

    def metrics(self, output, batch):
        right = (jnp.argmax(output, -1) == batch["map"]).mean((1, 2))
        return {"pixel_accuracy": masked_mean(right, batch["valid"])}

    def summarize(self, metrics):
        return means(metrics)

    def score(self, summary):
        return summary["pixel_accuracy"]

    def predict(self, output):
        return jnp.argmax(output, -1)

    def draw(self, batch, predictions):
        figure = Figure()
        for axes, array in zip(figure.subplots(1, 2), (batch["map"][0], predictions[0]), strict=True):
            axes.imshow(array)
        return {"Maps beside predictions": figure}
