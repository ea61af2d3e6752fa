"""VGG: nothing but 3x3 convolutions and 2x2 pools.

Reference: Simonyan and Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image Recognition", table 1.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.functional.geometry import Misfit
from cnnjax.layers import AdaptiveAvgPool, BatchNorm, Conv, Dense, Dropout, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register

# Convolutions of each stage: columns A, B, D and E of the table.
DEPTHS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# Channels of the stages, as multiples of the first one's.
WIDTHS = (1, 2, 4, 8, 8)


class VGGStage(nn.Module):
    """Rectified 3x3 convolutions of one resolution.

    Attributes:
        features: channels of each convolution.
        depth: number of convolutions.
        conv: makes a convolution.
        norm: makes what normalises each before it is rectified; None for nothing.
    """

    features: int
    depth: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module] | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width features"]:
        """All convolutions in turn."""
        for number in range(1, self.depth + 1):
            x = self.conv(self.features, (3, 3), padding=1, name=f"conv{number}")(x)
            x = x if self.norm is None else self.norm(name=f"bn{number}")(x, train=train)
            x = nn.relu(x)
        return x


class VGG(Architecture):
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
        hidden: width of fc6 and fc7; the paper's is 4,096.
        width: channels of the first stage; the others have twice, four, eight and eight times as many.
        pool_misfit: what pools do with an odd last row or column: leave it out by "floor", or keep it by "pad".
    """

    depths: Sequence[int]
    num_classes: int | None = 1000
    batch_norm: bool = False
    dropout: float = 0.5
    hidden: int = 4096
    width: int = 64
    pool_misfit: Misfit = "floor"

    head: ClassVar[tuple[str, ...]] = ("fc6", "fc7")
    flattened: ClassVar[dict[str, tuple[int, int]]] = {"fc6": (7, 7)}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return tuple(Stage(f"stage{i}", each * self.width, 2 ** (i - 1)) for i, each in enumerate(WIDTHS, 1))

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
        options: dict[str, Any] = {"kernel_init": nn.initializers.glorot_normal(), **self.types}
        conv, norm = partial(Conv, **options), partial(BatchNorm, **self.types) if self.batch_norm else None
        x: jax.Array = images
        for number, (stage, depth) in enumerate(zip(self.stages, self.depths, strict=True), 1):
            x = VGGStage(stage.channels, depth, conv, norm, name=stage.name)(x, train=train)
            if maps.take(stage.name, x):
                return maps.found
            x = MaxPool(2, misfit=self.pool_misfit, name=f"pool{number}")(x)
        x = AdaptiveAvgPool(7, name="pool")(x).reshape(x.shape[0], -1)
        for number in (6, 7):
            x = nn.relu(Dense(self.hidden, name=f"fc{number}", **options)(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **options)(x)

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
