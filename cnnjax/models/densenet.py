"""DenseNet: every layer sees the maps of all layers before it.

Reference: Huang, Liu, van der Maaten and Weinberger (2017), "Densely Connected Convolutional Networks", table 1.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import AvgPool, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register

# Layers of each dense block.
DEPTHS = {"densenet121": (6, 12, 24, 16)}


class DenseLayer(nn.Module):
    """Norm, rectifier and 1x1 convolution to four times the growth; norm, rectifier and 3x3 to the growth.

    Attributes:
        growth: new channels, the paper's k.
        dropout: share of the new channels' values that is dropped in training.
        conv: makes a convolution.
        norm: makes a normalisation.
    """

    growth: int
    dropout: float
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width growth"]:
        """The new channels alone."""
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(4 * self.growth, (1, 1), name="conv1")(x)
        x = nn.relu(self.norm(name="bn2")(x, train=train))
        x = self.conv(self.growth, (3, 3), padding=1, name="conv2")(x)
        return Dropout(self.dropout, name="drop")(x, train=train)


class DenseBlock(nn.Module):
    """Dense layers of one resolution.

    Attributes:
        depth: number of layers.
        layer: makes a layer.
    """

    depth: int
    layer: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width outputs"]:
        """The old channels and all new ones."""
        for number in range(1, self.depth + 1):
            x = jnp.concatenate([x, self.layer(name=f"layer{number}")(x, train=train)], axis=-1)
        return x


class DenseNet(Architecture):
    """DenseNet-BC for ImageNet: bottlenecks in the layers, half the channels in each transition.

    DenseNet-121 at 224x224 and 1,000 classes: 7,978,856 parameters, 2,834,161,664 multiply-accumulates; receptive
    fields of blocks 1 to 4: 59, 255, 1031, 2071. Kernels start as in He et al. (2015), as section 4.2 says.

    Attributes:
        depths: layers of each dense block.
        growth: new channels of each layer, the paper's k.
        num_classes: width of `output`; None ends with the pooled features.
        dropout: share of the new channels' values that is dropped in training; the paper takes 0.2 for data that it
            does not augment.
    """

    depths: Sequence[int]
    growth: int = 32
    num_classes: int | None = 1000
    dropout: float = 0.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name: what leaves each dense block."""
        stages, channels = [], 2 * self.growth
        for number, depth in enumerate(self.depths, 1):
            channels += depth * self.growth
            stages.append(Stage(f"block{number}", channels, 2 ** (1 + number)))
            channels //= 2
        return tuple(stages)

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
        conv = partial(Conv, use_bias=False, kernel_init=nn.initializers.he_normal(), **self.types)
        norm = partial(BatchNorm, **self.types)
        layer = partial(DenseLayer, self.growth, self.dropout, conv, norm)
        x: jax.Array = conv(2 * self.growth, (7, 7), strides=2, padding=3, name="conv0")(images)
        x = nn.relu(norm(name="bn0")(x, train=train))
        x = MaxPool(3, strides=2, padding=1, name="pool0")(x)
        for number, (stage, depth) in enumerate(zip(self.stages, self.depths, strict=True), 1):
            x = DenseBlock(depth, layer, name=stage.name)(x, train=train)
            if maps.take(stage.name, x):
                return maps.found
            if number < len(self.depths):
                x = nn.relu(norm(name=f"transition{number}_bn")(x, train=train))
                x = conv(x.shape[-1] // 2, (1, 1), name=f"transition{number}_conv")(x)
                x = AvgPool(2, name=f"transition{number}_pool")(x)
        x = nn.relu(norm(name=f"bn{len(self.depths) + 1}")(x, train=train))
        x = GlobalAvgPool(name="pool")(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        if module == "output":
            return "classifier"
        name = re.sub(r"block(\d+)/layer(\d+)/", r"denseblock\1.denselayer\2.", module)
        name = re.sub(r"transition(\d)_", r"transition\1.", name)
        return "features." + name.replace("bn", "norm")


for _name, _depths in DEPTHS.items():
    register(_name, DenseNet, (224, 224, 3), depths=_depths)
