"""Floor 1: Flax Linen modules. They own the parameters and call `functional`."""

from flax.linen import Dense

from cnnjax.layers.convolution import Conv
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm
from cnnjax.layers.pooling import AvgPool, MaxPool
from cnnjax.layers.squeeze_excitation import SqueezeExcitation

__all__ = [
    "AvgPool",
    "BatchNorm",
    "Conv",
    "Dense",
    "Dropout",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "LocalResponseNorm",
    "MaxPool",
    "SqueezeExcitation",
]
