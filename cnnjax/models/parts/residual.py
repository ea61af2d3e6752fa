"""Residual nets in common: the kernels' first values, stochastic depth, and stages of equal blocks.

Reference: He, Zhang, Ren and Sun (2016), "Deep Residual Learning for Image Recognition", section 3.3; Huang, Sun, Liu,
Sedra and Weinberger (2016), "Deep Networks with Stochastic Depth", section 3.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from cnnjax.layers import StochasticDepth
from cnnjax.models.parts.architecture import Architecture, Stage, StageMaps
from cnnjax.models.stacking import repeat

# He et al. (2015), "Delving Deep into Rectifiers", equation 10.
HE_NORMAL = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class ResidualArchitecture(Architecture, kw_only=True):
    """An architecture of residual stages, run by `residual_stages`.

    Attributes:
        stochastic_depth: probability that the last branch is skipped in training, rising evenly from the first.
        remat: whether the backward pass computes blocks anew, to need less memory.
        scan: whether equal blocks of a stage are one scanned block.
    """

    stochastic_depth: float = 0.0
    remat: bool = False
    scan: bool = False


def residual_stages(
    model: ResidualArchitecture,
    block: Callable[[int, Stage], Callable[..., nn.Module]],
    depths: Sequence[int],
    x: jax.Array,
    *,
    train: bool,
    maps: StageMaps,
) -> jax.Array:
    """Runs the stages of a model, all but the first with half the resolution or dilated, as far as `maps` are wanted.

    Where the strides that the model's stages name do not grow, the kernels behind are dilated as much, so that they see
    the same places of the picture.

    Args:
        model: whose stages they are, and whose options say how; it is being called.
        block: makes of the place of a stage (from 0) and of the stage what makes its blocks, called as
            `(strides=..., name=...)`, and with `dilations=...` where they are not 1.
        depths: blocks of each stage.
        x: what enters the first stage.
        train: as the model was called.
        maps: takes what leaves each stage.

    Returns:
        What leaves the last stage that was run.

    Reference: Yu and Koltun (2016), "Multi-Scale Context Aggregation by Dilated Convolutions", section 2.
    """
    skips = rising_skips(depths, model.stochastic_depth)
    stride, dilation = model.stages[0].stride, 1
    for place, (stage, depth) in enumerate(zip(model.stages, depths, strict=True)):
        strides, before = stage.stride // stride, dilation
        stride, dilation = stage.stride, model.stages[0].stride * 2**place // stage.stride
        options = model.scan, skips[place], model.remat, (before, dilation)
        run = ResidualStage(block(place, stage), depth, strides, stage.channels, *options, name=stage.name)
        x = run(x, train=train)
        if maps.take(stage.name, x):
            break
    return x


class ResidualStage(nn.Module):
    """Blocks of one resolution, of which the first may halve it.

    Attributes:
        block: makes a block, called as `block(strides=..., name=...)`.
        depth: number of blocks.
        strides: step of the first block.
        outputs: channels that leave each block.
        scan: whether equal blocks are one scanned block.
        skips: each block's probability of being skipped in training; None for never.
        remat: whether the backward pass computes blocks anew.
        dilations: distance of the kernels' taps before the first block's stride, and behind it.
    """

    block: Callable[..., nn.Module]
    depth: int
    strides: int
    outputs: int
    scan: bool
    skips: Sequence[float] | None = None
    remat: bool = False
    dilations: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch rows columns outputs"]:
        """All blocks in turn."""
        run = partial(repeat, self, scan=self.scan, train=train, remat=self.remat)
        strided = int(self.strides > 1 or x.shape[-1] != self.outputs)
        before, after = (None, None) if self.skips is None else (self.skips[:strided], self.skips[strided:])
        behind = self.dilations[1]
        first, others = ({} if each == (1, 1) else {"dilations": each} for each in (self.dilations, (behind, behind)))
        x = run(partial(self.block, strides=self.strides, **first), x, first=1, last=strided, skips=before)
        return run(partial(self.block, strides=1, **others), x, first=strided + 1, last=self.depth, skips=after)


def may_skip(branch: jax.Array, rate: float | jax.Array | None, *, train: bool) -> jax.Array:
    """The branch of the block that is being called, under stochastic depth, or as it is where there is no rate."""
    return branch if rate is None else StochasticDepth(name="skip")(branch, rate=rate, train=train)


def rising_skips(depths: Sequence[int], last: float) -> list[Sequence[float] | None]:
    """Of each stage, its blocks' probabilities of being skipped: rising evenly to that of the last block of all.

    Raises:
        ValueError: the last one is not 0 or more and below 1.

    Reference: Huang et al. (2016), "Deep Networks with Stochastic Depth", section 3, on linear decay.

    >>> rising_skips((1, 3), 0.5)
    [(0.125,), (0.25, 0.375, 0.5)]
    """
    if not 0 <= last < 1:
        raise ValueError(f"stochastic_depth={last}; expected 0 <= stochastic_depth < 1, the last block's probability")
    if not last:
        return [None] * len(depths)
    ends = np.cumsum(depths)
    return [
        tuple(float(last * number / ends[-1]) for number in range(end - depth + 1, end + 1))
        for depth, end in zip(depths, ends, strict=True)
    ]
