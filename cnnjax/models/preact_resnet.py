"""Pre-activation ResNets of up to a thousand layers, for CIFAR.

Reference: He, Zhang, Ren and Sun (2016), "Identity Mappings in Deep Residual Networks", figure 1 (b), table 4 and
appendix.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, GlobalAvgPool
from cnnjax.models.registry import Stage, register
from cnnjax.models.resnet import HE_NORMAL, ResNetStage, may_skip, rising_skips

# Blocks of each stage: nine layers of each three, and two more.
DEPTHS = {"preact_resnet164": 18, "preact_resnet1001": 111}


class PreactBlock(nn.Module):
    """Norm, rectifier and convolution, thrice (1x1, 3x3, 1x1), added to what came in.

    Where the shape changes, the shortcut is a 1x1 convolution of the block's first rectified maps, and the stride lies
    on the first 1x1.

    Attributes:
        features: channels of the first two convolutions; the output has four times as many.
        strides: step of the first convolution.
        conv: makes a convolution.
        norm: makes a normalisation.
    """

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        *,
        train: bool,
        skip: float | jax.Array | None = None,
    ) -> Float[Array, "batch rows columns outputs"]:
        """Branch plus shortcut; `skip` is the branch's probability of being skipped in training."""
        outputs = 4 * self.features
        y = nn.relu(self.norm(name="bn1")(x, train=train))
        if self.strides > 1 or x.shape[-1] != outputs:
            x = self.conv(outputs, (1, 1), strides=self.strides, name="shortcut_conv")(y)
        y = self.conv(self.features, (1, 1), strides=self.strides, name="conv1")(y)
        y = nn.relu(self.norm(name="bn2")(y, train=train))
        y = self.conv(self.features, (3, 3), padding=1, name="conv2")(y)
        y = nn.relu(self.norm(name="bn3")(y, train=train))
        y = self.conv(outputs, (1, 1), name="conv3")(y)
        return x + may_skip(y, skip, train=train)


class PreactResNet(nn.Module):
    """Pre-activation ResNet for CIFAR, of 9n + 2 layers: 3x3 stem, three stages of n bottlenecks, a last norm.

    Kernels start as in He et al. (2015); scales of norms at one. For 32x32 pictures and ten classes; equal blocks of a
    stage are scanned by default, for compile time would grow with depth:

    | net | n | parameters | of convolutions and dense | MMAC |
    |---|---|---|---|---|
    | ResNet-164 | 18 | 1,703,258 | 1,678,346 | 244.5 |
    | ResNet-1001 | 111 | 10,327,706 | 10,178,490 | 1,487.8 |

    Attributes:
        depth: blocks of each stage, n.
        num_classes: width of `output`; None ends with the 256 pooled features.
        stochastic_depth: probability that the last branch is skipped in training, rising evenly from the first.
        remat: whether the backward pass computes blocks anew, to need less memory.
        scan: whether equal blocks of a stage are one scanned block.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    depth: int
    num_classes: int | None = 10
    stochastic_depth: float = 0.0
    remat: bool = False
    scan: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = (Stage("stage1", 64), Stage("stage2", 128), Stage("stage3", 256))

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` normalises by the batch's statistics."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = partial(Conv, use_bias=False, kernel_init=HE_NORMAL, **types)
        norm = partial(BatchNorm, **types)
        x: jax.Array = conv(16, (3, 3), padding=1, name="conv1")(images)
        skips = rising_skips([self.depth] * len(self.stages), self.stochastic_depth)
        for place, stage in enumerate(self.stages):
            block = partial(PreactBlock, stage.channels // 4, conv=conv, norm=norm)
            shape = self.depth, 1 if place == 0 else 2, stage.channels
            x = ResNetStage(block, *shape, self.scan, skips[place], self.remat, name=stage.name)(x, train=train)
        x = nn.relu(norm(name="bn")(x, train=train))
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)


for _name, _depth in DEPTHS.items():
    register(_name, PreactResNet, (32, 32, 3), depth=_depth)
