"""Floor 1: Flax Linen modules. They own the parameters and call `functional`."""

from flax.linen import Dense

from cnnjax.layers.convolution import Conv
from cnnjax.layers.normalization import BatchNorm
from cnnjax.layers.pooling import AvgPool, MaxPool

__all__ = ["AvgPool", "BatchNorm", "Conv", "Dense", "MaxPool"]
