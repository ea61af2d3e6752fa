"""A feature pyramid: the trunk's maps of all resolutions, each with what the coarser ones know.

Reference: Lin et al. (2017), "Feature Pyramid Networks for Object Detection", section 3 and figure 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import Conv

Map = Float[Array, "batch _ _ channels"]


class FeaturePyramid(nn.Module):
    """1x1 convolutions bring maps to one width, coarser ones are added, and 3x3 convolutions smooth the sums.

    A coarser map is brought to the finer one's size by its nearest position. Behind the coarsest map stands one of
    every second place of it (P6), for region proposals. Nothing is normalised or rectified.

    Attributes:
        features: channels of all levels.
        types: of computation and parameters, as options of a layer.
    """

    features: int
    types: Mapping[str, Any]

    @nn.compact
    def __call__(self, maps: Sequence[Float[Array, "batch _ _ _"]]) -> list[Float[Array, "batch _ _ features"]]:
        """Maps from fine to coarse; as many, and one more."""
        options: dict[str, Any] = {"kernel_init": nn.initializers.he_uniform(), **self.types}
        lateral = [Conv(self.features, (1, 1), name=f"lateral{i}", **options)(x) for i, x in enumerate(maps, 1)]
        sums = [lateral[-1]]
        for finer in reversed(lateral[:-1]):
            sums.append(finer + nearest(sums[-1], (finer.shape[1], finer.shape[2])))
        levels = [
            Conv(self.features, (3, 3), padding=1, name=f"smooth{i}", **options)(x)
            for i, x in enumerate(reversed(sums), 1)
        ]
        return [*levels, levels[-1][:, ::2, ::2]]


def nearest(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b rows columns c"]:
    """The map in another size: at row i of n the row floor(i * height / n), and columns likewise."""
    for axis, side in enumerate(size, 1):
        twice = side == 2 * x.shape[axis]
        places = jnp.asarray([at * x.shape[axis] // side for at in range(side)])
        x = jnp.repeat(x, 2, axis=axis) if twice else jnp.take(x, places, axis=axis)
    return x


def torch_name_of_pyramid(module: str, prefix: str) -> str:
    """What torchvision calls a module of the pyramid, "lateral1" or "smooth1", below a prefix."""
    kind = "inner_blocks" if module.startswith("lateral") else "layer_blocks"
    return f"{prefix}.{kind}.{int(module[-1]) - 1}.0"


def sizes_of(maps: Sequence[jax.Array]) -> tuple[tuple[int, int], ...]:
    """Height and width of each map."""
    return tuple((x.shape[1], x.shape[2]) for x in maps)
