from .checkpoint import load_variables
from .evaluation import Evaluation
from .gradient import Replicas
from .log import format_metric, read_rows
from .loop import TrainResult
from .optimizer import by_path, make_optimizer, make_schedule
from .recipe import Recipe
from .state import TrainState, create_state
from .step import StepMetrics, eval_step, train_step
from .training import fit

__all__ = [
    "Evaluation",
    "Recipe",
    "Replicas",
    "StepMetrics",
    "TrainResult",
    "TrainState",
    "by_path",
    "create_state",
    "eval_step",
    "fit",
    "format_metric",
    "load_variables",
    "make_optimizer",
    "make_schedule",
    "read_rows",
    "train_step",
]
