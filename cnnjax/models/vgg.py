"""VGG: nothing but 3x3 convolutions and 2x2 pools.

Reference: Simonyan and Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers import AdaptiveAvgPool, BatchNorm, Conv, Dense, Dropout, MaxPool
from cnnjax.models.registry import Stage, register

# Convolutions of each stage: columns A, B, D and E of the table.
DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class VGGStage(nn.Module):
    """Rectified 3x3 convolutions of one resolution.

    Attributes:
        features: channels of each convolution.
        depth: number of convolutions.
        batch_norm: whether each is normalised before it is rectified.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    features: int
    depth: int
    batch_norm: bool
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width features"]:
        """All convolutions in turn."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        for number in range(1, self.depth + 1):
            kernel_init = nn.initializers.glorot_normal()
            x = Conv(self.features, (3, 3), padding=1, kernel_init=kernel_init, name=f"conv{number}", **types)(x)
            x = BatchNorm(name=f"bn{number}", **types)(x, train=train) if self.batch_norm else x
            x = nn.relu(x)
        return x


class VGG(nn.Module):
    """VGG: five stages of convolutions, each followed by a 2x2 pool, and three dense layers.

    Kernels start as in Glorot and Bengio (2010), which section 3.1 found to do without a net trained before. Maps of
    another size than the paper's are averaged to 7x7. At 224x224 and 1,000 classes; receptive fields are those of
    pool5, their stride is 32:

    | net | parameters | with `batch_norm` | GMAC | receptive field |
    |---|---|---|---|---|
    | VGG-11 | 132,863,336 | 132,868,840 | 7.609 | 150 |
    | VGG-13 | 133,047,848 | 133,053,736 | 11.308 | 156 |
    | VGG-16 | 138,357,544 | 138,365,992 | 15.470 | 212 |
    | VGG-19 | 143,667,240 | 143,678,248 | 19.632 | 268 |

    Attributes:
        depths: convolutions of each stage.
        num_classes: width of `output`; None ends with the 4,096 features of fc7.
        batch_norm: whether convolutions are normalised, as Ioffe and Szegedy (2015) proposed later.
        dropout: share of the features that fc6 and fc7 drop in training.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    depths: Sequence[int]
    num_classes: int | None = 1000
    batch_norm: bool = False
    dropout: float = 0.5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = tuple(Stage(f"stage{i}", width) for i, width in enumerate(WIDTHS, 1))
    flattened: ClassVar[dict[str, tuple[int, int]]] = {"fc6": (7, 7)}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` drops features and normalises by the batch's statistics."""
        x = images
        for number, (stage, depth) in enumerate(zip(self.stages, self.depths, strict=True), 1):
            module = VGGStage(stage.channels, depth, self.batch_norm, self.dtype, self.param_dtype, name=stage.name)
            x = module(x, train=train)
            x = MaxPool(2, name=f"pool{number}")(x)
        x = AdaptiveAvgPool(7, name="pool")(x).reshape(x.shape[0], -1)
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        types["kernel_init"] = nn.initializers.glorot_normal()
        for number in (6, 7):
            x = nn.relu(Dense(4096, name=f"fc{number}", **types)(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model: a number in a flat list."""
        dense = {"fc6": 0, "fc7": 3, "output": 6}
        if module in dense:
            return f"classifier.{dense[module]}"
        stage, layer = module.split("/")
        kind, number = layer[:-1], int(layer[-1])
        each = 3 if self.batch_norm else 2  # convolution, norm, rectifier; a pool ends each stage
        before = sum(each * depth + 1 for depth in self.depths[: int(stage[-1]) - 1])
        return f"features.{before + each * (number - 1) + (kind == 'bn')}"


for _name, _depths in DEPTHS.items():
    register(_name, VGG, (224, 224, 3), depths=_depths)
