"""Heads beside the main one, which the nets of the Inception family train with."""

import flax.struct
import jax


@flax.struct.dataclass
class AuxiliaryLogits:
    """What a model with auxiliary heads gives while it trains; its loss is the main one plus `weight` times theirs.

    Attributes:
        logits: of the main head.
        auxiliary: logits of the other heads, from the input on.
        weight: of the auxiliary losses.
    """

    logits: jax.Array
    auxiliary: tuple[jax.Array, ...]
    weight: float = flax.struct.field(pytree_node=False, default=0.3)
