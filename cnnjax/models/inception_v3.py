"""Inception v3: windows taken apart into smaller and one-sided ones.

Reference: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna (2016), "Rethinking the Inception Architecture for Computer
Vision", table 1 and figures 5 to 7 and 10.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import AvgPool, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.parts.auxiliary import AuxiliaryLogits
from cnnjax.models.parts.units import ConvUnit
from cnnjax.models.registry import register

# A unit of a branch: name, channels, window, stride. A stride of two goes without padding. A list splits: each of its
# units sees what came before; Flax makes tuples of lists. Names end as those of the figures' boxes.
Unit: TypeAlias = tuple[str, int, tuple[int, int], int]
Branch: TypeAlias = list[Unit | list[Unit]]


def _a(pooled: int) -> list[Branch]:
    """Figure 5: a 5x5 window as two of 3x3."""
    return [
        [("1x1", 64, (1, 1), 1)],
        [("5x5_1", 48, (1, 1), 1), ("5x5_2", 64, (5, 5), 1)],
        [("3x3dbl_1", 64, (1, 1), 1), ("3x3dbl_2", 96, (3, 3), 1), ("3x3dbl_3", 96, (3, 3), 1)],
        [("pool", pooled, (1, 1), 1)],
    ]


def _c(width: int) -> list[Branch]:
    """Figure 6: a 7x7 window as 1x7 and 7x1."""
    row, column = (1, 7), (7, 1)
    return [
        [("1x1", 192, (1, 1), 1)],
        [("7x7_1", width, (1, 1), 1), ("7x7_2", width, row, 1), ("7x7_3", 192, column, 1)],
        [
            ("7x7dbl_1", width, (1, 1), 1),
            ("7x7dbl_2", width, column, 1),
            ("7x7dbl_3", width, row, 1),
            ("7x7dbl_4", width, column, 1),
            ("7x7dbl_5", 192, row, 1),
        ],
        [("pool", 192, (1, 1), 1)],
    ]


def _e() -> list[Branch]:
    """Figure 7: 1x3 and 3x1 side by side."""
    return [
        [("1x1", 320, (1, 1), 1)],
        [("3x3_1", 384, (1, 1), 1), [("3x3_2a", 384, (1, 3), 1), ("3x3_2b", 384, (3, 1), 1)]],
        [
            ("3x3dbl_1", 448, (1, 1), 1),
            ("3x3dbl_2", 384, (3, 3), 1),
            [("3x3dbl_3a", 384, (1, 3), 1), ("3x3dbl_3b", 384, (3, 1), 1)],
        ],
        [("pool", 192, (1, 1), 1)],
    ]


# Blocks in order, their branches from left to right. Blocks without a "pool" unit halve the resolution (figure 10).
BLOCKS: dict[str, list[Branch]] = {
    "mixed_5b": _a(32),
    "mixed_5c": _a(64),
    "mixed_5d": _a(64),
    "mixed_6a": [
        [("3x3", 384, (3, 3), 2)],
        [("3x3dbl_1", 64, (1, 1), 1), ("3x3dbl_2", 96, (3, 3), 1), ("3x3dbl_3", 96, (3, 3), 2)],
    ],
    "mixed_6b": _c(128),
    "mixed_6c": _c(160),
    "mixed_6d": _c(160),
    "mixed_6e": _c(192),
    "mixed_7a": [
        [("3x3_1", 192, (1, 1), 1), ("3x3_2", 320, (3, 3), 2)],
        [
            ("7x7x3_1", 192, (1, 1), 1),
            ("7x7x3_2", 192, (1, 7), 1),
            ("7x7x3_3", 192, (7, 1), 1),
            ("7x7x3_4", 192, (3, 3), 2),
        ],
    ],
    "mixed_7b": _e(),
    "mixed_7c": _e(),
}


class MixedBlock(nn.Module):
    """Branches side by side; the last one pools, by a mean before a 1x1, or by a maximum where the block halves.

    Attributes:
        branches: a value of `BLOCKS`.
        unit: makes a rectified convolution.
    """

    branches: list[Branch]
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns outputs"]:
        """The branches' maps, one after the other."""

        def apply(unit: Unit, y: jax.Array) -> jax.Array:
            name, features, window, strides = unit
            padding = "SAME" if strides == 1 else "VALID"
            return self.unit(features, window, strides, padding, name=name)(y, train=train)

        outputs = []
        halves = True
        for branch in self.branches:
            y = x
            if branch[0][0] == "pool":
                y = AvgPool(3, strides=1, padding=1, count_padding=True, name="avg_pool")(x)
                halves = False
            for step in branch:
                units = (step,) if isinstance(step[0], str) else step
                y = jnp.concatenate([apply(unit, y) for unit in units], axis=-1)
            outputs.append(y)
        if halves:
            outputs.append(MaxPool(3, strides=2, name="max_pool")(x))
        return jnp.concatenate(outputs, axis=-1)


