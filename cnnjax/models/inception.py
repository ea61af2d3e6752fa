"""GoogLeNet, its batch-normalised form, and the heads beside the main one that nets of the family train with.

Reference: Szegedy et al. (2015), "Going Deeper with Convolutions", table 1, figure 3 and section 5; Ioffe and Szegedy
(2015), "Batch Normalization". Inception v3 is in `inception_v3`.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import (
    AdaptiveAvgPool,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    MaxPool,
)
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.parts.auxiliary import AuxiliaryLogits
from cnnjax.models.parts.units import ConvUnit
from cnnjax.models.registry import register

# Table 1: channels of the branches #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
WIDTHS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class InceptionBlock(nn.Module):
    """Four branches side by side: 1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max-pool then 1x1.

    Attributes:
        widths: a row of `WIDTHS`.
        large_window: side of the third branch's window.
        unit: makes a rectified convolution.
    """

    widths: tuple[int, ...]
    large_window: int
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch height width outputs"]:
        """The branches' maps, one after the other."""

        def unit(name: str, features: int, window: int, x: jax.Array) -> jax.Array:
            return self.unit(features, (window, window), name=name)(x, train=train)

        one, reduce3, three, reduce5, five, projection = self.widths
        branches = [
            unit("1x1", one, 1, x),
            unit("3x3", three, 3, unit("3x3_reduce", reduce3, 1, x)),
            unit("5x5", five, self.large_window, unit("5x5_reduce", reduce5, 1, x)),
            unit("pool_projection", projection, 1, MaxPool(3, strides=1, padding=1, name="pool")(x)),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryHead(nn.Module):
    """A small classifier on a map in the middle: 4x4 means, 1x1 convolution, dense, dropout, dense.

    Attributes:
        num_classes: width of `output`.
        adaptive: whether the means are adaptive, as torchvision's, or else of 5x5 windows three pixels apart, as in the
            paper, which on maps of 14x14 pixels gives 4x4.
        dropout: share of the hidden features that is dropped in training.
        unit: makes a rectified convolution.
        dense: makes a dense layer.
    """

    num_classes: int
    adaptive: bool
    dropout: float
    unit: Callable[..., nn.Module]
    dense: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"], *, train: bool) -> Float[Array, "batch classes"]:
        """Logits."""
        x = x if self.adaptive else AvgPool(5, strides=3, name="pool")(x)
        x = AdaptiveAvgPool(4, name="resize")(x)
        x = self.unit(128, (1, 1), name="conv")(x, train=train)
        x = nn.relu(self.dense(1024, name="fc")(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout, name="drop")(x, train=train)
        return self.dense(self.num_classes, name="output")(x)


class GoogLeNet(Architecture):
    """GoogLeNet: nine inception blocks, a global mean, and two more heads while training.

    Without `batch_norm` it is the paper's; with it torchvision's, which also has 3x3 windows in the place of 5x5 and no
    local response normalisation. Kernels start as in Glorot and Bengio (2010); the paper says nothing. At 224x224 and
    1,000 classes; receptive fields are those of blocks 3b, 4e and 5b:

    | net | parameters | with auxiliary heads | MMAC | receptive field |
    |---|---|---|---|---|
    | `googlenet` | 6,998,552 | 13,378,280 | 1,582.7 | 91, 427, 715 |
    | `googlenet_bn` | 6,624,904 | 13,004,888 | 1,498.4 | 59, 235, 379 |

    Attributes:
        num_classes: width of `output`; None ends with the 1,024 pooled features, without other heads.
        batch_norm: torchvision's form.
        auxiliary: whether there are heads after blocks 4a and 4d; then training gives `AuxiliaryLogits`.
        dropout: share of the pooled features that is dropped in training.
        auxiliary_dropout: the same within the auxiliary heads.
    """

    num_classes: int | None = 1000
    batch_norm: bool = False
    auxiliary: bool = True
    dropout: float = 0.4
    auxiliary_dropout: float = 0.7

    flattened: ClassVar[dict[str, tuple[int, int]]] = {"aux1/fc": (4, 4), "aux2/fc": (4, 4)}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("conv3", 192, 4),
            Stage("inception3b", 480, 8),
            Stage("inception4e", 832, 16),
            Stage("inception5b", 1024, 32),
        )

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | AuxiliaryLogits | Maps:
        """Logits (or features), or the maps of `stages`; `train` drops features and adds the other heads' logits."""
        maps = StageMaps(self, stages)
        conv = partial(Conv, kernel_init=nn.initializers.glorot_uniform(), **self.types)
        norm = partial(BatchNorm, epsilon=1e-3, **self.types) if self.batch_norm else None
        unit, dense = partial(ConvUnit, conv=conv, norm=norm), partial(Dense, **self.types)
        large, last_pool = (3, 2) if self.batch_norm else (5, 3)
        heads = stages is None and self.auxiliary and self.num_classes is not None and (train or self.is_initializing())
        auxiliary = []

        def normalize(name: str, x: jax.Array) -> jax.Array:
            return x if self.batch_norm else LocalResponseNorm(dtype=self.dtype, name=name)(x)

        x = unit(64, (7, 7), 2, 3, name="conv1")(images, train=train)
        x = normalize("norm1", MaxPool(3, strides=2, misfit="pad", name="pool1")(x))
        x = unit(64, (1, 1), name="conv2")(x, train=train)
        x = unit(192, (3, 3), name="conv3")(x, train=train)
        if maps.take("conv3", x):
            return maps.found
        x = normalize("norm2", x)
        x = MaxPool(3, strides=2, misfit="pad", name="pool2")(x)
        for block, widths in WIDTHS.items():
            x = InceptionBlock(widths, large, unit, name=f"inception{block}")(x, train=train)
            if maps.take(f"inception{block}", x):
                return maps.found
            if heads and block in ("4a", "4d"):
                options = self.batch_norm, self.auxiliary_dropout, unit, dense
                head = AuxiliaryHead(self.num_classes or 0, *options, name=f"aux{len(auxiliary) + 1}")
                auxiliary.append(head(x, train=train))
            if block == "3b":
                x = MaxPool(3, strides=2, misfit="pad", name="pool3")(x)
            if block == "4e":
                x = MaxPool(last_pool, strides=2, misfit="pad", name="pool4")(x)
        x = GlobalAvgPool(name="pool")(x)
        x = Dropout(self.dropout, name="drop")(x, train=train)
        if self.num_classes is None:
            return x
        logits = dense(self.num_classes, name="output")(x)
        return AuxiliaryLogits(logits, tuple(auxiliary)) if train and heads else logits

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model, in its batch-normalised form."""
        branches = {
            "1x1": "branch1",
            "3x3_reduce": "branch2.0",
            "3x3": "branch2.1",
            "5x5_reduce": "branch3.0",
            "5x5": "branch3.1",
            "pool_projection": "branch4.1",
        }
        module = re.sub(r"(inception\d\w)/([^/]+)", lambda at: f"{at[1]}.{branches[at[2]]}", module)
        module = re.sub(r"(aux\d)/(fc|output)", lambda at: f"{at[1]}.{'fc1' if at[2] == 'fc' else 'fc2'}", module)
        return ("fc" if module == "output" else module).replace("/", ".")


register("googlenet", GoogLeNet, (224, 224, 3))
register("googlenet_bn", GoogLeNet, (224, 224, 3), batch_norm=True, dropout=0.2)
