"""Class activation maps against Captum, and against the papers' equations written in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis.class_activation import grad_cam, grad_cam_plus_plus, last_layer_with_positions
from cnnjax.analysis.feature_maps import feature_maps
from cnnjax.analysis.tracing import trace_call
from tests.analysis.goldens_net import CHOSEN, GOLDENS, IMAGES, WEIGHTS, net


def test_grad_cam_equals_captum():
    found = jax.jit(lambda images: grad_cam(net, images, CHOSEN, layer="second"))(IMAGES)
    np.testing.assert_allclose(found, GOLDENS["grad_cam"], rtol=1e-4, atol=1e-6)
    signed = grad_cam(net, IMAGES, CHOSEN, layer="second", rectify=False)
    np.testing.assert_allclose(signed, GOLDENS["grad_cam_signed"], rtol=1e-4, atol=1e-6)


def test_grad_cam_plus_plus_is_equation_19():
    maps = np.asarray(feature_maps(net, IMAGES, layers="second")["second"], np.float64)
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
        ("*", r"'\*' matches first, second, output; expected one of them"),
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


def test_the_last_layer_with_positions_is_the_default():
    model = models.create("resnet20")
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    program = trace_call(lambda variables, images: model.apply(variables, images), variables, images)
    assert last_layer_with_positions(program) == "stage3"
    found = grad_cam(net, IMAGES, CHOSEN)
    np.testing.assert_array_equal(found, grad_cam(net, IMAGES, CHOSEN, layer="second"))
    with pytest.raises(ValueError, match="no layer has rows and columns"):
        last_layer_with_positions(trace_call(lambda x: x.mean((1, 2)), images))


def test_other_layouts_are_refused():
    def channels_first(x):
        with jax.named_scope("maps"):
            x = jnp.tanh(jnp.moveaxis(x, -1, 1))
        return x.mean((2, 3))

    with pytest.raises(ValueError, match=r"maps has the shape \(2, 3, 12, 12\); expected maps"):
        grad_cam(channels_first, IMAGES, layer="maps")
    with pytest.raises(ValueError, match="no layer has rows and columns"):
        grad_cam(channels_first, IMAGES)
