"""Floor 2: the architectures, one file per paper, and the registry that makes them by name."""

from cnnjax.models.initialization import check_inputs, initialize, smallest_image_size
from cnnjax.models.lenet import LeNet5
from cnnjax.models.registry import create, names, register

__all__ = ["LeNet5", "check_inputs", "create", "initialize", "names", "register", "smallest_image_size"]
