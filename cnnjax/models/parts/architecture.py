"""What every architecture here has: types of computation and parameters, and stages that make it a backbone."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Maps: TypeAlias = dict[str, Float[Array, "_ _ _ _"]]


class Stage(NamedTuple):
    """A feature map that detectors and segmenters may take.

    Attributes:
        name: path of the module that it leaves.
        channels: of the map.
        stride: pixels of the picture between neighbouring positions of the map.
    """

    name: str
    channels: int
    stride: int


class Tiling(NamedTuple):
    """How a net is applied in tiles.

    Attributes:
        model: what is applied to each tile.
        margin: pixels at each border of a tile whose outputs are left out.
        grid: tiles start at multiples of it: of the product of the net's strides.
        side: of the square tiles, their margins included.
    """

    model: nn.Module
    margin: int
    grid: int
    side: int


class Architecture(nn.Module, kw_only=True):
    """A net called as `model(images, train=False, stages=None)`, for logits or as a backbone.

    With `stages`, names of some of `self.stages`, it gives their maps as a dictionary, in the order of the net, and
    neither computes nor initialises anything after the last of them: a detector calls it so inside its own module.

    Attributes:
        dtype: of the computation; the inputs' own where None.
        param_dtype: of the parameters.
        head: paths of the modules behind the last stage, besides those called "output", that depend on the task.
        flattened: size (height, width) of the map that a dense layer, by its path, takes pixel by pixel.
    """

    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    head: ClassVar[tuple[str, ...]] = ()
    flattened: ClassVar[dict[str, tuple[int, int]]] = {}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The feature maps that it has, from fine to coarse."""
        raise NotImplementedError(f"{type(self).__name__} names no stages")

    @property
    def types(self) -> dict[str, Any]:
        """Both types, as options of a layer."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def exact_tiles(self, side: int) -> Tiling | None:
        """Tiles, each for a part of `side` pixels at least, that give what the whole picture gives; None if none do."""
        return None

    def torch_name(self, module: str) -> str:
        """What a public library calls the module at a path of this model."""
        return module.replace("/", ".")

    def trunk_name(self, module: str) -> str | None:
        """What it calls the module in a file of the trunk alone; None of modules that such a file has not."""
        return None


class StageMaps:
    """The maps that a call of an architecture is asked for, collected while it runs.

    Attributes:
        names: of the stages that are asked for, in the order of the net; None where the whole net is.
        found: their maps, so far.
    """

    def __init__(self, model: Architecture, wanted: Sequence[str] | None):
        """Begins with no map; nothing is collected where None is wanted.

        Raises:
            ValueError: a name is not that of a stage of the model, or there is none.
        """
        there = [stage.name for stage in model.stages]
        if wanted is not None and (isinstance(wanted, str) or not wanted):
            raise ValueError(f"stages={wanted!r}; expected a sequence of names, some of {', '.join(there)}")
        for name in wanted or ():
            if name not in there:
                near = get_close_matches(name, there, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(there)}"
                raise ValueError(f"{type(model).__name__} has no stage {name!r}; {hint}")
        self.names = None if wanted is None else [name for name in there if name in wanted]
        self.found: Maps = {}

    def take(self, name: str, x: jax.Array) -> bool:
        """Keeps the map of a stage if it is wanted; returns `complete`."""
        if self.names is not None and name in self.names:
            self.found[name] = x
        return self.complete

    @property
    def complete(self) -> bool:
        """Whether all that is wanted has been found, so that the net may end here."""
        return self.names is not None and len(self.found) == len(self.names)
