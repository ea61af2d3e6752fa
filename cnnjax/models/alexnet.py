"""AlexNet, as published in 2012 and as its one-column successor of 2014.

Reference: Krizhevsky, Sutskever and Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks",
section 3 and figure 2; Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks", section 5.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers import AdaptiveAvgPool, Conv, Dense, Dropout, LocalResponseNorm, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register

# Section 5: normal with deviation 0.01; biases of one feed the rectifiers behind conv2, conv4, conv5, fc6 and fc7.
NORMAL = nn.initializers.normal(0.01)
ONES = nn.initializers.ones_init()


class AlexNet(Architecture):
    """AlexNet of 2012: two groups of maps, local response normalisation, overlapping pools.

    At 227x227 and 1,000 classes: 60,965,224 parameters, 724,406,816 multiply-accumulates; receptive fields of pool1, 2
    and 5: 19, 67, 195. Kernels start normal with deviation 0.01, biases at one in conv2, conv4, conv5, fc6 and fc7 and
    at zero elsewhere.

    Attributes:
        num_classes: width of `output`; None ends with the 4,096 features of fc7.
        dropout: share of the features that fc6 and fc7 drop in training.
    """

    num_classes: int | None = 1000
    dropout: float = 0.5

    head: ClassVar[tuple[str, ...]] = ("fc6", "fc7")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("pool1", 96, 8),
            Stage("pool2", 256, 16),
            Stage("pool5", 256, 32),
        )

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` drops features."""
        maps = StageMaps(self, stages)
        options: dict[str, Any] = {"kernel_init": NORMAL, **self.types}
        x = nn.relu(Conv(96, (11, 11), strides=4, padding="VALID", name="conv1", **options)(images))
        x = LocalResponseNorm(dtype=self.dtype, name="norm1")(x)
        x = MaxPool(3, strides=2, name="pool1")(x)
        if maps.take("pool1", x):
            return maps.found
        x = nn.relu(Conv(256, (5, 5), padding=2, groups=2, bias_init=ONES, name="conv2", **options)(x))
        x = LocalResponseNorm(dtype=self.dtype, name="norm2")(x)
        x = MaxPool(3, strides=2, name="pool2")(x)
        if maps.take("pool2", x):
            return maps.found
        x = nn.relu(Conv(384, (3, 3), padding=1, name="conv3", **options)(x))
        x = nn.relu(Conv(384, (3, 3), padding=1, groups=2, bias_init=ONES, name="conv4", **options)(x))
        x = nn.relu(Conv(256, (3, 3), padding=1, groups=2, bias_init=ONES, name="conv5", **options)(x))
        x = MaxPool(3, strides=2, name="pool5")(x)
        if maps.take("pool5", x):
            return maps.found
        x = x.reshape(x.shape[0], -1)
        for number in (6, 7):
            x = nn.relu(Dense(4096, bias_init=ONES, name=f"fc{number}", **options)(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **options)(x)


class AlexNetOWT(Architecture):
    """AlexNet in one column ("one weird trick"): narrower, no groups, no normalisation; torchvision's.

    At 224x224 and 1,000 classes: 61,100,840 parameters, 714,188,480 multiply-accumulates; receptive fields of pool1, 2
    and 5: 19, 67, 195. Maps of another size are averaged to 6x6. Kernels start as in He et al. (2015), "Delving Deep
    into Rectifiers"; the paper says nothing.

    Attributes:
        num_classes: width of `output`; None ends with the 4,096 features of fc7.
        dropout: share of the features that are dropped before fc6 and before fc7 in training.
    """

    num_classes: int | None = 1000
    dropout: float = 0.5

    head: ClassVar[tuple[str, ...]] = ("fc6", "fc7")
    flattened: ClassVar[dict[str, tuple[int, int]]] = {"fc6": (6, 6)}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("pool1", 64, 8),
            Stage("pool2", 192, 16),
            Stage("pool5", 256, 32),
        )

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` drops features."""
        maps = StageMaps(self, stages)
        conv = partial(Conv, kernel_init=nn.initializers.he_normal(), **self.types)
        x = nn.relu(conv(64, (11, 11), strides=4, padding=2, name="conv1")(images))
        x = MaxPool(3, strides=2, name="pool1")(x)
        if maps.take("pool1", x):
            return maps.found
        x = nn.relu(conv(192, (5, 5), padding=2, name="conv2")(x))
        x = MaxPool(3, strides=2, name="pool2")(x)
        if maps.take("pool2", x):
            return maps.found
        for number, features in ((3, 384), (4, 256), (5, 256)):
            x = nn.relu(conv(features, (3, 3), padding=1, name=f"conv{number}")(x))
        x = MaxPool(3, strides=2, name="pool5")(x)
        if maps.take("pool5", x):
            return maps.found
        x = AdaptiveAvgPool(6, name="pool")(x).reshape(x.shape[0], -1)
        for number in (6, 7):
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
            x = Dense(4096, kernel_init=nn.initializers.he_normal(), name=f"fc{number}", **self.types)(x)
            x = nn.relu(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        places = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
        dense = {"fc6": 1, "fc7": 4, "output": 6}
        return f"features.{places[module]}" if module in places else f"classifier.{dense[module]}"


register("alexnet", AlexNet, (227, 227, 3))
register("alexnet_owt", AlexNetOWT, (224, 224, 3))
