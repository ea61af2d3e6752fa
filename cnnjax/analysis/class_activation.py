"""Class activation maps: which positions of a layer an answer rests on."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.analysis.attribution import Pictures, Scores, Targets, prepared, score_of
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.program import Program
from cnnjax.analysis.receptive_field import fields_of, fields_of_layers


def grad_cam(
    net: Scores,
    images: Pictures,
    targets: Targets | None = None,
    *,
    layer: str | None = None,
    rectify: bool = True,
) -> Float[Array, "batch rows columns"]:
    r"""A layer's maps, each weighed by its mean gradient: $\mathrm{ReLU}(\sum_k \alpha_k A_k)$.

    $$\alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial s_t}{\partial A_{k, ij}}$$

    Args:
        net: pictures to scores.
        images: the pictures.
        targets: a class for each; the highest where left out.
        layer: whose maps, by name; the last ones with rows and columns where left out.
        rectify: whether what speaks against the class is left out.

    Raises:
        ValueError: pictures, scores or targets have other shapes; there is no such layer, or it has no positions.

    Reference: Selvaraju et al. (2017), "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", section 3.
    """
    maps, gradients = _maps_and_gradients(net, images, targets, layer)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    found = (weights * maps).sum(axis=-1)
    return jax.nn.relu(found) if rectify else found


def grad_cam_plus_plus(
    net: Scores, images: Pictures, targets: Targets | None = None, *, layer: str | None = None
) -> Float[Array, "batch rows columns"]:
    r"""As `grad_cam`, with positions weighed so that several things of one class all count.

    $$\alpha_{k, ij} = \frac{g_{k, ij}^2}{2 g_{k, ij}^2 + \sum_{ab} A_{k, ab} \, g_{k, ij}^3}, \quad
    w_k = \sum_{ij} \alpha_{k, ij} \, \mathrm{ReLU}(e^{s_t} g_{k, ij})$$

    with g the gradient of the score. The factor $e^{s_t}$, one for a whole picture, is left out.

    Raises:
        ValueError: as `grad_cam`.

    Reference: Chattopadhay, Sarkar, Howlader and Balasubramanian (2018), "Grad-CAM++", section 3.2, equation 19.
    """
    maps, gradients = _maps_and_gradients(net, images, targets, layer)
    squares, cubes = gradients**2, gradients**3
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * cubes
    alphas = jnp.where(squares > 0, squares / jnp.where(below != 0, below, 1), 0)
    weights = (alphas * jax.nn.relu(gradients)).sum(axis=(1, 2), keepdims=True)
    return jax.nn.relu((weights * maps).sum(axis=-1))


def last_layer_with_positions(program: Program) -> str:
    """The name of the last layer whose maps have rows and columns that run along the picture's, more than one.

    Raises:
        ValueError: there is none.
    """
    fields = fields_of(program)
    spread = []
    for layer in program.layers():
        field = fields.get(layer.name)
        if field is not None and [axis.reach.axis for axis in field.axes] == [1, 2] and len(field.shape) == 4:
            spread += [layer] if min(field.shape[1:3]) > 1 else []
    if not spread:
        raise ValueError("no layer has rows and columns; name one by jax.named_scope, and pass layer=")
    # The one that ends last, and of those the outermost.
    return max(spread, key=lambda layer: (layer.stop, -layer.start)).name


def _maps_and_gradients(net: Scores, images: Any, targets: Any, layer: str | None) -> tuple[jax.Array, jax.Array]:
    images, targets, program = prepared(net, images, targets)
    found = program.layer(layer or last_layer_with_positions(program))
    (field,) = fields_of_layers(program, [found])
    field.check_rows_and_columns()
    output = program.only_output()
    (maps,) = evaluate(program, [images], [found.value])

    def score(maps: Any) -> jax.Array:
        (scores,) = evaluate(program, [images], [output], given={found.value: maps})
        return score_of(scores, targets).sum()

    return maps, jax.grad(score)(maps)
