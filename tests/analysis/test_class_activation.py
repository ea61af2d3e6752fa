"""Class activation maps against Captum, and against the papers' equations written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis.class_activation import grad_cam, grad_cam_plus_plus
from cnnjax.analysis.feature_maps import feature_maps
from tests.analysis.goldens_net import CHOSEN, GOLDENS, IMAGES, WEIGHTS, net


def test_grad_cam_equals_captum():
    found = jax.jit(lambda images: grad_cam(net, images, CHOSEN, layer="second"))(IMAGES)
    np.testing.assert_allclose(found, GOLDENS["grad_cam"], rtol=1e-4, atol=1e-6)
    signed = grad_cam(net, IMAGES, CHOSEN, layer="second", rectify=False)
    np.testing.assert_allclose(signed, GOLDENS["grad_cam_signed"], rtol=1e-4, atol=1e-6)


def test_grad_cam_plus_plus_is_equation_19():
    maps = np.asarray(feature_maps(net, IMAGES, names="second")["second"], np.float64)
    # The score is linear in the mean of the maps: its gradient is the output weight over the number of positions.
    gradients = np.broadcast_to(WEIGHTS["output"][list(map(int, CHOSEN))][:, None, None] / 36, maps.shape)
    alphas = gradients**2 / (2 * gradients**2 + maps.sum((1, 2), keepdims=True) * gradients**3)
    weights = (alphas * np.maximum(gradients, 0)).sum((1, 2))
    expected = np.maximum(np.einsum("bk,bhwk->bhw", weights, maps), 0)
    found = grad_cam_plus_plus(net, IMAGES, CHOSEN, layer="second")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("secnd", "no layer matches 'secnd'; there are second"),
        ("output", r"output has the shape \(2, 5\); expected maps"),
        ("*", r"'\*' matches first, second, output; expected one layer"),
    ],
)
def test_bad_layers(layer, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(net, IMAGES, layer=layer)


def test_a_layer_named_outside_of_scopes():
    def bare(x):
        return jnp.tanh(x).mean((1, 2))

    with pytest.raises(ValueError, match="no layer matches 'tanh'; there are reduce_sum"):
        grad_cam(bare, IMAGES, layer="tanh")
