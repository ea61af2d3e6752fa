"""LeNet-5, as it is taught today and as it was printed.

Reference: LeCun, Bottou, Bengio and Haffner (1998), "Gradient-Based Learning Applied to Document Recognition",
section II, figures 2 and 3, table I and appendix A.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional import correlate
from cnnjax.layers import AvgPool, Conv, Dense
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps
from cnnjax.models.registry import register

# Table I: the S2 maps that each C3 map sees, 60 connections in all.
C3_CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

# What F6 is compared with: drawings of the ten digits, 7 wide and 12 high, after figure 3 (whose pixels are not printed
# as numbers).
DIGITS = """
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
..###..  ...#...  .#####.  #######  ....##.  #######  ..####.  #######  .#####.  ..###..
.##.##.  ..##...  ##...##  .....##  ...###.  ##.....  .##....  .....##  ##...##  .##.##.
##...##  .###...  ##...##  ....##.  ...###.  ##.....  ##.....  .....##  ##...##  ##...##
##...##  ...#...  .....##  ...##..  ..#.##.  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...#...  ....##.  ..####.  ..#.##.  ######.  ##.###.  ....##.  .##.##.  ##...##
##...##  ...#...  ...##..  .....##  .#..##.  .....##  ###.###  ...##..  ..###..  .##.###
##...##  ...#...  ..##...  .....##  .#..##.  .....##  ##...##  ...##..  .##.##.  ..##.##
##...##  ...#...  .##....  .....##  #######  .....##  ##...##  ..##...  ##...##  .....##
.##.##.  ...#...  ##.....  ##...##  ....##.  ##...##  ##...##  ..##...  ##...##  ....##.
..###..  .#####.  #######  .#####.  ....##.  .#####.  .#####.  .##....  .#####.  .###...
.......  .......  .......  .......  .......  .......  .......  .......  .......  .......
"""


class LeNet5(Architecture):
    """LeNet-5 as it is taught today: every C3 map sees every S2 map, pooling is a plain mean, the output is linear.

    On 32x32 pictures of one channel and ten classes: 61,706 parameters, 416,520 multiply-accumulates; receptive
    fields C1 5, S2 6, C3 14, S4 16, C5 32. Activation tanh; kernels start as in LeCun et al. (1998b), "Efficient
    BackProp" (normal, variance 1 / fan-in), biases at zero.

    Attributes:
        num_classes: width of `output`; None ends with the 84 features of F6.
    """

    num_classes: int | None = 10

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (Stage("s2", 6, 2), Stage("s4", 16, 4), Stage("c5", 120, 4))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Logits (or features), or the maps of `stages`; `train` changes nothing here."""
        maps = StageMaps(self, stages)
        x = nn.tanh(Conv(6, (5, 5), padding="VALID", name="c1", **self.types)(images))
        x = AvgPool(2, name="s2")(x)
        if maps.take("s2", x):
            return maps.found
        x = nn.tanh(Conv(16, (5, 5), padding="VALID", name="c3", **self.types)(x))
        x = AvgPool(2, name="s4")(x)
        if maps.take("s4", x):
            return maps.found
        x = nn.tanh(Conv(120, (5, 5), padding="VALID", name="c5", **self.types)(x))
        if maps.take("c5", x):
            return maps.found
        x = x.reshape(x.shape[0], -1)
        x = nn.tanh(Dense(84, name="f6", **self.types)(x))
        return x if self.num_classes is None else Dense(self.num_classes, name="output", **self.types)(x)


def squash(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""The paper's scaled tanh, $1.7159 \tanh(2x/3)$: 1 at 1, and steepest in curvature there (appendix A)."""
    return jnp.asarray(1.7159, x.dtype) * jnp.tanh(jnp.asarray(2 / 3, x.dtype) * x)


def within_fan_in(fan_in: int) -> nn.initializers.Initializer:
    """Uniform between -2.4 and 2.4 over the number of inputs (appendix A)."""

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, tuple(shape), dtype, -2.4 / fan_in, 2.4 / fan_in)

    return draw


