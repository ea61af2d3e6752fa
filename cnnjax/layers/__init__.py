"""Floor 1: Flax Linen modules. They own the parameters and call `functional`."""

from cnnjax.layers.convolution import Conv, ConvTranspose, DepthwiseConv, SeparableConv
from cnnjax.layers.dense import Dense
from cnnjax.layers.dropout import Dropout, StochasticDepth
from cnnjax.layers.normalization import (
    BatchNorm,
    FrozenBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LocalResponseNorm,
    frozen_statistics,
    pooled_statistics,
)
from cnnjax.layers.pooling import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    GlobalAvgPool,
    GlobalMaxPool,
    GlobalMinPool,
    L2Pool,
    MaxPool,
    MinPool,
)
from cnnjax.layers.squeeze_excitation import SqueezeExcitation

__all__ = [
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Dense",
    "DepthwiseConv",
    "Dropout",
    "FrozenBatchNorm",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GlobalMinPool",
    "GroupNorm",
    "InstanceNorm",
    "L2Pool",
    "LayerNorm",
    "LocalResponseNorm",
    "MaxPool",
    "MinPool",
    "SeparableConv",
    "SqueezeExcitation",
    "StochasticDepth",
    "frozen_statistics",
    "pooled_statistics",
]
