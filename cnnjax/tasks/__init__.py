"""Floor 3: what a model's output means. A task gives loss, metrics and predictions, and draws them."""

from cnnjax.tasks.classification import Classification, confusion
from cnnjax.tasks.task import Mean, Task, masked_mean, means

__all__ = ["Classification", "Mean", "Task", "confusion", "masked_mean", "means"]
