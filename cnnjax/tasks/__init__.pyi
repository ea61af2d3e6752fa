from .classification import Classification, confusion
from .detection import Detection
from .imbalance import class_weights, positive_weights
from .instances import Instances
from .localization import Localization
from .metrics import Mean, Metric, Rows, Sums, masked_mean, means, merge
from .ranking import average_precision, precision_recall
from .segmentation import Segmentation
from .settings import (
    TASKS,
    ClassificationSettings,
    DetectionSettings,
    InstanceSettings,
    LocalizationSettings,
    SegmentationSettings,
    TaggingSettings,
    TaskSettings,
)
from .tagging import Tagging
from .task import ObjectTask, PixelTask, Task

__all__ = [
    "TASKS",
    "Classification",
    "ClassificationSettings",
    "Detection",
    "DetectionSettings",
    "InstanceSettings",
    "Instances",
    "Localization",
    "LocalizationSettings",
    "Mean",
    "Metric",
    "ObjectTask",
    "PixelTask",
    "Rows",
    "Segmentation",
    "SegmentationSettings",
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
