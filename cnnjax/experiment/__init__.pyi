from .evaluation import evaluate
from .export import export_run
from .predictions import Predictions
from .quick import QUICK
from .running import Outcome, fit, run, run_on, trained_network
from .settings import Augmentation, Experiment, Net, PictureData, read_experiment
from .trained import Trained, load_run

__all__ = [
    "QUICK",
    "Augmentation",
    "Experiment",
    "Net",
    "Outcome",
    "PictureData",
    "Predictions",
    "Trained",
    "evaluate",
    "export_run",
    "fit",
    "load_run",
    "read_experiment",
    "run",
    "run_on",
    "trained_network",
]
