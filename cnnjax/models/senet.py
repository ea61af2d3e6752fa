"""Squeeze-and-excitation: ResNets with a gate on every branch, and SENet-154.

Reference: Hu, Shen and Sun (2018), "Squeeze-and-Excitation Networks", table 1, figure 3 and, for SENet-154, the
appendix.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool, SqueezeExcitation
from cnnjax.models.parts.architecture import Maps, Stage, StageMaps
from cnnjax.models.parts.residual import HE_NORMAL, ResidualArchitecture, may_skip, residual_stages
from cnnjax.models.registry import register
from cnnjax.models.resnet import BASIC, BOTTLENECK, BasicBlock, BottleneckBlock, ResNet


class SENetBlock(nn.Module):
    """ResNeXt-like bottleneck with a gate: 1x1 to twice the features, 3x3 in 64 groups and 1x1 to four times.

    Attributes:
        features: what the widths are multiples of.
        strides: step of the 3x3.
        shortcut_window: side of the window of the shortcut's convolution, where the shape changes.
        conv: makes a convolution.
        norm: makes a normalisation.
        gate: makes what multiplies the branch before it is added.
    """

    features: int
    strides: int
    shortcut_window: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    gate: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        *,
        train: bool,
        skip: float | jax.Array | None = None,
    ) -> Float[Array, "batch rows columns outputs"]:
        """Gated branch plus shortcut, rectified; `skip` is the branch's probability of being skipped in training."""
        outputs = 4 * self.features
        y = nn.relu(self.norm(name="bn1")(self.conv(2 * self.features, (1, 1), name="conv1")(x), train=train))
        y = self.conv(outputs, (3, 3), strides=self.strides, padding=1, groups=64, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y, train=train))
        y = self.norm(name="bn3")(self.conv(outputs, (1, 1), name="conv3")(y), train=train)
        y = self.gate(name="se")(y)
        if self.strides > 1 or x.shape[-1] != outputs:
            window = (self.shortcut_window, self.shortcut_window)
            padding = self.shortcut_window // 2
            x = self.conv(outputs, window, strides=self.strides, padding=padding, name="shortcut_conv")(x)
            x = self.norm(name="shortcut_bn")(x, train=train)
        return nn.relu(may_skip(y, skip, train=train) + x)


class SENet154(ResidualArchitecture):
    """SENet-154: a stem of three 3x3 convolutions, four stages of 3, 8, 36 and 3 gated blocks, dropout.

    At 224x224 and 1,000 classes: 115,088,984 parameters, 20,688,363,520 multiply-accumulates. Kernels start as in He et
    al. (2015); scales of norms at one.

    Attributes:
        num_classes: width of `output`; None ends with the 2,048 pooled features.
        dropout: share of the pooled features that is dropped in training.
    """

    num_classes: int | None = 1000
    dropout: float = 0.2

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return tuple(Stage(f"stage{i}", 128 * 2**i, 2 ** (1 + i)) for i in range(1, 5))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` drops features and uses the batch's statistics."""
        maps = StageMaps(self, stages)
        conv = partial(Conv, use_bias=False, kernel_init=HE_NORMAL, **self.types)
        norm = partial(BatchNorm, **self.types)
        gate = partial(SqueezeExcitation, **self.types)
        x: jax.Array = images
        for number, (width, strides) in enumerate(((64, 2), (64, 1), (128, 1)), 1):
            x = conv(width, (3, 3), strides=strides, padding=1, name=f"stem_conv{number}")(x)
            x = nn.relu(norm(name=f"stem_bn{number}")(x, train=train))
        x = MaxPool(3, strides=2, misfit="pad", name="pool1")(x)

        def block(place: int, stage: Stage) -> Callable[..., nn.Module]:
            window = 1 if place == 0 else 3
            return partial(SENetBlock, stage.channels // 4, shortcut_window=window, conv=conv, norm=norm, gate=gate)

        x = residual_stages(self, block, (3, 8, 36, 3), x, train=train, maps=maps)
        if maps.complete:
            return maps.found
        x = GlobalAvgPool(name="pool")(x)
        x = Dropout(self.dropout, name="drop")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)

    def torch_name(self, module: str) -> str:
        """What timm's `legacy_senet154` calls the module at a path of this model."""
        module = re.sub(r"stage(\d+)/block(\d+)", lambda at: f"layer{at[1]}.{int(at[2]) - 1}", module)
        for ours, theirs in {
            "stem_": "layer0.",
            "/shortcut_conv": ".downsample.0",
            "/shortcut_bn": ".downsample.1",
            "/se/reduce": ".se_module.fc1",
            "/se/increase": ".se_module.fc2",
            "output": "last_linear",
        }.items():
            module = module.replace(ours, theirs)
        return module.replace("/", ".")


for _table, _block in ((BASIC, BasicBlock), (BOTTLENECK, BottleneckBlock)):
    for _name, _depths in _table.items():
        register(f"se_{_name}", ResNet, (224, 224, 3), block=_block, depths=_depths, gate=SqueezeExcitation)
register("senet154", SENet154, (224, 224, 3))
