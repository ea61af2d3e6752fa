"""ResNet, for ImageNet and for CIFAR.

Reference: He, Zhang, Ren and Sun (2016), "Deep Residual Learning for Image Recognition", tables 1 and 6, figures 3 and
5; the stride on the 3x3 of a bottleneck is that of Gross and Wilber (2016), "Training and investigating Residual Nets".
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, FrozenBatchNorm, GlobalAvgPool, MaxPool
from cnnjax.models.parts.architecture import Maps, Stage, StageMaps
from cnnjax.models.parts.residual import HE_NORMAL, ResidualArchitecture, may_skip, residual_stages
from cnnjax.models.registry import register

# Blocks of each stage.
BASIC = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
BOTTLENECK = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
CIFAR = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18, "resnet1202": 200}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where the shape changes (option B).

    Attributes:
        features: channels of both convolutions and of the output.
        strides: step of the first convolution.
        conv: makes a convolution.
        norm: makes a normalisation.
        gate: makes what multiplies the branch before it is added, such as squeeze-and-excitation; None for nothing.
        dilations: distance of the taps before the stride, and behind it.
    """

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    gate: Callable[..., nn.Module] | None = None
    dilations: tuple[int, int] = (1, 1)
    expansion: ClassVar[int] = 1

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        *,
        train: bool,
        skip: float | jax.Array | None = None,
    ) -> Float[Array, "batch rows columns features"]:
        """Branch plus shortcut, rectified; `skip` is the branch's probability of being skipped in training."""
        before, behind = ({"padding": each, "dilation": each} for each in self.dilations)
        y = self.conv(self.features, (3, 3), strides=self.strides, name="conv1", **before)(x)
        y = nn.relu(self.norm(name="bn1")(y, train=train))
        y = self.conv(self.features, (3, 3), name="conv2", **behind)(y)
        y = self.norm(name="bn2")(y, train=train)
        y = y if self.gate is None else self.gate(name="se")(y)
        y = may_skip(y, skip, train=train)
        return nn.relu(y + _projected(self, x, y.shape[-1], train=train))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide, and a shortcut, projected where the shape changes.

    Attributes:
        features: channels of the first two convolutions.
        strides: step of the 3x3, or of the first 1x1 under `v1_strides`.
        conv: makes a convolution.
        norm: makes a normalisation.
        gate: makes what multiplies the branch before it is added; None for nothing.
        v1_strides: the stride on the first 1x1, as in the paper.
        dilations: distance of the taps before the stride, and behind it.
    """

    features: int
    strides: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    gate: Callable[..., nn.Module] | None = None
    v1_strides: bool = False
    dilations: tuple[int, int] = (1, 1)
    expansion: ClassVar[int] = 4

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        *,
        train: bool,
        skip: float | jax.Array | None = None,
    ) -> Float[Array, "batch rows columns outputs"]:
        """Branch plus shortcut, rectified; `skip` is the branch's probability of being skipped in training."""
        outputs = self.features * self.expansion
        first, second = (self.strides, 1) if self.v1_strides else (1, self.strides)
        y = self.conv(self.features, (1, 1), strides=first, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train=train))
        dilation = self.dilations[1 if self.v1_strides else 0]
        y = self.conv(self.features, (3, 3), strides=second, padding=dilation, dilation=dilation, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train=train))
        y = self.norm(name="bn3")(self.conv(outputs, (1, 1), name="conv3")(y), train=train)
        y = y if self.gate is None else self.gate(name="se")(y)
        y = may_skip(y, skip, train=train)
        return nn.relu(y + _projected(self, x, outputs, train=train))


def _projected(block: BasicBlock | BottleneckBlock, x: jax.Array, outputs: int, *, train: bool) -> jax.Array:
    if block.strides == 1 and x.shape[-1] == outputs:
        return x
    x = block.conv(outputs, (1, 1), strides=block.strides, name="shortcut_conv")(x)
    return block.norm(name="shortcut_bn")(x, train=train)


