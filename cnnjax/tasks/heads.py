"""Models with one head or several, as the tasks that read logits see them."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks.task import Mean


def main_logits(output: Float[Array, "batch outputs"] | AuxiliaryLogits) -> Float[Array, "batch outputs"]:
    """The logits of the main head, which metrics are of."""
    return output.logits if isinstance(output, AuxiliaryLogits) else output


def loss_over_heads(
    mean_loss: Callable[[Float[Array, "batch outputs"]], Mean],
    output: Float[Array, "batch outputs"] | AuxiliaryLogits,
) -> Float[Array, ""]:
    r"""The loss of the main head plus the weighted losses of auxiliary ones: $L + w \sum_i L_i$.

    The weight is the one that the `AuxiliaryLogits` come with. A mean over no examples is 0, with a gradient of 0.

    Reference: Szegedy et al. (2015), "Going Deeper with Convolutions", section 5.
    """
    if isinstance(output, AuxiliaryLogits):
        others = [loss_over_heads(mean_loss, logits) for logits in output.auxiliary]
        return loss_over_heads(mean_loss, output.logits) + output.weight * sum(others, jnp.zeros((), jnp.float32))
    loss = mean_loss(output)
    return loss.total / jnp.maximum(loss.count, jnp.finfo(jnp.float32).tiny)
