"""Tasks that `train` and `report` have never heard of."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from matplotlib.figure import Figure

from cnnjax.functional.boxes import pairwise_iou
from cnnjax.tasks import Mean, Rows, masked_mean, means


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


@dataclasses.dataclass(frozen=True)
class Detection:
    """Boxes of one class, from maps of several strides: every position says whether a box has its middle there."""

    strides: tuple[tuple[str, int], ...]
    most: int = 4

    headline: ClassVar[str] = "mean_overlap"

    def inputs(self, batch, *, train):
        return batch["image"]

    def loss(self, output, batch):
        present = batch["present"] & batch["valid"][:, None]
        objectness, gaps = 0.0, 0.0
        for name, stride in self.strides:
            there, expected = self._targets(batch["boxes"], present, stride, output[name].shape[1:3])
            scores, boxes = output[name][..., 0], output[name][..., 1:]
            objectness += optax.sigmoid_binary_cross_entropy(scores, there).mean((1, 2))
            gaps += (jnp.abs(boxes - expected).mean(-1) * there).sum((1, 2)) / jnp.maximum(there.sum((1, 2)), 1.0)
        parts = {"objectness": masked_mean(objectness, batch["valid"]), "box": masked_mean(gaps, batch["valid"])}
        return masked_mean(objectness + gaps, batch["valid"]), parts

    def _targets(self, boxes, present, stride, size):
        """Per position: whether a box has its middle there, and its edges from the position, by the picture's side."""
        middles = ((boxes[..., :2] + boxes[..., 2:]) / 2 / stride).astype(jnp.int32)
        rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None]
        x, y = (middles[..., axis][:, :, None, None] for axis in (0, 1))
        hits = (rows[None, None] == y) & (columns[None, None] == x) & present[:, :, None, None]
        edges = (boxes[:, :, None, None] - _corners(size, stride)[None, None]) / 16
        expected = jnp.where(hits[..., None], edges, 0.0).sum(1)
        return hits.any(1).astype(jnp.float32), expected

    def predict(self, output, batch):
        """The `most` positions of the highest scores over all maps, as boxes in pixels."""
        scores, boxes = [], []
        for name, stride in self.strides:
            corners = _corners(output[name].shape[1:3], stride)[None]
            scores.append(output[name][..., 0].reshape(output[name].shape[0], -1))
            boxes.append((16 * output[name][..., 1:] + corners).reshape(output[name].shape[0], -1, 4))
        best, places = lax.top_k(jnp.concatenate(scores, axis=1), self.most)
        chosen = jnp.take_along_axis(jnp.concatenate(boxes, axis=1), places[..., None], axis=1)
        return {"scores": jax.nn.sigmoid(best), "boxes": chosen}

    def metrics(self, output, predictions, batch):
        truth = {"truth": batch["boxes"], "present": batch["present"]}
        return {"boxes": Rows(predictions | truth, batch["valid"])}

    def summarize(self, metrics):
        """Of training the parts of the loss; of an evaluation how well true boxes are overlapped by some predicted."""
        if "boxes" not in metrics:
            return means(metrics)
        rows = metrics["boxes"].kept()
        overlaps = jax.vmap(pairwise_iou)(rows["boxes"], rows["truth"])
        return {"mean_overlap": float(np.asarray(overlaps.max(1))[rows["present"]].mean())}

    def score(self, summary):
        return summary["mean_overlap"]

    def rows(self, predictions):
        scores, boxes = predictions["scores"], predictions["boxes"]
        return [{"best": float(score[0]), "box": box[0].tolist()} for score, box in zip(scores, boxes, strict=True)]

    def draw(self, batch, predictions):
        figure = Figure()
        axes = figure.subplots()
        axes.imshow(batch["image"][0, ..., 0])
        left, top, right, bottom = predictions["boxes"][0, 0]
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top])
        return {"The first picture with its surest box": figure}


def _corners(size, stride):
    """Left and top of each position of a map, twice, as a box has them."""
    y, x = jnp.meshgrid(*(stride * jnp.arange(side, dtype=jnp.float32) for side in size), indexing="ij")
    return jnp.stack([x, y, x, y], axis=-1)


@dataclasses.dataclass(frozen=True)
class TwoStages:
    """A class for each proposal; in training the model is given the true boxes, and proposes some about them."""

    headline: ClassVar[str] = "accuracy"

    def inputs(self, batch, *, train):
        given = ("image", "boxes") if train else ("image",)
        return {name: batch[name] for name in given}

    def loss(self, output, batch):
        labels = jnp.broadcast_to(batch["label"][:, None], output["logits"].shape[:2])
        losses = optax.softmax_cross_entropy_with_integer_labels(output["logits"], labels).mean(1)
        return masked_mean(losses, batch["valid"]), {"class": masked_mean(losses, batch["valid"])}

    def predict(self, output, batch):
        """The class that the surest proposal has."""
        surest = jax.nn.softmax(output["logits"]).max(1)
        return {"label": jnp.argmax(surest, -1).astype(jnp.int32), "proposals": output["proposals"]}

    def metrics(self, output, predictions, batch):
        right = (predictions["label"] == batch["label"]).astype(jnp.float32)
        return {"accuracy": masked_mean(right, batch["valid"])}

    def summarize(self, metrics):
        return means(metrics)

    def score(self, summary):
        return summary["accuracy"]

    def rows(self, predictions):
        return [{"class": int(label)} for label in predictions["label"]]

    def draw(self, batch, predictions):
        return {}


@dataclasses.dataclass(frozen=True)
class Regression:
    """A number for each point of the plane; no picture is near."""

    headline: ClassVar[str] = "mean_squared_error"

    def inputs(self, batch, *, train):
        return batch["point"]

    def loss(self, output, batch):
        loss = masked_mean(jnp.square(output - batch["height"]), batch["valid"])
        return loss, {"mean_squared_error": loss}

    def predict(self, output, batch):
        return output

    def metrics(self, output, predictions, batch):
        return self.loss(output, batch)[1]

    def summarize(self, metrics):
        return means(metrics)

    def score(self, summary):
        return -summary["mean_squared_error"]

    def rows(self, predictions):
        return [{"height": float(height)} for height in predictions]

    def draw(self, batch, predictions):
        figure = Figure()
        figure.subplots().scatter(batch["height"], predictions)
        return {"Heights beside predictions": figure}
