"""Pre-activation ResNets of up to a thousand layers, for CIFAR.

Reference: He, Zhang, Ren and Sun (2016), "Identity Mappings in Deep Residual Networks", figure 1 (b), table 4 and
appendix.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, GlobalAvgPool
from cnnjax.models.parts.architecture import Maps, Stage, StageMaps
from cnnjax.models.parts.residual import HE_NORMAL, ResidualArchitecture, may_skip, residual_stages
from cnnjax.models.registry import register

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


class PreactResNet(ResidualArchitecture):
    """Pre-activation ResNet for CIFAR, of 9n + 2 layers: 3x3 stem, three stages of n bottlenecks, a last norm.

    Kernels start as in He et al. (2015); scales of norms at one. For 32x32 pictures and ten classes; the
    registered ones scan equal blocks of a stage, for compile time would grow with depth:

    | net | n | parameters | of convolutions and dense | MMAC |
    |---|---|---|---|---|
    | ResNet-164 | 18 | 1,703,258 | 1,678,346 | 244.5 |
    | ResNet-1001 | 111 | 10,327,706 | 10,178,490 | 1,487.8 |

    Attributes:
        depth: blocks of each stage, n.
        num_classes: width of `output`; None ends with the 256 pooled features.
    """

    depth: int
    num_classes: int | None = 10

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("stage1", 64, 1),
            Stage("stage2", 128, 2),
            Stage("stage3", 256, 4),
        )

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
        conv = partial(Conv, use_bias=False, kernel_init=HE_NORMAL, **self.types)
        norm = partial(BatchNorm, **self.types)
        x: jax.Array = conv(16, (3, 3), padding=1, name="conv1")(images)

        def block(place: int, stage: Stage) -> Callable[..., nn.Module]:
            return partial(PreactBlock, stage.channels // 4, conv=conv, norm=norm)

        x = residual_stages(self, block, [self.depth] * 3, x, train=train, maps=maps)
        if maps.complete:
            return maps.found
        x = nn.relu(norm(name="bn")(x, train=train))
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)


for _name, _depth in DEPTHS.items():
    register(_name, PreactResNet, (32, 32, 3), depth=_depth, scan=True)
