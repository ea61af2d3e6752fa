"""U-Net: a contracting path that says what is there, an expanding one that says where, and what joins the two.

Reference: Ronneberger, Fischer and Brox (2015), "U-Net: Convolutional Networks for Biomedical Image Segmentation",
section 2 and figure 1.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers import BatchNorm, Conv, ConvTranspose, Dropout, MaxPool
from cnnjax.models.parts.architecture import Architecture, Maps, Stage, StageMaps, Tiling
from cnnjax.models.parts.residual import HE_NORMAL
from cnnjax.models.registry import register

# What stands beyond the borders of maps: the maps get smaller, zeros, or nothing beyond those of a mirrored picture.
PADDINGS = ("none", "zeros", "mirror")


class UNetBlock(nn.Module):
    """Two rectified 3x3 convolutions.

    Attributes:
        features: channels of each.
        conv: makes a convolution.
        norm: makes what normalises each before it is rectified; None for nothing.
    """

    features: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module] | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns features"]:
        """Both convolutions."""
        for number in (1, 2):
            x = self.conv(self.features, (3, 3), name=f"conv{number}")(x)
            x = x if self.norm is None else self.norm(name=f"bn{number}")(x, train=train)
            x = nn.relu(x)
        return x


class UpBlock(nn.Module):
    """A rectified 2x2 up-convolution, beside it the middle of a map of the contracting path, and a `UNetBlock`.

    Attributes:
        features: channels of each convolution.
        block: makes what comes last.
        types: of computation and parameters, as options of a layer.
    """

    features: int
    block: Callable[..., nn.Module]
    types: dict[str, Any]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        skipped: Float[Array, "batch other_height other_width features"],
        *,
        train: bool,
    ) -> Float[Array, "batch rows columns features"]:
        """Twice the rows and columns of x, less what unpadded convolutions lose."""
        options: dict[str, Any] = {"padding": "VALID", "kernel_init": HE_NORMAL, **self.types}
        x = nn.relu(ConvTranspose(self.features, (2, 2), strides=2, name="up", **options)(x))
        rows, columns = (min(ours, theirs) for ours, theirs in zip(x.shape[1:3], skipped.shape[1:3], strict=True))
        joined = jnp.concatenate([_middle(skipped, rows, columns), x[:, :rows, :columns]], axis=-1)
        return self.block(self.features, name="block")(joined, train=train)


class UNet(Architecture):
    """U-Net: logits for every pixel, of the picture's middle or, with `padding`, of all of it.

    The paper's net pads no map: a picture of 572 pixels gives logits of the 388 in its middle, and skipped maps are
    cut to fit. Sides are 188 + 16 n, and the logits' 184 less. 23 convolutions, 31,030,658 parameters for one channel
    and two classes. With `padding` the same parameters give logits for all pixels of pictures of any size.

    The field of a logit is 188 pixels where it is the first or the last of 16, and 204 in between, as the up-convolved
    pixels of two positions of the coarsest map meet. That of the deepest map is 140.

    The paper leaves open whether up-convolutions are rectified (here they are, as in the authors' program), where at
    the end of the contracting path dropout is (here on what leaves its last two blocks, so on the last skipped map
    too), and the learning rate.

    Attributes:
        num_classes: width of `output`; None ends with the features before it.
        width: channels of the first block; each level has twice as many as the one before.
        depth: how often the picture is halved.
        padding: "none" as in the paper; "zeros" around every map, the variant that most people use; "mirror" mirrors
            the picture at its borders and then pads nothing, as the paper does for pictures that it cuts into tiles.
        batch_norm: whether convolutions of the blocks are normalised, which the paper's are not.
        dropout: share of the features that is dropped in training at the end of the contracting path.
    """

    num_classes: int | None = 2
    width: int = 64
    depth: int = 4
    padding: str = "none"
    batch_norm: bool = False
    dropout: float = 0.5

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Down the contracting path, and up again."""
        levels = range(1, self.depth + 1)
        down = [Stage(f"down{level}", self.width * 2 ** (level - 1), 2 ** (level - 1)) for level in levels]
        bottom = Stage("bottom", self.width * 2**self.depth, 2**self.depth)
        return (*down, bottom, *(stage._replace(name=stage.name.replace("down", "up")) for stage in reversed(down)))

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "batch height width channels"],
        *,
        train: bool = False,
        stages: Sequence[str] | None = None,
    ) -> Float[Array, "batch rows columns outputs"] | Maps:
        """Logits by pixel (or features), or the maps of `stages`; `train` drops features.

        Raises:
            ValueError: `padding` is unknown, or "none" and the picture's sides do not fit the pools.
        """
        if self.padding not in PADDINGS:
            raise ValueError(f"padding={self.padding!r}; expected {', '.join(map(repr, PADDINGS))}")
        maps = StageMaps(self, stages)
        kind = "SAME" if self.padding == "zeros" else "VALID"
        sides = images.shape[1:3]
        if self.padding == "none":
            self._check_sides(sides)
        elif self.padding == "mirror":
            around = [(0, 0), *((self.margin, self.margin + self._missing(side)) for side in sides), (0, 0)]
            images = jnp.pad(images, around, mode="reflect")
        conv = partial(Conv, padding=kind, kernel_init=HE_NORMAL, **self.types)
        norm = partial(BatchNorm, **self.types) if self.batch_norm else None
        block = partial(UNetBlock, conv=conv, norm=norm)
        *down, bottom = self.stages[: self.depth + 1]
        skipped: list[jax.Array] = []
        x: jax.Array = images
        for stage in down:
            x = block(stage.channels, name=stage.name)(x, train=train)
            if maps.take(stage.name, x):
                return maps.found
            if stage is down[-1]:
                x = Dropout(self.dropout, name=f"drop{len(down)}")(x, train=train)
            skipped.append(x)
            x = MaxPool(2, padding=kind, name=f"pool{len(skipped)}")(x)
        x = block(bottom.channels, name=bottom.name)(x, train=train)
        if maps.take(bottom.name, x):
            return maps.found
        x = Dropout(self.dropout, name="drop_bottom")(x, train=train)
        for stage in self.stages[self.depth + 1 :]:
            x = UpBlock(stage.channels, block, self.types, name=stage.name)(x, skipped.pop(), train=train)
            if maps.take(stage.name, x):
                return maps.found
        if self.padding == "mirror":
            x = x[:, : sides[0], : sides[1]]
        if self.num_classes is None:
            return x
        return Conv(self.num_classes, (1, 1), kernel_init=HE_NORMAL, name="output", **self.types)(x)

    @property
    def margin(self) -> int:
        """Pixels at each border of a picture for which convolutions without padding give no logits: 92 in the paper."""
        # Both blocks of a level take 4 pixels of its grid at each border, and the one of the coarsest takes 2.
        return sum(4 * 2**level for level in range(self.depth)) + 2 * 2**self.depth

    @property
    def grid(self) -> int:
        """Pixels by which a picture may move, or its sides differ, without any change of how pools fall: 16."""
        return 2**self.depth

    def exact_tiles(self, side: int) -> Tiling | None:
        """Tiles without padding, which see all that their outputs depend on; None with zeros around every map."""
        if self.padding == "zeros":
            return None
        inner = max(side, 0) + self._missing(max(side, 0))
        return Tiling(self.clone(padding="none"), self.margin, self.grid, inner + 2 * self.margin)

    def _missing(self, side: int) -> int:
        """How many pixels a side lacks, with a margin around it, for the net's pools."""
        smallest = 4
        return max(smallest, smallest + -(-(side - smallest) // self.grid) * self.grid) - side

    def _check_sides(self, sides: tuple[int, ...]) -> None:
        for name, side in zip(("height", "width"), sides, strict=True):
            inner = side - 2 * self.margin
            if missing := self._missing(inner):
                raise ValueError(
                    f"pictures of {name} {side} came; a U-Net of depth {self.depth} without padding takes"
                    f' {2 * self.margin + 4} + {self.grid} n, such as {side + missing}: set padding to "mirror" or'
                    ' "zeros" (--net.padding), or crop or pad the pictures'
                )


def _middle(x: jax.Array, rows: int, columns: int) -> jax.Array:
    top, left = (x.shape[1] - rows) // 2, (x.shape[2] - columns) // 2
    return x[:, top : top + rows, left : left + columns]


register("unet", UNet, (572, 572, 1), logits_of="pixels")
