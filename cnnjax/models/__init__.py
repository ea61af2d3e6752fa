"""Floor 2: the architectures, one file per paper, and the registry that makes them by name."""

from cnnjax.models.initialization import check_inputs, inference_options, initialize, smallest_image_size
from cnnjax.models.lenet import LeNet5
from cnnjax.models.registry import Model, Stage, create, image_shape, names, register
from cnnjax.models.resnet import CifarResNet, ResNet
from cnnjax.models.stacking import stack, unstack

__all__ = [
    "CifarResNet",
    "LeNet5",
    "Model",
    "ResNet",
    "Stage",
    "check_inputs",
    "create",
    "image_shape",
    "inference_options",
    "initialize",
    "names",
    "register",
    "smallest_image_size",
    "stack",
    "unstack",
]
