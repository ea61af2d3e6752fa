"""Which pixels an answer rests on, by gradients: saliency, smoothed and integrated gradients, guided backpropagation.

Every method takes a net (`models.bind(model, variables)`, a trained run, or any function) from pictures (batch, height,
width, channels) to scores (batch, classes); bytes become floats from 0 to 1. It explains the score of `targets`, a
class for each picture, by default the highest. What it gives has the pictures' shape, with a number for every colour of
every pixel; `saliency` gives a map (batch, height, width).
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from cnnjax.analysis.inputs import as_floats, as_pictures, check_finite
from cnnjax.analysis.interpreter import evaluate, rectified_input, rectifiers
from cnnjax.analysis.program import Equation, Program
from cnnjax.analysis.tracing import trace_call

# (batch, height, width, channels), and (batch,): said by errors of our own where they are not.
Pictures: TypeAlias = Num[Array | np.ndarray, "..."]
Targets: TypeAlias = Num[Array | np.ndarray, "..."]
Scores: TypeAlias = Callable[[Any], Any]

# Of the line from the baseline to the picture, where completeness is not reached with fewer.
_MOST_PARTS = 4096

# What may be missing from completeness, as a share of what a score gains.
TOLERANCE = 1e-3


def saliency(net: Scores, images: Pictures, targets: Targets | None = None, *, by_colour: bool = False) -> Pictures:
    r"""The size of the gradient, $\max_c |\partial s_t / \partial x_c|$ over the colours c of every pixel.

    Args:
        net: pictures to scores.
        images: the pictures.
        targets: a class for each; the highest where left out.
        by_colour: whether every colour has its own size, (batch, height, width, colours).

    Returns:
        A map for each picture, (batch, height, width).

    Raises:
        ValueError: pictures, scores or targets have other shapes.

    Reference: Simonyan, Vedaldi and Zisserman (2014), "Deep Inside Convolutional Networks", section 3.1.
    """
    sizes = jnp.abs(gradient(net, images, targets))
    return sizes if by_colour else sizes.max(axis=-1)


def gradient(net: Scores, images: Pictures, targets: Targets | None = None) -> Pictures:
    r"""The gradient of the target's score, $\partial s_t / \partial x$.

    Raises:
        ValueError: pictures, scores or targets have other shapes.
    """
    images, targets, _ = prepared(net, images, targets)
    return _gradient(net, images, targets)


def gradient_times_input(net: Scores, images: Pictures, targets: Targets | None = None) -> Pictures:
    r"""The gradient times the picture, $x \, \partial s_t / \partial x$.

    Raises:
        ValueError: pictures, scores or targets have other shapes.

    Reference: Shrikumar, Greenside, Shcherbina and Kundaje (2016), "Not Just a Black Box", section 3.
    """
    images, targets, _ = prepared(net, images, targets)
    return images * _gradient(net, images, targets)


def smooth_grad(
    key: jax.Array,
    net: Scores,
    images: Pictures,
    targets: Targets | None = None,
    *,
    samples: int = 32,
    deviation: float = 0.15,
) -> Pictures:
    r"""The mean of the gradients at noisy copies, $\frac{1}{n} \sum_i \nabla s_t(x + \epsilon_i)$.

    Args:
        key: for the noise.
        net: pictures to scores.
        images: the pictures.
        targets: a class for each.
        samples: copies of each picture.
        deviation: of the noise, as a share of each picture's range of values.

    Raises:
        ValueError: pictures, scores or targets have other shapes, or fewer than one sample.

    Reference: Smilkov, Thorat, Kim, Viegas and Wattenberg (2017), "SmoothGrad: removing noise by adding noise".
    """
    if samples < 1:
        raise ValueError(f"samples={samples}; expected one or more")
    images, targets, _ = prepared(net, images, targets)
    low, high = (extreme(images, axis=(1, 2, 3), keepdims=True) for extreme in (jnp.min, jnp.max))
    spread = deviation * (high - low)

    def add(total: Pictures, drawn: jax.Array) -> tuple[Pictures, None]:
        noisy = images + spread * jax.random.normal(drawn, images.shape, images.dtype)
        return total + _gradient(net, noisy, targets), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(images), jax.random.split(key, samples))
    return total / samples


def integrated_gradients(
    net: Scores,
    images: Pictures,
    targets: Targets | None = None,
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    tolerance: float = TOLERANCE,
) -> Pictures:
    r"""Gradients along the straight line from a baseline, $(x - b) \int_0^1 \nabla s_t(b + a (x - b)) \, da$.

    Their sum is the difference of the scores of picture and baseline (completeness). Where the score leaps, 4,096 parts
    of the line can miss it: what is missing by `completeness_error` is then warned of, but not under `jax.jit`, where
    nothing can be said.

    Args:
        net: pictures to scores.
        images: the pictures.
        targets: a class for each.
        baseline: a picture, or a number, that stands for nothing to see.
        steps: places along the line, those of a Gauss-Legendre sum; where left out, as many middles of equal parts as
            completeness needs, from 32 to 4,096.
        tolerance: what may be missing from completeness where `steps` is left out, as a share of what a picture's score
            gains, or of the pictures' mean gain where that is more.

    Raises:
        ValueError: pictures, scores or targets have other shapes, or fewer than one step.

    Warns:
        RuntimeWarning: more than `tolerance` is missing from completeness, where `steps` is left out.

    Reference: Sundararajan, Taly and Yan (2017), "Axiomatic Attribution for Deep Networks", section 3.
    """
    if steps is not None and steps < 1:
        raise ValueError(f"steps={steps}; expected one or more")
    images, targets, _ = prepared(net, images, targets)
    start = baseline_of(images, baseline)

    def at(share: Any) -> Pictures:
        return _gradient(net, start + jnp.asarray(share, images.dtype) * (images - start), targets)

    if steps is not None:
        nodes, weights = np.polynomial.legendre.leggauss(steps)

        def add(total: Pictures, place: tuple[jax.Array, jax.Array]) -> tuple[Pictures, None]:
            share, weight = place
            return total + weight * at(share), None

        places = (jnp.asarray((nodes + 1) / 2, images.dtype), jnp.asarray(weights / 2, images.dtype))
        total, _ = jax.lax.scan(add, jnp.zeros_like(images), places)
        return (images - start) * total
    gained = score_of(net(images) - net(start), targets)

    def refine(carry: tuple[jax.Array, Pictures]) -> tuple[jax.Array, Pictures]:
        parts = 2 * carry[0]

        def middle(number: jax.Array, total: Pictures) -> Pictures:
            return total + at((number.astype(jnp.float32) + 0.5) / parts.astype(jnp.float32))

        total = jax.lax.fori_loop(0, parts, middle, jnp.zeros_like(images))
        return parts, (images - start) * total / parts.astype(images.dtype)

    def incomplete(carry: tuple[jax.Array, Pictures]) -> jax.Array:
        parts, found = carry
        return (parts < _MOST_PARTS) & (_missing(found, gained) > tolerance).any()

    _, found = jax.lax.while_loop(incomplete, refine, refine((jnp.int32(16), jnp.zeros_like(images))))
    warn_of_missing(_missing(found, gained), tolerance)
    return found


def completeness_error(
    net: Scores,
    images: Pictures,
    attributions: Pictures,
    targets: Targets | None = None,
    *,
    baseline: Any = 0.0,
) -> Float[Array, " batch"]:
    r"""How far attributions are from completeness, by picture: $|\sum_i a_i - g| / |g|$, g the gain of the score.

    The gain is $s_t(x) - s_t(b)$, from the baseline to the picture; where that of a picture is less than the pictures'
    mean, it is divided by that.

    Args:
        net: pictures to scores.
        images: the pictures.
        attributions: of the pictures, in their shape, such as `integrated_gradients` gives.
        targets: a class for each; the highest where left out.
        baseline: that of the attributions.

    Raises:
        ValueError: pictures, attributions, scores or targets have other shapes.
    """
    images, targets, _ = prepared(net, images, targets)
    if np.shape(attributions) != images.shape:
        raise ValueError(
            f"attributions have the shape {np.shape(attributions)}; expected that of images, {images.shape}"
        )
    gained = score_of(net(images) - net(baseline_of(images, baseline)), targets)
    return _missing(attributions, gained)


def warn_of_missing(missing: Float[Array, " batch"], tolerance: float = TOLERANCE) -> None:
    """Warns where integrated gradients are not complete; while a function is traced nothing is said."""
    if isinstance(missing, jax.core.Tracer) or not (missing > tolerance).any():
        return
    worst = int(missing.argmax())
    warnings.warn(
        f"integrated gradients are not complete after {_MOST_PARTS:,} parts of the line: on example {worst}"
        f" {float(missing[worst]):.1%} of what the score gained is missing, {tolerance:.1%} may be; the score leaps"
        " somewhere between baseline and picture: take another baseline, explain logits rather than probabilities, or"
        " give `steps` (`completeness_error` measures what they leave)",
        RuntimeWarning,
        stacklevel=3,
    )


def guided_backpropagation(net: Scores, images: Pictures, targets: Targets | None = None) -> Pictures:
    """The gradient, where every rectifier passes back what is positive, and only where it was passed forward.

    Raises:
        ValueError: pictures, scores or targets have other shapes, or the function has no rectifier.

    Reference: Springenberg, Dosovitskiy, Brox and Riedmiller (2015), "Striving for Simplicity", section 3.4.
    """
    return _through_rectifiers(net, images, targets, _guided)


def deconvolution(net: Scores, images: Pictures, targets: Targets | None = None) -> Pictures:
    """The gradient, where every rectifier passes back what is positive, whatever was passed forward.

    Raises:
        ValueError: pictures, scores or targets have other shapes, or the function has no rectifier.

    Reference: Zeiler and Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 2.1.
    """
    return _through_rectifiers(net, images, targets, _deconvolved)


def prepared(net: Scores, images: Any, targets: Any) -> tuple[jax.Array, Targets, Program]:
    """Pictures as an array of floats, the targets given or each picture's highest class, and the traced function.

    Raises:
        ValueError: pictures, scores or targets have other shapes or types, or the scores are not finite.
    """
    images = as_pictures(images, axes=4)
    program = trace_call(net, images)
    shape = program.shapes[program.only_output()]
    if len(shape) != 2 or shape[0] != len(images) or (targets is not None and np.shape(targets) != (len(images),)):
        raise ValueError(
            f"images {images.shape}, scores {shape}, targets {None if targets is None else np.shape(targets)}; expected"
            " scores (batch, classes), and a class for each picture"
        )
    if targets is None:
        scores = net(images)
        check_finite("scores", scores)
        return images, jnp.asarray(scores.argmax(axis=-1), jnp.int32), program
    if not isinstance(targets, jax.core.Tracer):
        known = np.asarray(targets)
        if not np.issubdtype(known.dtype, np.integer) or known.min() < 0 or known.max() >= shape[1]:
            raise ValueError(
                f"targets are {known.dtype} from {known.min()} to {known.max()}; expected integers from 0 to"
                f" {shape[1] - 1}: the function scores {shape[1]} classes"
            )
    return images, jnp.asarray(targets, jnp.int32), program


def baseline_of(images: jax.Array, baseline: Any) -> jax.Array:
    """A number or a picture, as floats or bytes, as one for every picture.

    Raises:
        ValueError: it has another shape.
    """
    try:
        baseline = as_floats(baseline) if getattr(baseline, "dtype", None) == np.uint8 else baseline
        return jnp.broadcast_to(jnp.asarray(baseline, images.dtype), images.shape)
    except ValueError:
        raise ValueError(
            f"baseline has the shape {np.shape(baseline)}; expected a number, or a picture of {images.shape[1:]}"
        ) from None


def score_of(scores: Any, targets: Targets) -> Float[Array, " batch"]:
    """The score of each picture's target."""
    return jnp.take_along_axis(scores, targets[:, None], axis=1)[:, 0]


