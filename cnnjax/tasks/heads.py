"""Models with one head or several, as the tasks that read logits see them."""

from collections.abc import Callable

from jaxtyping import Array, Float

from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks.metrics import Mean


def main_logits(output: Float[Array, "batch *outputs"] | AuxiliaryLogits) -> Float[Array, "batch *outputs"]:
    """The logits of the main head, which metrics are of."""
    return output.logits if isinstance(output, AuxiliaryLogits) else output


def loss_over_heads(
    mean_loss: Callable[[Float[Array, "batch *outputs"]], Mean],
    output: Float[Array, "batch *outputs"] | AuxiliaryLogits,
) -> Mean:
    r"""The loss of the main head plus the weighted losses of auxiliary ones: $L + w \sum_i L_i$.

    The weight is the one that the `AuxiliaryLogits` come with. All heads are means over the same examples.

    Reference: Szegedy et al. (2015), "Going Deeper with Convolutions", section 5.
    """
    if isinstance(output, AuxiliaryLogits):
        total, count = loss_over_heads(mean_loss, output.logits)
        for logits in output.auxiliary:
            total += output.weight * loss_over_heads(mean_loss, logits).total
        return Mean(total, count)
    return mean_loss(output)
