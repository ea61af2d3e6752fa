"""FCN: a net for classification, made dense, gives logits for every pixel.

Reference: Long, Shelhamer and Darrell (2015), "Fully Convolutional Networks for Semantic Segmentation"; dilated instead
of strided as in Yu and Koltun (2016), "Multi-Scale Context Aggregation by Dilated Convolutions", section 5. The heads,
and the loss beside the main one, are those of torchvision.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.functional.resizing import resize_bilinear
from cnnjax.layers import BatchNorm, Conv, Dropout
from cnnjax.models.parts.architecture import Maps, Stage, StageMaps
from cnnjax.models.parts.auxiliary import AuxiliaryLogits
from cnnjax.models.parts.residual import HE_NORMAL, ResidualArchitecture
from cnnjax.models.parts.trunk import TRUNK, trunk_maps, trunk_stages
from cnnjax.models.registry import builder_of, register
from cnnjax.models.resnet import ResNet

# Of the loss of the head in the middle, in torchvision's training.
AUXILIARY_WEIGHT = 0.5


class FCNHead(nn.Module, kw_only=True):
    """A 3x3 convolution to a quarter of the channels, normalised and rectified, dropout, and a 1x1 convolution.

    Attributes:
        num_classes: width of `output`; None ends with the features before it.
        dropout: share of the features that is dropped in training.
        types: of computation and parameters, as options of a layer.
    """

    num_classes: int | None
    dropout: float
    types: dict[str, Any]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width outputs"]:
        """Logits, or features, at every position."""
        conv = partial(Conv, kernel_init=HE_NORMAL, **self.types)
        x = conv(x.shape[-1] // 4, (3, 3), padding=1, use_bias=False, name="conv")(x)
        x = nn.relu(BatchNorm(name="bn", **self.types)(x, train=train))
        x = Dropout(self.dropout, name="drop")(x, train=train)
        return x if self.num_classes is None else Conv(self.num_classes, (1, 1), name="output", **self.types)(x)


class FCN(ResidualArchitecture):
    """A ResNet whose last two stages are dilated, so that their maps have an eighth of the rows, and a head on them.

    Logits are resized bilinearly to the picture. The paper's nets are VGG-16, AlexNet and GoogLeNet with learned
    upsampling and skips; this one is torchvision's, on a deeper net that needs neither. At 520x520 and 21 classes:

    | net | parameters | with the auxiliary head | GMAC | receptive field |
    |---|---|---|---|---|
    | `fcn_resnet50` | 32,957,013 | 35,322,218 | 142.7 | 443, before the logits are resized |

    Attributes:
        num_classes: width of the head's `output`; None ends with its features, an eighth of the picture's size.
        backbone: the registered name of a ResNet for ImageNet.
        auxiliary: whether there is a head on stage 3 too; then training gives `AuxiliaryLogits` of weight 0.5.
        dropout: share of the features that both heads drop in training.
        output_stride: pixels between neighbouring positions of the backbone's last map, as that of `ResNet`.
    """

    num_classes: int | None = 21
    backbone: str = "resnet50"
    auxiliary: bool = True
    dropout: float = 0.1
    output_stride: int = 8

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those of the backbone, from fine to coarse."""
        return trunk_stages(self._trunk(parent=None))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch rows columns outputs"] | AuxiliaryLogits | Maps:
        """Logits by pixel (or features), or the maps of `stages`; `train` adds the other head's, of the same size."""
        StageMaps(self, stages)  # says which names are wrong
        asked = [stage.name for stage in self.stages[-2:]] if stages is None else stages
        found = trunk_maps(self._trunk(name=TRUNK), images, train=train, stages=asked)
        if stages is not None:
            return found
        middle, last = found.values()

        def head(name: str, x: jax.Array) -> jax.Array:
            x = FCNHead(num_classes=self.num_classes, dropout=self.dropout, types=self.types, name=name)(x, train=train)
            return x if self.num_classes is None else resize_bilinear(x, images.shape[1:3])

        logits = head("head", last)
        if not self.auxiliary or self.num_classes is None or not (train or self.is_initializing()):
            return logits
        auxiliary = head("aux", middle)
        return AuxiliaryLogits(logits, (auxiliary,), AUXILIARY_WEIGHT) if train else logits

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        part, _, rest = module.partition("/")
        if part == TRUNK:
            return f"backbone.{self._trunk(parent=None).torch_name(rest)}"
        head = {"head": "classifier", "aux": "aux_classifier"}[part]
        return f"{head}.{ {'conv': 0, 'bn': 1, 'output': 4}[rest] }"

    def _trunk(self, **place: Any) -> ResNet:
        builder, variant = builder_of(self.backbone)
        if builder is not ResNet:
            raise ValueError(f"backbone={self.backbone!r}; expected a ResNet for ImageNet, such as 'resnet50'")
        options: dict[str, Any] = {**variant, "num_classes": None, "output_stride": self.output_stride}
        options |= {"stochastic_depth": self.stochastic_depth, "remat": self.remat, "scan": self.scan}
        return builder(**options, **self.types, **place)


register("fcn_resnet50", FCN, (520, 520, 3), logits_of="pixels", backbone="resnet50")
