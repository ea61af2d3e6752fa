"""AlexNet, as published in 2012 and as its one-column successor of 2014.

Reference: Krizhevsky, Sutskever and Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks",
section 3 and figure 2; Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks", section 5.
"""

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers import AdaptiveAvgPool, Conv, Dense, Dropout, LocalResponseNorm, MaxPool
from cnnjax.models.registry import Stage, register

# Section 5: normal with deviation 0.01; biases of one feed the rectifiers behind conv2, conv4, conv5, fc6 and fc7.
NORMAL = nn.initializers.normal(0.01)
ONES = nn.initializers.ones_init()


class AlexNet(nn.Module):
    """AlexNet of 2012: two groups of maps, local response normalisation, overlapping pools.

    At 227x227 and 1,000 classes: 60,965,224 parameters, 724,406,816 multiply-accumulates; receptive fields of pool1, 2
    and 5: 19, 67, 195. Kernels start normal with deviation 0.01, biases at one in conv2, conv4, conv5, fc6 and fc7 and
    at zero elsewhere.

    Attributes:
        num_classes: width of `output`; None ends with the 4,096 features of fc7.
        dropout: share of the features that fc6 and fc7 drop in training.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    num_classes: int | None = 1000
    dropout: float = 0.5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = (Stage("pool1", 96), Stage("pool2", 256), Stage("pool5", 256))

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` drops features."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype, "kernel_init": NORMAL}
        x = nn.relu(Conv(96, (11, 11), strides=4, padding="VALID", name="conv1", **types)(images))
        x = LocalResponseNorm(dtype=self.dtype, name="norm1")(x)
        x = MaxPool(3, strides=2, name="pool1")(x)
        x = nn.relu(Conv(256, (5, 5), padding=2, groups=2, bias_init=ONES, name="conv2", **types)(x))
        x = LocalResponseNorm(dtype=self.dtype, name="norm2")(x)
        x = MaxPool(3, strides=2, name="pool2")(x)
        x = nn.relu(Conv(384, (3, 3), padding=1, name="conv3", **types)(x))
        x = nn.relu(Conv(384, (3, 3), padding=1, groups=2, bias_init=ONES, name="conv4", **types)(x))
        x = nn.relu(Conv(256, (3, 3), padding=1, groups=2, bias_init=ONES, name="conv5", **types)(x))
        x = MaxPool(3, strides=2, name="pool5")(x)
        x = x.reshape(x.shape[0], -1)
        for number in (6, 7):
            x = nn.relu(Dense(4096, bias_init=ONES, name=f"fc{number}", **types)(x))
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)


class AlexNetOWT(nn.Module):
    """AlexNet in one column ("one weird trick"): narrower, no groups, no normalisation; torchvision's.

    At 224x224 and 1,000 classes: 61,100,840 parameters, 714,188,480 multiply-accumulates; receptive fields of pool1, 2
    and 5: 19, 67, 195. Maps of another size are averaged to 6x6. Kernels start as in He et al. (2015), "Delving Deep
    into Rectifiers"; the paper says nothing.

    Attributes:
        num_classes: width of `output`; None ends with the 4,096 features of fc7.
        dropout: share of the features that are dropped before fc6 and before fc7 in training.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    num_classes: int | None = 1000
    dropout: float = 0.5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    stages: ClassVar[tuple[Stage, ...]] = (Stage("pool1", 64), Stage("pool2", 192), Stage("pool5", 256))
    flattened: ClassVar[dict[str, tuple[int, int]]] = {"fc6": (6, 6)}

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        """Logits (or features) of a batch; `train` drops features."""
        types: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        conv = partial(Conv, kernel_init=nn.initializers.he_normal(), **types)
        x = nn.relu(conv(64, (11, 11), strides=4, padding=2, name="conv1")(images))
        x = MaxPool(3, strides=2, name="pool1")(x)
        x = nn.relu(conv(192, (5, 5), padding=2, name="conv2")(x))
        x = MaxPool(3, strides=2, name="pool2")(x)
        for number, features in ((3, 384), (4, 256), (5, 256)):
            x = nn.relu(conv(features, (3, 3), padding=1, name=f"conv{number}")(x))
        x = MaxPool(3, strides=2, name="pool5")(x)
        x = AdaptiveAvgPool(6, name="pool")(x).reshape(x.shape[0], -1)
        for number in (6, 7):
            x = Dropout(self.dropout, name=f"drop{number}")(x, train=train)
            x = Dense(4096, kernel_init=nn.initializers.he_normal(), name=f"fc{number}", **types)(x)
            x = nn.relu(x)
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **types)(x)

    def torch_name(self, module: str) -> str:
        """What torchvision calls the module at a path of this model."""
        places = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
        dense = {"fc6": 1, "fc7": 4, "output": 6}
        return f"features.{places[module]}" if module in places else f"classifier.{dense[module]}"


register("alexnet", AlexNet, (227, 227, 3))
register("alexnet_owt", AlexNetOWT, (224, 224, 3))
