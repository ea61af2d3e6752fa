"""The nets that steps are compared on, as one writes them with Flax alone."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class FlaxLeNet5(nn.Module):
    """LeNet-5 with hyperbolic tangents and average pools, as `cnnjax.models.LeNet5`."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        for features in (6, 16):
            x = nn.tanh(nn.Conv(features, (5, 5), padding="VALID")(x))
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.tanh(nn.Conv(120, (5, 5), padding="VALID")(x))
        x = nn.tanh(nn.Dense(84)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.classes)(x)


class FlaxCifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters."""

    features: int
    strides: int
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Branch plus shortcut."""
        y = nn.Conv(self.features, (3, 3), (self.strides,) * 2, padding=1, use_bias=False)(x)
        y = nn.relu(self.norm()(y))
        y = self.norm()(nn.Conv(self.features, (3, 3), padding=1, use_bias=False)(y))
        x = x[:, :: self.strides, :: self.strides]
        return nn.relu(y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1]))))


class FlaxResNet20(nn.Module):
    """ResNet-20 for CIFAR."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu(norm()(nn.Conv(16, (3, 3), padding=1, use_bias=False)(x)))
        for stage, features in enumerate((16, 32, 64)):
            for block in range(3):
                x = FlaxCifarBlock(features, 2 if stage and block == 0 else 1, norm)(x)
        return nn.Dense(self.classes)(x.mean((1, 2)))


class FlaxBottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, and a shortcut that is projected where the shape changes."""

    features: int
    strides: int
    norm: Callable[..., nn.Module]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Branch plus shortcut."""
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        y = nn.relu(self.norm()(conv(self.features, (1, 1))(x)))
        y = nn.relu(self.norm()(conv(self.features, (3, 3), (self.strides,) * 2, padding=1)(y)))
        y = self.norm()(conv(4 * self.features, (1, 1))(y))
        if x.shape != y.shape:
            x = self.norm()(conv(4 * self.features, (1, 1), (self.strides,) * 2)(x))
        return nn.relu(y + x)


class FlaxResNet50(nn.Module):
    """ResNet-50, stride on the 3x3."""

    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        x = nn.Conv(64, (7, 7), (2, 2), padding=3, use_bias=False, dtype=self.dtype)(x)
        x = nn.max_pool(nn.relu(norm()(x)), (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                x = FlaxBottleneck(64 * 2**stage, 2 if stage and block == 0 else 1, norm, self.dtype)(x)
        return nn.Dense(self.classes, dtype=self.dtype)(x.mean((1, 2)))


class FlaxVGG11(nn.Module):
    """VGG-11 with two hidden layers of 4,096 and dropout, as `cnnjax.models.VGG`."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        for depth, features in ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)):
            for _ in range(depth):
                x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(4096)(x)))
        return nn.Dense(self.classes)(x)


class FlaxMobileNetV1(nn.Module):
    """MobileNet v1 of full width."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = nn.relu6(norm()(nn.Conv(32, (3, 3), (2, 2), padding=1, use_bias=False)(x)))
        for features, depth in ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2)):
            for place in range(depth):
                channels, stride = x.shape[-1], 2 if features > 64 and place == 0 else 1
                window = nn.Conv(
                    channels, (3, 3), (stride,) * 2, padding=1, feature_group_count=channels, use_bias=False
                )
                x = nn.relu6(norm()(window(x)))
                x = nn.relu6(norm()(nn.Conv(features, (1, 1), use_bias=False)(x)))
        return nn.Dense(self.classes)(x.mean((1, 2)))


FLAX: dict[str, Callable[..., nn.Module]] = {
    "lenet5": FlaxLeNet5,
    "resnet20": FlaxResNet20,
    "resnet50": FlaxResNet50,
    "vgg11": FlaxVGG11,
    "mobilenet_v1": FlaxMobileNetV1,
}


def flax_model(net: str, classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """The net of that name."""
    return FLAX[net](classes) if dtype == jnp.float32 else FLAX[net](classes, dtype)