class SubSampling(nn.Module):
    """The sum of each 2x2 window, times a coefficient and plus a bias of the map's own, squashed.

    Parameters: `scale` and `bias` (channels,). The coefficients start at one quarter, that is as a mean, for the
    paper's draw around zero would hide a map that starts near it.

    Attributes:
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns channels"]:
        """Half as many rows and columns."""
        dtype = self.dtype or x.dtype
        scale = self.param("scale", nn.initializers.constant(0.25), x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:], self.param_dtype)
        total = AvgPool(2, name="sum")(x.astype(dtype)) * jnp.asarray(4, dtype)
        return squash(total * _per_channel(scale, dtype) + _per_channel(bias, dtype))


class SparseConv(nn.Module):
    """A 5x5 convolution of which each output map sees some of the input maps, and has no parameters for the others.

    Parameters: `kernel` (5, 5, connections) and `bias` (outputs,).

    Attributes:
        connections: the input maps of each output map.
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
    """

    connections: tuple[tuple[int, ...], ...]
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch rows columns outputs"]:
        """Convolves with the kernel put into a dense one."""
        dtype = self.dtype or x.dtype
        inputs = np.concatenate([np.asarray(seen) for seen in self.connections])
        outputs = np.repeat(np.arange(len(self.connections)), [len(seen) for seen in self.connections])
        fan_in = 25 * len(inputs) // len(self.connections)
        kernel = self.param("kernel", within_fan_in(fan_in), (5, 5, len(inputs)), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (len(self.connections),), self.param_dtype)
        dense = jnp.zeros((5, 5, x.shape[-1], len(self.connections)), dtype)
        dense = dense.at[:, :, inputs, outputs].set(kernel.astype(dtype))
        return correlate(x.astype(dtype), dense, padding="VALID") + _per_channel(bias, dtype)


class LeNet5Of1998(Architecture):
    r"""LeNet-5 as printed: sparse C3, trainable sub-sampling, scaled tanh, and distances to drawings of the digits.

    On 32x32 pictures of one channel: 60,000 trainable parameters (C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6
    10,164); receptive fields C1 5, S2 6, C3 14, S4 16, C5 32. The output units are radial basis functions,
    $y_i = \sum_j (x_j - w_{ij})^2$, whose fixed codes w of -1 and 1 are drawings of 7x12 pixels. A small distance means
    "this digit", so the logits are $-y$, and cross-entropy is the paper's equation 9 without its constant. Kernels
    start uniform within 2.4 / fan-in, biases at zero.

    Attributes:
        num_classes: the first so many digits, at most ten; None ends with the 84 features of F6.
    """

    num_classes: int | None = 10

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Feature maps by name, from fine to coarse."""
        return (Stage("s2", 6, 2), Stage("s4", 16, 4), Stage("c5", 120, 4))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch outputs"] | Maps:
        """Negative squared distances to the codes (or features), or the maps of `stages`; `train` changes nothing.

        Raises:
            ValueError: more classes than there are digits.
        """
        if self.num_classes is not None and not 1 <= self.num_classes <= 10:
            raise ValueError(
                f"num_classes={self.num_classes}; expected 1 to 10, since the output codes are drawings of the digits"
                f" (lenet5 has a linear output)"
            )
        maps = StageMaps(self, stages)
        fan_in = 25 * images.shape[-1]
        x = squash(Conv(6, (5, 5), padding="VALID", kernel_init=within_fan_in(fan_in), name="c1", **self.types)(images))
        x = SubSampling(name="s2", **self.types)(x)
        if maps.take("s2", x):
            return maps.found
        x = squash(SparseConv(C3_CONNECTIONS, name="c3", **self.types)(x))
        x = SubSampling(name="s4", **self.types)(x)
        if maps.take("s4", x):
            return maps.found
        x = squash(Conv(120, (5, 5), padding="VALID", kernel_init=within_fan_in(400), name="c5", **self.types)(x))
        if maps.take("c5", x):
            return maps.found
        x = x.reshape(x.shape[0], -1)
        x = squash(Dense(84, kernel_init=within_fan_in(120), name="f6", **self.types)(x))
        if self.num_classes is None:
            return x
        codes = jnp.asarray(digit_codes()[: self.num_classes], x.dtype)
        return -jnp.sum((x[:, None] - codes[None]) ** 2, axis=-1)


def digit_codes() -> np.ndarray:
    """The ten drawings as rows of 84 numbers, 1 on the strokes and -1 elsewhere.

    >>> digit_codes().shape
    (10, 84)
    """
    rows = [line.split() for line in DIGITS.split("\n") if line]
    return np.array(
        [[1.0 if pixel == "#" else -1.0 for row in rows for pixel in row[digit]] for digit in range(10)], np.float32
    )


def _per_channel(numbers: ArrayLike, dtype: DTypeLike) -> jax.Array:
    return jnp.asarray(numbers, dtype).reshape(1, 1, 1, -1)


register("lenet5", LeNet5, (32, 32, 1))
register("lenet5_1998", LeNet5Of1998, (32, 32, 1))
