from . import analysis, data, experiment, functional, layers, models, report, settings, tasks, train, view
from .experiment import (
    Augmentation,
    Experiment,
    Net,
    PictureData,
    evaluate,
    fit,
    load_run,
    run,
    run_on,
)
from .settings import Devices, Folder, Loading, Optimizer, Saving, Schedule, Training
from .tasks import ClassificationSettings, TaggingSettings

__version__: str

__all__ = [
    "Augmentation",
    "ClassificationSettings",
    "Devices",
    "Experiment",
    "Folder",
    "Loading",
    "Net",
    "Optimizer",
    "PictureData",
    "Saving",
    "Schedule",
    "TaggingSettings",
    "Training",
    "analysis",
    "data",
    "evaluate",
    "experiment",
    "fit",
    "functional",
    "layers",
    "load_run",
    "models",
    "report",
    "run",
    "run_on",
    "settings",
    "tasks",
    "train",
    "view",
]
