"""Every analysis on the same net in all its forms, and on the same pictures as bytes and as floats."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import analysis
from cnnjax.analysis import changes
from cnnjax.models import Model, bind

KEY = jax.random.key(0)
BYTES = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)
FLOATS = jnp.asarray(BYTES / 255, jnp.float32)


class Tiny(nn.Module):
    """A convolution, a rectifier and a mean, as Flax has them."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3), name="conv1")(images))
        return nn.Dense(3, name="output")(x.mean((1, 2)))


MODEL = Tiny()
VARIABLES = jax.jit(MODEL.init)(jax.random.key(1), FLOATS)
ATTRIBUTIONS = "saliency gradient gradient_times_input guided_backpropagation deconvolution grad_cam grad_cam_plus_plus"


def numbers(rows):
    """What is a number in records."""
    return [float(cell) for row in rows for cell in row.values() if isinstance(cell, int | float)]


# What needs no weights: a net and a shape.
OF_SHAPES = {
    "receptive_field": lambda net, shape: analysis.receptive_field(net, shape).rows(),
    "summary": lambda net, shape: analysis.summary(net, shape).rows(),
    "cost": lambda net, shape: analysis.cost(net, shape, training=False).rows(),
    "context": lambda net, shape: analysis.context(net, shape).rows(),
    "parameter_sharing": lambda net, shape: analysis.parameter_sharing(net, shape).rows(),
}

# What needs weights: a net and pictures.
OF_PICTURES = {
    **{name: lambda net, images, name=name: getattr(analysis, name)(net, images) for name in ATTRIBUTIONS.split()},
    "smooth_grad": lambda net, images: analysis.smooth_grad(KEY, net, images, samples=2),
    "integrated_gradients": lambda net, images: analysis.integrated_gradients(net, images, baseline=images[1], steps=4),
    "completeness_error": lambda net, images: analysis.completeness_error(
        net, images, np.ones(images.shape, np.float32), baseline=images[1]
    ),
    "occlusion": lambda net, images: analysis.occlusion(net, images, window=4, baseline=images[1]),
    "explain": lambda net, images: analysis.explain(KEY, net, images, methods=["Grad-CAM"]).maps["Grad-CAM"],
    "feature_maps": lambda net, images: analysis.feature_maps(net, images)["conv1"],
    "effective_receptive_field": lambda net, images: (
        analysis.effective_receptive_field(net, images, layer="conv1").gradient
    ),
    "superposition": lambda net, images: analysis.superposition(net, images, images[::-1], layers="conv*").deviations,
    "invariance": lambda net, images: numbers(
        analysis.invariance(KEY, net, images, changes=[changes.illumination(0.5)]).rows()
    ),
    "equivariance_error": lambda net, images: analysis.equivariance_error(
        KEY, net, images, changes.circular_shift(2.0), 2.0
    ),
    "top_patches": lambda net, images: [
        patch.pixels for patch in analysis.top_patches(net, images, layer="conv1", count=1).patches
    ],
    "activation_maximization": lambda net, images: analysis.activation_maximization(
        KEY, net, images.shape, channels=(0,), steps=1
    )[0],
}

# What needs weights that it can change or look at.
OF_WEIGHTS = {
    "sanity_check": lambda net, images: numbers(
        analysis.sanity_check(KEY, net, images, methods="gradient x input").rows()
    ),
    "first_kernel": lambda net, images: analysis.first_kernel(net, images.shape[-1])[1],
}

# What takes features, or no net.
OTHERS = {"cka", "similarity", "feature_statistics", "nearest_examples", "challenges"}


@dataclass(frozen=True)
class Run:
    """As a trained run: it knows its model and variables, and takes bytes too."""

    model: Model
    variables: Mapping[str, Any]

    def __call__(self, images):
        images = jnp.asarray(images)
        return self.model.apply(self.variables, images / 255.0 if images.dtype == np.uint8 else images)


NETS: dict[str, Callable[..., Any]] = {
    "bound": bind(MODEL, VARIABLES),
    "run": Run(MODEL, VARIABLES),
    "lambda": lambda x: MODEL.apply(VARIABLES, x),
}


def test_the_tables_hold_every_analysis():
    functions = {name for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name))}
    assert functions == OF_SHAPES.keys() | OF_PICTURES.keys() | OF_WEIGHTS.keys() | OTHERS


@pytest.mark.parametrize("name", OF_SHAPES)
def test_a_bare_model_is_read_as_one_with_weights(name):
    expected = OF_SHAPES[name](MODEL, FLOATS.shape)
    assert len(expected) > 0
    for net in NETS.values():
        assert OF_SHAPES[name](net, FLOATS.shape) == expected


@pytest.mark.parametrize("name", OF_PICTURES)
def test_every_form_of_a_net_gives_the_same_on_bytes_and_floats(name):
    find = OF_PICTURES[name]
    np.testing.assert_allclose(find(NETS["bound"], BYTES), find(NETS["lambda"], FLOATS), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"the model Tiny came without its variables; .* models\.bind"):
        find(MODEL, FLOATS)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", OF_WEIGHTS)
def test_weights_are_those_of_the_net(name):
    find = OF_WEIGHTS[name]
    np.testing.assert_allclose(find(NETS["run"], BYTES), find(NETS["bound"], FLOATS), rtol=1e-4, atol=1e-6)
    for net in (MODEL, NETS["lambda"]):
        with pytest.raises(ValueError, match=r"expected one with weights: models\.bind\(model, variables\)"):
            find(net, FLOATS)


@pytest.mark.parametrize("name", [name for name in OF_PICTURES if name != "activation_maximization"])
def test_other_whole_numbers_are_refused_with_the_cure(name):
    with pytest.raises(ValueError, match=r"images are int32; expected floats, or bytes \(uint8\)"):
        OF_PICTURES[name](NETS["bound"], BYTES.astype(np.int32))


@pytest.mark.parametrize(
    "find",
    [
        lambda net, layer: analysis.feature_maps(net, FLOATS, layers=layer),
        lambda net, layer: analysis.superposition(net, FLOATS, FLOATS, layers=layer),
        lambda net, layer: analysis.invariance(KEY, net, FLOATS, changes=[], layers=layer),
        lambda net, layer: analysis.effective_receptive_field(net, FLOATS, layer=layer),
        lambda net, layer: analysis.grad_cam(net, FLOATS, layer=layer),
        lambda net, layer: analysis.grad_cam_plus_plus(net, FLOATS, layer=layer),
        lambda net, layer: analysis.explain(KEY, net, FLOATS, methods="Grad-CAM", layer=layer),
        lambda net, layer: analysis.sanity_check(KEY, net, FLOATS, methods="Grad-CAM", layer=layer),
        lambda net, layer: analysis.top_patches(net, FLOATS, layer=layer),
        lambda net, layer: analysis.activation_maximization(KEY, net, FLOATS.shape, channels=(0,), layer=layer),
    ],
)
def test_a_layer_that_there_is_not_is_told_alike_everywhere(find):
    with pytest.raises(ValueError, match=r"^no layer matches 'conv2'; there are conv1\b"):
        find(NETS["bound"], "conv2")


def test_gates_have_one_default():
    defaults = {
        inspect.signature(function).parameters["gates"].default
        for function in (analysis.receptive_field, analysis.summary, analysis.context)
    }
    assert defaults == {False}
