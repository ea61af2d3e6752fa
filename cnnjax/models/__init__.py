"""Floor 2: the architectures, one file per paper, and the registry that makes them by name."""

from cnnjax.models.initialization import check_inputs, inference_options, initialize, smallest_image_size
from cnnjax.models.lenet import LeNet5
from cnnjax.models.registry import Model, create, image_shape, names, register

__all__ = [
    "LeNet5",
    "Model",
    "check_inputs",
    "create",
    "image_shape",
    "inference_options",
    "initialize",
    "names",
    "register",
    "smallest_image_size",
]
