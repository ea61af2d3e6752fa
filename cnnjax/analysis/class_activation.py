"""Class activation maps: which positions of a layer an answer rests on."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.analysis.attribution import Pictures, Scores, Targets, choose_targets, score_of
from cnnjax.analysis.evaluation import split_at


def grad_cam(
    function: Scores, images: Pictures, targets: Targets | None = None, *, layer: str, rectify: bool = True
) -> Float[Array, "batch rows columns"]:
    r"""A layer's maps, each weighed by its mean gradient: $\mathrm{ReLU}(\sum_k \alpha_k A_k)$.

    $$\alpha_k = \frac{1}{Z} \sum_{ij} \frac{\partial s_t}{\partial A_{k, ij}}$$

    Args:
        function: pictures to scores.
        images: the pictures.
        targets: a class for each; the highest where left out.
        layer: whose maps, by name; the last ones with positions are the usual choice.
        rectify: whether what speaks against the class is left out.

    Raises:
        ValueError: pictures, scores or targets have other shapes; there is no such layer, or it has no positions.

    Reference: Selvaraju et al. (2017), "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", section 3.
    """
    maps, gradients, _ = _maps_and_gradients(function, images, targets, layer)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    found = (weights * maps).sum(axis=-1)
    return jax.nn.relu(found) if rectify else found


def grad_cam_plus_plus(
    function: Scores, images: Pictures, targets: Targets | None = None, *, layer: str
) -> Float[Array, "batch rows columns"]:
    r"""As `grad_cam`, with positions weighed so that several things of one class all count.

    $$\alpha_{k, ij} = \frac{g_{k, ij}^2}{2 g_{k, ij}^2 + \sum_{ab} A_{k, ab} \, g_{k, ij}^3}, \quad
    w_k = \sum_{ij} \alpha_{k, ij} \, \mathrm{ReLU}(e^{s_t} g_{k, ij})$$

    with g the gradient of the score. The factor $e^{s_t}$, one for a whole picture, is left out.

    Raises:
        ValueError: as `grad_cam`.

    Reference: Chattopadhay, Sarkar, Howlader and Balasubramanian (2018), "Grad-CAM++", section 3.2, equation 19.
    """
    maps, gradients, _ = _maps_and_gradients(function, images, targets, layer)
    squares, cubes = gradients**2, gradients**3
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * cubes
    alphas = jnp.where(squares > 0, squares / jnp.where(below != 0, below, 1), 0)
    weights = (alphas * jax.nn.relu(gradients)).sum(axis=(1, 2), keepdims=True)
    return jax.nn.relu((weights * maps).sum(axis=-1))


def _maps_and_gradients(
    function: Scores, images: Pictures, targets: Targets | None, layer: str
) -> tuple[jax.Array, jax.Array, Targets]:
    targets = choose_targets(function, images, targets)
    found, maps, rest = split_at(function, images, layer)
    if maps.ndim != 4:
        raise ValueError(f"{found.name} has the shape {maps.shape}; expected maps (batch, rows, columns, channels)")

    def score(maps: Any) -> jax.Array:
        return score_of(rest(maps), targets).sum()

    return maps, jax.grad(score)(maps), targets
