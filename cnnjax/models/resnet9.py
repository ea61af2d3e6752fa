"""ResNet-9: the shallow residual net that made training on CIFAR-10 a matter of minutes.

Reference: Page (2018), "How to Train Your ResNet", parts 1 and 4.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, Dense, GlobalMaxPool, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register


class ResNet9(Architecture):
    """Four 3x3 convolutions of 64 to 512 channels, max-pools, and two residual pairs of equal convolutions.

    Every convolution is followed by batch normalisation and a rectifier; the logits are multiplied by an eighth. At
    32x32 and ten classes: 6,573,120 parameters, 379,261,952 multiply-accumulates.

    Attributes:
        num_classes: width of `output`, which has no bias; None ends with the 512 pooled features.
        logit_scale: what the logits are multiplied by.
    """

    num_classes: int | None = 10
    logit_scale: float = 0.125

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (
            Stage("stage1", 128, 2),
            Stage("stage2", 256, 4),
            Stage("stage3", 512, 8),
        )

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` normalises by the batch's statistics."""
        maps = StageMaps(self, stages)
        unit = partial(_Unit, conv=partial(Conv, use_bias=False, **self.types), norm=partial(BatchNorm, **self.types))
        x = unit(64, name="prep")(images, train=train)
        for stage in self.stages:
            residual = stage.name != "stage2"
            x = _Stage(stage.channels, residual, unit, name=stage.name)(x, train=train)
            if maps.take(stage.name, x):
                return maps.found
        x = GlobalMaxPool(name="pool")(x)
        if self.num_classes is None:
            return x
        return Dense(self.num_classes, use_bias=False, name="output", **self.types)(x) * self.logit_scale


class _Unit(nn.Module):
    """3x3 convolution, batch normalisation, rectifier."""

    features: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(self.features, (3, 3), padding=1, name="conv")(x)
        return nn.relu(self.norm(name="bn")(x, train=train))


class _Stage(nn.Module):
    """A unit and a 2x2 max-pool, and in residual stages two more units that are added to what they came from."""

    features: int
    residual: bool
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.unit(self.features, name="unit1")(x, train=train)
        x = MaxPool(2, strides=2, name="pool")(x)
        if not self.residual:
            return x
        y = self.unit(self.features, name="unit2")(x, train=train)
        return x + self.unit(self.features, name="unit3")(y, train=train)


register("resnet9", ResNet9, (32, 32, 3))
