"""A net with a collection of its own beside its running statistics."""

import flax.linen as nn
import jax.numpy as jnp

from cnnjax import layers


class Counting(nn.Module):
    """Counts the batches that it is trained on, and remembers how bright they were; no gradient reaches either."""

    @nn.compact
    def __call__(self, images, *, train=False):
        batches = self.variable("seen", "batches", lambda: jnp.int32(0))
        brightness = self.variable("seen", "brightness", lambda: jnp.zeros((), jnp.float32))
        if train and not self.is_initializing():
            batches.value = batches.value + 1
            brightness.value = 0.5 * brightness.value + 0.5 * images.mean()
        x = layers.Conv(4, (3, 3), strides=2, use_bias=False, name="conv")(images)
        x = nn.relu(layers.BatchNorm(name="norm")(x, train=train))
        x = nn.Dropout(0.2, deterministic=not train, name="dropout")(x)
        return layers.Dense(2, name="dense")(x.reshape(x.shape[0], -1)) + brightness.value