class InceptionAuxiliaryHead(nn.Module):
    """A small classifier on the 17x17 maps: 5x5 means, 1x1 and 5x5 convolutions, a global mean, dense.

    Attributes:
        num_classes: width of `output`.
        unit: makes a rectified convolution.
        dense: makes a dense layer.
    """

    num_classes: int
    unit: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], *, train: bool) -> Float[Array, "batch classes"]:
        """Logits."""
        x = AvgPool(5, strides=3, name="pool")(x)
        x = self.unit(128, (1, 1), name="conv0")(x, train=train)
        x = self.unit(768, (5, 5), 1, "VALID", name="conv1")(x, train=train)
        return self.dense(self.num_classes, name="output")(GlobalAvgPool(name="mean")(x))


class InceptionV3(Architecture):
    """Inception v3: a stem of five convolutions, eleven blocks of three kinds, and another head while training.

    At 299x299 and 1,000 classes: 27,161,264 parameters (23,834,568 without the auxiliary head), 5,713,216,096
    multiply-accumulates; receptive fields of mixed_5d, 6e and 7c: 127, 927, 1311. Kernels start as in Glorot and Bengio
    (2010); the paper says nothing.

    Attributes:
        num_classes: width of `output`; None ends with the 2,048 pooled features, without another head.
        auxiliary: whether there is a head after mixed_6e; then training gives `AuxiliaryLogits`.
        dropout: share of the pooled features that is dropped in training.
    """

    num_classes: int | None = 1000
    auxiliary: bool = True
    dropout: float = 0.5

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("conv2b", 64, 2),
            Stage("conv4a", 192, 4),
            Stage("mixed_5d", 288, 8),
            Stage("mixed_6e", 768, 16),
            Stage("mixed_7c", 2048, 32),
        )

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | AuxiliaryLogits | Maps:
        """Logits (or features), or the maps of `stages`; `train` drops features and adds the other heads' logits."""
        heads = stages is None and self.auxiliary and self.num_classes is not None and (train or self.is_initializing())
        auxiliary = []
        maps = StageMaps(self, stages)
        conv = partial(Conv, kernel_init=nn.initializers.glorot_uniform(), **self.types)
        norm = partial(BatchNorm, epsilon=1e-3, **self.types)
        unit, dense = partial(ConvUnit, conv=conv, norm=norm), partial(Dense, **self.types)
        x = unit(32, (3, 3), 2, "VALID", name="conv1a")(images, train=train)
        x = unit(32, (3, 3), 1, "VALID", name="conv2a")(x, train=train)
        x = unit(64, (3, 3), name="conv2b")(x, train=train)
        if maps.take("conv2b", x):
            return maps.found
        x = MaxPool(3, strides=2, name="pool2")(x)
        x = unit(80, (1, 1), name="conv3b")(x, train=train)
        x = unit(192, (3, 3), 1, "VALID", name="conv4a")(x, train=train)
        if maps.take("conv4a", x):
            return maps.found
        x = MaxPool(3, strides=2, name="pool4")(x)
        for name, branches in BLOCKS.items():
            x = MixedBlock(branches, unit, name=name)(x, train=train)
            if maps.take(name, x):
                return maps.found
            if heads and name == "mixed_6e":
                auxiliary.append(InceptionAuxiliaryHead(self.num_classes or 0, unit, dense, name="aux")(x, train=train))
        x = GlobalAvgPool(name="pool")(x)
        x = Dropout(self.dropout, name="drop")(x, train=train)
        if self.num_classes is None:
            return x
        logits = dense(self.num_classes, name="output")(x)
        return AuxiliaryLogits(logits, tuple(auxiliary)) if train and heads else logits

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        if stem := re.fullmatch(r"conv(\d\w)/(.*)", module):
            window = "1x1" if stem[1] == "3b" else "3x3"
            return f"Conv2d_{stem[1]}_{window}.{stem[2]}"
        module = re.sub(r"^mixed_(\w+)/(\w+)", lambda at: f"Mixed_{at[1]}.branch{_joined(at[2])}", module)
        module = re.sub(r"^aux/", "AuxLogits.", module)
        return re.sub(r"output$", "fc", module).replace("/", ".")


def _joined(unit: str) -> str:
    return "_pool" if unit == "pool" else unit


register("inception_v3", InceptionV3, (299, 299, 3))