def _missing(attributions: Pictures, gained: jax.Array) -> jax.Array:
    """See `completeness_error`."""
    scale = jnp.maximum(jnp.abs(gained), jnp.abs(gained).mean())
    return jnp.abs(attributions.sum(axis=(1, 2, 3)) - gained) / jnp.where(scale > 0, scale, 1)


def _gradient(net: Scores, images: Pictures, targets: Targets) -> Pictures:
    return jax.grad(lambda pictures: score_of(net(pictures), targets).sum())(images)


@jax.custom_vjp
def _guided(x: jax.Array) -> jax.Array:
    return jax.nn.relu(x)


_guided.defvjp(lambda x: (jax.nn.relu(x), x), lambda x, g: (jnp.where(x > 0, jax.nn.relu(g), 0),))


@jax.custom_vjp
def _deconvolved(x: jax.Array) -> jax.Array:
    return jax.nn.relu(x)


_deconvolved.defvjp(lambda x: (jax.nn.relu(x), None), lambda _, g: (jax.nn.relu(g),))


def _through_rectifiers(
    net: Scores, images: Pictures, targets: Targets | None, rectifier: Callable[[jax.Array], jax.Array]
) -> Pictures:
    images, targets, program = prepared(net, images, targets)
    found = {*rectifiers(program)}
    if not found:
        raise ValueError("the function has no rectifier (the greater of a value and 0), whose gradient could be guided")
    output = [program.only_output()]

    def guide(equation: Equation, arrays: Sequence[Any]) -> Sequence[Any] | None:
        place = rectified_input(program, equation) if equation in found else None
        return None if place is None else [rectifier(arrays[place])]

    def score(pictures: Pictures) -> jax.Array:
        (scores,) = evaluate(program, [pictures], output, replace=guide)
        return score_of(scores, targets).sum()

    return jax.grad(score)(images)
