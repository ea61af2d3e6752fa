"""The picture that a unit answers to most, found by gradient ascent."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.tracing import trace_call


def activation_maximization(
    key: jax.Array,
    net: Callable[..., Any],
    shape: Sequence[int],
    *,
    channels: Sequence[int],
    layer: str | None = None,
    steps: int = 256,
    learning_rate: float = 0.05,
    decay: float = 1e-3,
    total_variation: float = 1e-3,
    jitter: int = 4,
) -> tuple[Float[Array, "units height width colours"], Float[Array, " units"]]:
    r"""Pictures that channels answer to most, one for each, and the answers they get.

    Ascends (Adam) on the mean m of a channel over its positions, or on a class's score,

    $$m(x) - \lambda_2 \lVert z \rVert^2 - \lambda_{TV} \sum |\nabla x|$$

    for a picture $x = \sigma(z)$, so that values stay from 0 to 1. In every step the picture is shifted round by up to
    `jitter` pixels, which keeps noise from fitting single pixels.

    Args:
        key: for the first picture and the shifts.
        net: `models.bind(model, variables)`, a trained run, or any function of pictures (batch, height, width,
            colours), floats from 0 to 1.
        shape: of pictures (batch, height, width, colours), such as `images.shape`; there is one for each channel,
            whatever the batch.
        channels: of the layer, or classes.
        layer: by name; the net's output where left out.
        steps: of the ascent.
        learning_rate: of Adam.
        decay: how much large z, pixels that are all black or white, are held down.
        total_variation: how much differences of neighbouring pixels are.
        jitter: pixels.

    Raises:
        ValueError: a shape that is no picture's, no steps, no such layer or channel.

    Reference: Simonyan, Vedaldi and Zisserman (2014), "Deep Inside Convolutional Networks", section 2; Mahendran and
    Vedaldi (2016), "Visualizing Deep Convolutional Neural Networks Using Natural Pre-images", section 3.2.
    """
    channels = [int(channel) for channel in np.atleast_1d(np.asarray(channels, int))]
    if len(shape) != 4 or steps < 1 or jitter < 0:
        raise ValueError(
            f"shape={tuple(shape)}, steps={steps}, jitter={jitter}; expected (batch, height, width, colours), a number"
            " above 0 and one of 0 or more"
        )
    program = trace_call(net, jax.ShapeDtypeStruct((max(len(channels), 1), *shape[1:]), jnp.float32))
    value = program.only_output() if layer is None else program.layer(layer).value
    count = program.shapes[value][-1]
    if not channels or any(not 0 <= channel < count for channel in channels):
        raise ValueError(f"channels={channels}; {layer or 'the output'} has {count}, counted from 0")
    wanted = jnp.asarray(channels)

    def answers(pictures: jax.Array) -> jax.Array:
        (maps,) = evaluate(program, [pictures], [value])
        means = maps.reshape(len(maps), -1, count).mean(axis=1)
        return jnp.take_along_axis(means, wanted[:, None], axis=1)[:, 0]

    def objective(z: jax.Array, drawn: jax.Array) -> jax.Array:
        pictures = jax.nn.sigmoid(z)
        shifts = jax.random.randint(drawn, (2,), -jitter, jitter + 1)
        moved = jnp.roll(jnp.roll(pictures, shifts[0], 1), shifts[1], 2)
        rough = sum(jnp.abs(jnp.diff(pictures, axis=axis)).sum() for axis in (1, 2))
        return -(answers(moved).sum() - decay * (z**2).sum() - total_variation * rough)

    optimizer = optax.adam(learning_rate)
    first, ascent = jax.random.split(key)
    start = 0.1 * jax.random.normal(first, (len(channels), *shape[1:]))

    def step(carry: tuple[Any, Any], drawn: jax.Array) -> tuple[tuple[Any, Any], None]:
        z, state = carry
        updates, state = optimizer.update(jax.grad(objective)(z, drawn), state)
        return (optax.apply_updates(z, updates), state), None

    @jax.jit
    def climb(start: jax.Array, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        (z, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), keys)
        pictures = jax.nn.sigmoid(z)
        return pictures, answers(pictures)

    # Optax counts its steps as integers.
    with jax.numpy_dtype_promotion("standard"):
        return climb(start, jax.random.split(ascent, steps))
