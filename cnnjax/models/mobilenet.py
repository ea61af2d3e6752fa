"""MobileNet v1: each 3x3 convolution taken apart into one per channel and one across channels.

Reference: Howard et al. (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
table 1.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, DepthwiseConv, GlobalAvgPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register

# Channels and blocks of each stage; all but the first stage halve the resolution.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


class DepthwiseBlock(nn.Module):
    """3x3 convolution of each channel, then 1x1 across channels, each normalised and rectified at most to 6.

    Attributes:
        features: channels of the output.
        strides: step of the 3x3.
        depthwise: makes a convolution of each channel.
        conv: makes a convolution across channels.
        norm: makes a normalisation.
    """

    features: int
    strides: int
    depthwise: Callable[..., nn.Module]
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """Both convolutions."""
        x = self.depthwise((3, 3), self.strides, padding=1, name="depthwise")(x)
        x = nn.relu6(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.features, (1, 1), name="pointwise")(x)
        return nn.relu6(self.norm(name="bn2")(x, train=train))


class MobileNetStage(nn.Module):
    """Blocks of one resolution.

    Attributes:
        features: channels of each block's output.
        depth: number of blocks.
        strides: step of the first block.
        block: makes a block, called as `block(features, strides, name=...)`.
    """

    features: int
    depth: int
    strides: int
    block: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """All blocks in turn."""
        for number in range(1, self.depth + 1):
            strides = self.strides if number == 1 else 1
            x = self.block(self.features, strides, name=f"block{number}")(x, train=train)
        return x


class MobileNetV1(Architecture):
    """MobileNet v1 of full width.

    At 224x224 and 1,000 classes: 4,231,976 parameters, 568,740,352 multiply-accumulates; receptive fields of stages 1
    to 5: 7, 19, 43, 219, 315. Rectified at most to 6, as its authors' code has it. Kernels start as in He et al.
    (2015); the paper says nothing.

    Attributes:
        num_classes: width of `output`; None ends with the 1,024 pooled features.
    """

    num_classes: int | None = 1000

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return tuple(Stage(f"stage{i}", width, 2**i) for i, (width, _) in enumerate(STAGES, 1))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` normalises by the batch's statistics."""
        maps = StageMaps(self, stages)
        options: dict[str, Any] = {"use_bias": False, "kernel_init": nn.initializers.he_normal(), **self.types}
        conv, norm = partial(Conv, **options), partial(BatchNorm, **self.types)
        block = partial(DepthwiseBlock, depthwise=partial(DepthwiseConv, **options), conv=conv, norm=norm)
        x: jax.Array = conv(32, (3, 3), strides=2, padding=1, name="conv1")(images)
        x = nn.relu6(norm(name="bn1")(x, train=train))
        for stage, (width, depth) in zip(self.stages, STAGES, strict=True):
            strides = 1 if stage.name == "stage1" else 2
            x = MobileNetStage(width, depth, strides, block, name=stage.name)(x, train=train)
            if maps.take(stage.name, x):
                return maps.found
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)

    def torch_name(self, module: str) -> str:
        """What timm calls the module at a path of this model."""
        block = re.fullmatch(r"stage(\d)/block(\d)/(.*)", module)
        if block:
            layer = {"depthwise": "conv_dw", "pointwise": "conv_pw"}.get(block[3], block[3])
            return f"blocks.{int(block[1]) - 1}.{int(block[2]) - 1}.{layer}"
        return {"conv1": "conv_stem", "output": "classifier"}.get(module, module)


register("mobilenet_v1", MobileNetV1, (224, 224, 3))
