"""Floor 4: settings, optimizer, state, step, checkpoints, log and loop. Importing the room imports only settings."""

import importlib
from typing import Any

from cnnjax.train.config import Experiment
from cnnjax.train.settings import Augmentation, Loading, Optimizer, Saving, Schedule

_ELSEWHERE = {
    "Evaluation": "evaluation",
    "Fit": "loop",
    "Recipe": "recipe",
    "Trained": "trained",
    "TrainState": "state",
    "create_state": "state",
    "eval_step": "step",
    "fit": "loop",
    "format_metric": "log",
    "load_run": "trained",
    "load_variables": "checkpoint",
    "make_optimizer": "optimizer",
    "make_schedule": "optimizer",
    "read_rows": "log",
    "train_step": "step",
}

__all__ = [
    "Augmentation",
    "Evaluation",
    "Experiment",
    "Fit",
    "Loading",
    "Optimizer",
    "Recipe",
    "Saving",
    "Schedule",
    "TrainState",
    "Trained",
    "create_state",
    "eval_step",
    "fit",
    "format_metric",
    "load_run",
    "load_variables",
    "make_optimizer",
    "make_schedule",
    "read_rows",
    "train_step",
]


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(f"{__name__}.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
