"""Squeeze-and-excitation: ResNets with a gate on every branch, and SENet-154.

Reference: Hu, Shen and Sun (2018), "Squeeze-and-Excitation Networks", table 1, figure 3 and, for SENet-154, the
appendix.
"""

import re
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool, SqueezeExcitation
from cnnjax.models.registry import Stage, register
from cnnjax.models.resnet import (
    BASIC,
    BOTTLENECK,
    HE_NORMAL,
    BasicBlock,
    BottleneckBlock,
    ResNet,
    ResNetStage,
    may_skip,
    rising_skips,
)


class SENetBlock(nn.Module):
    """ResNeXt-like bottleneck with a gate: 1x1 to twice the features, 3x3 in 64 groups and 1x1 to four times.

    Attributes:
        features: what the widths are multiples of.
        strides: step of the 3x3.
        shortcut_window: side of the window of the shortcut's convolution, where the shape changes.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    features: int
    strides: int
    shortcut_window: int
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        *,
        train: bool,
        skip: float | jax.Array | None = None,
    ) -> Float[Array, "batch rows columns outputs"]:
        """Gated branch plus shortcut, rectified; `skip` is the branch's probability of being skipped in training."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = partial(Conv, use_bias=False, kernel_init=HE_NORMAL, **types)
        norm = partial(BatchNorm, **types)
        outputs = 4 * self.features
        y = nn.relu(norm(name="bn1")(conv(2 * self.features, (1, 1), name="conv1")(x), train=train))
        y = conv(outputs, (3, 3), strides=self.strides, padding=1, groups=64, name="conv2")(y)
        y = nn.relu(norm(name="bn2")(y, train=train))
        y = norm(name="bn3")(conv(outputs, (1, 1), name="conv3")(y), train=train)
        y = SqueezeExcitation(name="se", **types)(y)
        if self.strides > 1 or x.shape[-1] != outputs:
            window = (self.shortcut_window, self.shortcut_window)
            padding = self.shortcut_window // 2
            x = conv(outputs, window, strides=self.strides, padding=padding, name="shortcut_conv")(x)
            x = norm(name="shortcut_bn")(x, train=train)
        return nn.relu(may_skip(y, skip, train=train) + x)


class SENet154(nn.Module):
    """SENet-154: a stem of three 3x3 convolutions, four stages of 3, 8, 36 and 3 gated blocks, dropout.

    At 224x224 and 1,000 classes: 115,088,984 parameters, 20,688,363,520 multiply-accumulates. Kernels start as in He et
    al. (2015); scales of norms at one.

    Attributes:
        num_classes: width of `output`; None ends with the 2,048 pooled features.
        dropout: share of the pooled features that is dropped in training.
        stochastic_depth: probability that the last branch is skipped in training, rising evenly from the first.
        remat: whether the backward pass computes blocks anew, to need less memory.
        scan: whether equal blocks of a stage are one scanned block.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    num_classes: int | None = 1000
    dropout: float = 0.2
    stochastic_depth: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = tuple(Stage(f"stage{i}", 128 * 2**i) for i in range(1, 5))

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` drops features and normalises by the batch's statistics."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x: jax.Array = images
        for number, (width, strides) in enumerate(((64, 2), (64, 1), (128, 1)), 1):
            options: dict[str, Any] = {"use_bias": False, "kernel_init": HE_NORMAL, **types}
            x = Conv(width, (3, 3), strides=strides, padding=1, name=f"stem_conv{number}", **options)(x)
            x = nn.relu(BatchNorm(name=f"stem_bn{number}", **types)(x, train=train))
        x = MaxPool(3, strides=2, misfit="pad", name="pool1")(x)
        depths = (3, 8, 36, 3)
        skips = rising_skips(depths, self.stochastic_depth)
        for place, (stage, depth) in enumerate(zip(self.stages, depths, strict=True)):
            block = partial(SENetBlock, stage.channels // 4, shortcut_window=1 if place == 0 else 3, **types)
            shape = depth, 1 if place == 0 else 2, stage.channels
            x = ResNetStage(block, *shape, self.scan, skips[place], self.remat, name=stage.name)(x, train=train)
        x = GlobalAvgPool(name="pool")(x)
        x = Dropout(self.dropout, name="drop")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)

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
