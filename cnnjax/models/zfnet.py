"""ZFNet: AlexNet after a look at its feature maps, with a smaller window and step in the first layers.

Reference: Zeiler and Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 3 and figure 3.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers import Conv, Dense, Dropout, LocalResponseNorm, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register


class ZFNet(Architecture):
    """ZFNet: 7x7 windows two pixels apart, one column, contrast normalisation across maps after the first two pools.

    At 224x224 and 1,000 classes: 62,357,608 parameters, 1,168,032,896 multiply-accumulates; maps of 110, 55, 26, 13
    and 6 pixels a side as in figure 3; receptive fields of conv1, pool1, conv2, pool2, conv3 to 5 and pool5: 7, 11, 27,
    43, 75, 107, 139, 171. Kernels start normal with deviation 0.01 and biases at zero, as in section 3.1.

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
            Stage("pool1", 96, 4),
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
        options: dict[str, Any] = {"kernel_init": nn.initializers.normal(0.01), **self.types}
        x = nn.relu(Conv(96, (7, 7), strides=2, padding=1, name="conv1", **options)(images))
        x = MaxPool(3, strides=2, misfit="pad", name="pool1")(x)
        if maps.take("pool1", x):
            return maps.found
        x = LocalResponseNorm(dtype=self.dtype, name="norm1")(x)
        x = nn.relu(Conv(256, (5, 5), strides=2, padding="VALID", name="conv2", **options)(x))
        x = MaxPool(3, strides=2, misfit="pad", name="pool2")(x)
        if maps.take("pool2", x):
            return maps.found
        x = LocalResponseNorm(dtype=self.dtype, name="norm2")(x)
        for number, features in ((3, 384), (4, 384), (5, 256)):
            x = nn.relu(Conv(features, (3, 3), padding=1, name=f"conv{number}", **options)(x))
        x = MaxPool(3, strides=2, name="pool5")(x)
        if maps.take("pool5", x):
            return maps.found
        x = x.reshape(x.shape[0], -1)
        for number in (6, 7):
            x = nn.relu(Dense(4096, name=f"fc{number}", **options)(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **options)(x)


register("zfnet", ZFNet, (224, 224, 3))
