"""MobileNet v1: each 3x3 convolution taken apart into one per channel and one across channels.

Reference: Howard et al. (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
table 1.
"""

import re
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, DepthwiseConv, GlobalAvgPool
from cnnjax.models.registry import Stage, register

# Channels and blocks of each stage; all but the first stage halve the resolution.
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


class DepthwiseBlock(nn.Module):
    """3x3 convolution of each channel, then 1x1 across channels, each normalised and rectified at most to 6.

    Attributes:
        features: channels of the output.
        strides: step of the 3x3.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    features: int
    strides: int
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """Both convolutions."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        options: dict[str, Any] = {"use_bias": False, "kernel_init": nn.initializers.he_normal(), **types}
        x = DepthwiseConv((3, 3), self.strides, padding=1, name="depthwise", **options)(x)
        x = nn.relu6(BatchNorm(name="bn1", **types)(x, train=train))
        x = Conv(self.features, (1, 1), name="pointwise", **options)(x)
        return nn.relu6(BatchNorm(name="bn2", **types)(x, train=train))


class MobileNetStage(nn.Module):
    """Blocks of one resolution.

    Attributes:
        features: channels of each block's output.
        depth: number of blocks.
        strides: step of the first block.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    features: int
    depth: int
    strides: int
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """All blocks in turn."""
        block = partial(DepthwiseBlock, self.features, dtype=self.dtype, param_dtype=self.param_dtype)
        for number in range(1, self.depth + 1):
            x = block(strides=self.strides if number == 1 else 1, name=f"block{number}")(x, train=train)
        return x


class MobileNetV1(nn.Module):
    """MobileNet v1 of full width.

    At 224x224 and 1,000 classes: 4,231,976 parameters, 568,740,352 multiply-accumulates; receptive fields of stages 1
    to 5: 7, 19, 43, 219, 315. Rectified at most to 6, as its authors' code has it. Kernels start as in He et al.
    (2015); the paper says nothing.

    Attributes:
        num_classes: width of `output`; None ends with the 1,024 pooled features.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    num_classes: int | None = 1000
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = tuple(Stage(f"stage{i}", width) for i, (width, _) in enumerate(STAGES, 1))

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` normalises by the batch's statistics."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        options: dict[str, Any] = {"use_bias": False, "kernel_init": nn.initializers.he_normal(), **types}
        x: jax.Array = Conv(32, (3, 3), strides=2, padding=1, name="conv1", **options)(images)
        x = nn.relu6(BatchNorm(name="bn1", **types)(x, train=train))
        for stage, (width, depth) in zip(self.stages, STAGES, strict=True):
            strides = 1 if stage is self.stages[0] else 2
            x = MobileNetStage(width, depth, strides, self.dtype, self.param_dtype, name=stage.name)(x, train=train)
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)

    def torch_name(self, module: str) -> str:
        """What timm calls the module at a path of this model."""
        block = re.fullmatch(r"stage(\d)/block(\d)/(.*)", module)
        if block:
            layer = {"depthwise": "conv_dw", "pointwise": "conv_pw"}.get(block[3], block[3])
            return f"blocks.{int(block[1]) - 1}.{int(block[2]) - 1}.{layer}"
        return {"conv1": "conv_stem", "output": "classifier"}.get(module, module)


register("mobilenet_v1", MobileNetV1, (224, 224, 3))
