"""What a model's output means: the contract between a task and everything that trains, evaluates and draws it.

A batch and a model's output are pytrees of arrays whose meaning only the task knows. Besides the source's own
elements, a batch holds `id` (the example's index) and `valid` (False for the padding of a last, short batch).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure

from cnnjax.models import Objects
from cnnjax.tasks.metrics import Mean, Metric


@runtime_checkable
class Task(Protocol):
    """Loss, metrics, predictions and pictures of one kind of learning problem.

    `inputs`, `loss`, `predict` and `metrics` are pure and run inside the compiled step. A model whose task needs
    intermediate results (auxiliary heads, proposals, feature maps) returns them as part of its output. Every array of
    a batch, an output or a prediction has one entry per example along its first axis.

    A task whose net has other outputs than one for each class of the data says how many by an attribute `outputs`.

    Attributes:
        headline: the number of a summary that a run is measured by, such as "accuracy".
    """

    headline: ClassVar[str]

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """What the model is called with: a part of the batch; in training, targets too where the model samples them."""
        ...

    def loss(self, output: Any, batch: Mapping[str, Any]) -> tuple[Mean, dict[str, Metric]]:
        """What to minimise, a mean over the valid examples; and what the log tells of it, such as the loss's parts.

        The sums of microbatches and of several devices are added before they are divided. If the loss adds means with
        different denominators (over boxes, over pixels), return `Mean(value * n_valid, n_valid)`.
        """
        ...

    def predict(self, output: Any, batch: Mapping[str, Any]) -> Any:
        """What the model says, example by example; the batch tells sizes and paddings."""
        ...

    def metrics(self, output: Any, predictions: Any, batch: Mapping[str, Any]) -> dict[str, Metric]:
        """What the valid examples of a batch add to the metrics of an evaluation; training does not ask for them."""
        ...

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Numbers to log, from merged metrics: those of `loss`, or those of `metrics`."""
        ...

    def score(self, summary: Mapping[str, float]) -> float:
        """How good the summary of an evaluation is, larger being better: decides which checkpoint is the best."""
        ...

    def rows(self, predictions: Any) -> list[dict[str, Any]]:
        """Predictions as plain values, a record per example, for tables, CSV and JSON. Arrays are NumPy's."""
        ...

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Any) -> dict[str, Figure]:
        """Pictures of predictions beside their examples, by caption. Arrays are NumPy's; all examples are valid."""
        ...


@runtime_checkable
class PixelTask(Task, Protocol):
    """A task whose predictions have a class for every pixel, in "labels" (batch, height, width).

    Pictures may have any size: `predict` and `rows` need no batch then, and `cnnjax predict` writes label maps.
    """

    def objects(self, labels: np.ndarray) -> np.ndarray | None:
        """The objects of one predicted label map, numbered from 1; None where labels count no objects."""
        ...


@runtime_checkable
class ObjectTask(Task, Protocol):
    """A task whose predictions are objects, in slots: "boxes" (batch, slots, 4), "scores", "classes" and "present".

    Boxes are in pixels of the picture as the model got it. Pictures may have any size: `predict` needs nothing of the
    batch but "image" then, and `cnnjax predict` writes pictures with boxes.

    Attributes:
        least_score: objects below it are not drawn.
    """

    least_score: ClassVar[float]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of things."""
        ...

    def objects_of(self, batch: Mapping[str, Any]) -> Objects:
        """What is to be found in a batch."""
        ...
