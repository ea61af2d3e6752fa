"""Floor 3: what a model's output means. A task gives loss, metrics and predictions, and draws them."""

from cnnjax.tasks.classification import Classification, confusion
from cnnjax.tasks.imbalance import class_weights, positive_weights
from cnnjax.tasks.ranking import average_precision, precision_recall
from cnnjax.tasks.tagging import Tagging
from cnnjax.tasks.task import Mean, Rows, Task, masked_mean, means

__all__ = [
    "Classification",
    "Mean",
    "Rows",
    "Tagging",
    "Task",
    "average_precision",
    "class_weights",
    "confusion",
    "masked_mean",
    "means",
    "positive_weights",
    "precision_recall",
]
