from .classification import Classification, confusion
from .imbalance import class_weights, positive_weights
from .metrics import Mean, Metric, Rows, Sums, masked_mean, means, merge
from .ranking import average_precision, precision_recall
from .settings import TASKS, ClassificationSettings, TaggingSettings, TaskSettings
from .tagging import Tagging
from .task import Task

__all__ = [
    "TASKS",
    "Classification",
    "ClassificationSettings",
    "Mean",
    "Metric",
    "Rows",
    "Sums",
    "Tagging",
    "TaggingSettings",
    "Task",
    "TaskSettings",
    "average_precision",
    "class_weights",
    "confusion",
    "masked_mean",
    "means",
    "merge",
    "positive_weights",
    "precision_recall",
]
