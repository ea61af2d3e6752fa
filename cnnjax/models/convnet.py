"""Plain stacks of convolution, rectifier and pool, as lectures draw them.

Reference: the 28x28 example of introductory lectures (32 and 64 maps, flattened to 3,136, dense to 128); Karpathy et
al., "CS231n: Convolutional Neural Networks for Visual Recognition", notes on layer patterns and layer sizing.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.functional.geometry import whole
from cnnjax.layers import Conv, Dense, Dropout, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register


class ConvNet(Architecture):
    """INPUT -> [[CONV -> RELU] * `convs` -> POOL] for each of `features` -> [FC -> RELU] for each of `hidden` -> FC.

    Sized by the advice of the notes: small odd windows at stride 1 whose padding keeps the size, 2x2 pools that halve
    it. The defaults are the lecture's net: at 28x28, 7x7x64 = 3,136 values are flattened; 421,642 parameters,
    4,241,152 multiply-accumulates, receptive fields of pool1 and pool2 4 and 10. Kernels start as in He et al. (2015).

    Attributes:
        num_classes: width of `output`; None ends with the last hidden layer's features.
        features: channels of the convolutions before each pool.
        convs: convolutions before each pool.
        kernel_size: side of the square windows; odd, so that the padding keeps the size.
        hidden: widths of the hidden dense layers.
        dropout: share of the hidden features that are dropped in training.
    """

    num_classes: int | None = 10
    features: Sequence[int] = (32, 64)
    convs: int = 1
    kernel_size: int = 3
    hidden: Sequence[int] = (128,)
    dropout: float = 0.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name: what leaves each pool."""
        return tuple(Stage(f"pool{i}", width, 2**i) for i, width in enumerate(self.features, 1))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` drops features.

        Raises:
            ValueError: the window is even, or there is no convolution.
        """
        if whole(self.kernel_size, "kernel_size") % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size}; expected an odd number, whose padding keeps the size")
        whole(self.convs, "convs")
        if not self.features:
            raise ValueError("features is empty; expected the channels of at least one convolution")
        options: dict[str, Any] = {"kernel_init": nn.initializers.he_normal(), **self.types}
        window = (self.kernel_size, self.kernel_size)
        maps = StageMaps(self, stages)
        x: jax.Array = images
        for stage, width in enumerate(self.features, 1):
            for number in range(1, self.convs + 1):
                name = f"conv{stage}" if self.convs == 1 else f"conv{stage}_{number}"
                x = nn.relu(Conv(width, window, padding=self.kernel_size // 2, name=name, **options)(x))
            x = MaxPool(2, name=f"pool{stage}")(x)
            if maps.take(f"pool{stage}", x):
                return maps.found
        x = x.reshape(x.shape[0], -1)
        for number, width in enumerate(self.hidden, 1):
            x = nn.relu(Dense(width, name=f"fc{number}", **options)(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **options)(x)


register("convnet", ConvNet, (28, 28, 1))