class ResNet(ResidualArchitecture):
    """ResNet for ImageNet: 7x7 stem, max-pool, four stages, global mean.

    Kernels start as in He et al. (2015), normal with variance 2 / fan-in; scales of norms at one; the classifier with
    Flax's default, variance 1 / fan-in. At 224x224 and 1,000 classes; receptive fields are those of stages 1 to 4:

    | net | parameters | GMAC | receptive field |
    |---|---|---|---|
    | ResNet-18 | 11,689,512 | 1.814 | 43, 99, 211, 435 |
    | ResNet-34 | 21,797,672 | 3.664 | 59, 179, 547, 899 |
    | ResNet-50 | 25,557,032 | 4.089 | 35, 91, 267, 427 |
    | ResNet-101 | 44,549,160 | 7.801 | 35, 91, 811, 971 |
    | ResNet-152 | 60,192,808 | 11.514 | 35, 155, 1291, 1451 |

    Attributes:
        block: `BasicBlock` or `BottleneckBlock`.
        depths: blocks of each stage.
        num_classes: width of `output`; None ends with the pooled features.
        gate: makes what multiplies each branch, such as squeeze-and-excitation; None for nothing.
        v1_strides: the stride of a bottleneck on its first 1x1, as in the paper, not on its 3x3; receptive fields
            are then 35, 99, 291, 483 for ResNet-50.
        output_stride: pixels between neighbouring positions of the last map, 4, 8, 16 or 32. Below 32 the last stages
            are dilated where they else had a stride, which leaves parameters and receptive fields as they are
            (`replace_stride_with_dilation` of torchvision).
        frozen_norm: whether normalisation is by numbers that stay, none of which is a parameter; for weights that are
            loaded.
        norm_epsilon: added to the variances.
    """

    block: type[BasicBlock | BottleneckBlock]
    depths: Sequence[int]
    num_classes: int | None = 1000
    gate: Callable[..., nn.Module] | None = None
    v1_strides: bool = False
    output_stride: int = 32
    frozen_norm: bool = False
    norm_epsilon: float = 1e-5

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse.

        Raises:
            ValueError: there is no such `output_stride`.
        """
        if self.output_stride not in (4, 8, 16, 32):
            raise ValueError(f"output_stride={self.output_stride}; expected 4, 8, 16 or 32")
        strides = [min(2 ** (1 + i), self.output_stride) for i in range(1, len(self.depths) + 1)]
        return tuple(Stage(f"stage{i}", 2 ** (5 + i) * self.block.expansion, each) for i, each in enumerate(strides, 1))

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
        norm = partial(BatchNorm, epsilon=self.norm_epsilon, **self.types)
        if self.frozen_norm:
            norm = partial(FrozenBatchNorm, epsilon=self.norm_epsilon, dtype=self.dtype)
        gate = self.gate and partial(self.gate, **self.types)
        options = {"v1_strides": self.v1_strides} if self.block is BottleneckBlock else {}
        x = conv(64, (7, 7), strides=2, padding=3, name="conv1")(images)
        x = nn.relu(norm(name="bn1")(x, train=train))
        x = MaxPool(3, strides=2, padding=1, name="pool1")(x)

        def block(place: int, stage: Stage) -> Callable[..., nn.Module]:
            return partial(self.block, 64 * 2**place, conv=conv, norm=norm, gate=gate, **options)

        x = residual_stages(self, block, self.depths, x, train=train, maps=maps)
        if maps.complete:
            return maps.found
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)

    def torch_name(self, module: str) -> str:
        """What torchvision, and timm for the gates, call the module at a path of this model."""
        module = re.sub(r"stage(\d+)/block(\d+)", lambda at: f"layer{at[1]}.{int(at[2]) - 1}", module)
        for ours, theirs in {
            "/shortcut_conv": ".downsample.0",
            "/shortcut_bn": ".downsample.1",
            "/se/reduce": ".se.fc1",
            "/se/increase": ".se.fc2",
            "output": "fc",
        }.items():
            module = module.replace(ours, theirs)
        return module.replace("/", ".")


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A): every second pixel, zeros for new channels.

    Attributes:
        features: channels of both convolutions and of the output.
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
    ) -> Float[Array, "batch rows columns features"]:
        """Branch plus shortcut, rectified; `skip` is the branch's probability of being skipped in training."""
        y = self.conv(self.features, (3, 3), strides=self.strides, padding=1, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y, train=train))
        y = self.norm(name="bn2")(self.conv(self.features, (3, 3), padding=1, name="conv2")(y), train=train)
        y = may_skip(y, skip, train=train)
        shortcut = x[:, :: self.strides, :: self.strides]
        new = self.features - x.shape[-1]
        shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, new))) if new else shortcut
        return nn.relu(y + shortcut)


class CifarResNet(ResidualArchitecture):
    """ResNet for CIFAR, of 6n + 2 layers: 3x3 stem, three stages of n blocks with 16, 32 and 64 channels.

    Kernels start as in He et al. (2015); scales of norms at one. For 32x32 pictures and ten classes; receptive fields
    are those of stages 1 to 3:

    | net | n | parameters | MMAC | receptive field |
    |---|---|---|---|---|
    | ResNet-20 | 3 | 269,722 | 40.6 | 15, 37, 81 |
    | ResNet-32 | 5 | 464,154 | 68.9 | 23, 61, 137 |
    | ResNet-44 | 7 | 658,586 | 97.2 | 31, 85, 193 |
    | ResNet-56 | 9 | 853,018 | 125.5 | 39, 109, 249 |
    | ResNet-110 | 18 | 1,727,962 | 252.9 | 75, 217, 501 |
    | ResNet-1202 | 200 | 19,421,274 | 2,828.9 | 803, 2401, 5597 |

    Attributes:
        depth: blocks of each stage, n.
        num_classes: width of `output`; None ends with the 64 pooled features.
    """

    depth: int
    num_classes: int | None = 10

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("stage1", 16, 1),
            Stage("stage2", 32, 2),
            Stage("stage3", 64, 4),
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
        x = nn.relu(norm(name="bn1")(conv(16, (3, 3), padding=1, name="conv1")(images), train=train))

        def block(place: int, stage: Stage) -> Callable[..., nn.Module]:
            return partial(CifarBlock, stage.channels, conv=conv, norm=norm)

        x = residual_stages(self, block, [self.depth] * 3, x, train=train, maps=maps)
        if maps.complete:
            return maps.found
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)


for _table, _block in ((BASIC, BasicBlock), (BOTTLENECK, BottleneckBlock)):
    for _name, _depths in _table.items():
        register(_name, ResNet, (224, 224, 3), block=_block, depths=_depths)
for _name, _depth in CIFAR.items():
    register(_name, CifarResNet, (32, 32, 3), depth=_depth, scan=_depth >= 200)
