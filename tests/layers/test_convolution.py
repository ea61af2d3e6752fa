"""The layers against Flax's: the same parameters, by name and shape, give the same outputs."""

import re
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax

from cnnjax import layers
from cnnjax.functional import separable
from tests.functional import correlation_oracle as oracle

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 9, 4)).astype(np.float32))
KEY = jax.random.key(0)


def drawn(layer, images=IMAGES):
    """Variables of the layer's names and shapes, with no zeros that would be forgotten unseen."""
    generator = np.random.default_rng(1)
    shapes = jax.eval_shape(layer.init, KEY, images)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(size=leaf.shape), leaf.dtype), shapes)


def assert_same(ours, reference, images):
    """Flax's variables, loaded, give Flax's outputs and gradients."""
    variables = drawn(reference, images)
    assert jax.tree.map(jnp.shape, drawn(ours, images)) == jax.tree.map(jnp.shape, variables)

    @jax.jit
    def both(variables, images):
        def differentiated(layer):
            outputs, vjp = jax.vjp(layer.apply, variables, images)
            return outputs, vjp(jnp.cos(outputs))

        return differentiated(ours), differentiated(reference)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *both(variables, images))


@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        ({}, {}),
        ({"strides": 2}, {"strides": (2, 2)}),
        ({"dilation": 2, "padding": "VALID"}, {"kernel_dilation": (2, 2), "padding": "VALID"}),
        (
            {"input_dilation": (2, 1), "padding": [(1, 2), (0, 3)]},
            {"input_dilation": (2, 1), "padding": [(1, 2), (0, 3)]},
        ),
        ({"groups": 2, "use_bias": False}, {"feature_group_count": 2, "use_bias": False}),
        # Flax pads by the window alone, whatever the stride.
        ({"padding_mode": "circular", "strides": 2, "padding": 1}, {"padding": "CIRCULAR", "strides": 2}),
        ({"padding_mode": "reflect", "dilation": (1, 2)}, {"padding": "REFLECT", "kernel_dilation": (1, 2)}),
    ],
    ids=str,
)
def test_conv_equals_flax(ours, flax):
    assert_same(layers.Conv(6, (3, 3), **ours), nn.Conv(6, (3, 3), **flax), IMAGES)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank):
    images = jnp.asarray(oracle.arrays(1, (2, *(6,) * rank, 2))[0])
    window = (3,) * rank
    assert_same(layers.Conv(3, window), nn.Conv(3, window), images)
    assert_same(
        layers.ConvTranspose(3, window, 2), nn.ConvTranspose(3, window, (2,) * rank, transpose_kernel=True), images
    )


def test_misfit_is_passed_down():
    variables = drawn(layers.Conv(2, (3, 3)))
    options = {"strides": 3, "padding": "VALID"}
    cropped, padded = (layers.Conv(2, (3, 3), misfit=misfit, **options) for misfit in ("crop", "pad"))
    assert jax.eval_shape(cropped.apply, variables, IMAGES).shape == (4, 2, 3, 2)
    assert jax.eval_shape(padded.apply, variables, IMAGES).shape == (4, 3, 3, 2)


# Flax's "VALID" pads where the stride is larger than the window, and its integers pad the images, not the outputs.
@pytest.mark.parametrize(
    ("ours", "flax"),
    [
        ({}, {"strides": (1, 1)}),
        ({"strides": 2}, {"strides": (2, 2)}),
        ({"strides": (4, 3), "use_bias": False}, {"strides": (4, 3), "use_bias": False}),
        ({"strides": (2, 3), "padding": "VALID"}, {"strides": (2, 3), "padding": "VALID"}),
        (
            {"strides": 2, "padding": "VALID", "dilation": 2},
            {"strides": (2, 2), "padding": "VALID", "kernel_dilation": (2, 2)},
        ),
        ({"strides": 2, "padding": 1}, {"strides": (2, 2), "padding": ((1, 1), (1, 1))}),
    ],
    ids=str,
)
def test_conv_transpose_equals_flax(ours, flax):
    # Of a window of three, padded by one, Flax's padding and ours are the same number: 3 - 1 - 1.
    assert_same(
        layers.ConvTranspose(6, (3, 3), **ours), nn.ConvTranspose(6, (3, 3), transpose_kernel=True, **flax), IMAGES
    )


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"strides": 3, "padding": [(1, 0), 1], "output_padding": (2, 1), "dilation": (1, 2)},
        {"strides": 2, "padding": "VALID", "groups": 2},
    ],
    ids=str,
)
def test_conv_transpose_is_the_adjoint_of_conv(options):
    layer = layers.ConvTranspose(6, (3, 2), use_bias=False, **options)
    variables = drawn(layer)
    outputs = jax.jit(layer.apply)(variables, IMAGES)
    # A correlation of pictures as large as the outputs, with the same kernel: as lax pads and reads them.
    strides, dilation = (np.broadcast_to(options.get(name, 1), 2) for name in ("strides", "dilation"))
    padding = options.get("padding", "SAME")
    if isinstance(padding, list):
        padding = [(1, 0), (1, 1)]
    (pictures,) = oracle.arrays(2, outputs.shape)
    correlated = lax.conv_general_dilated(
        pictures,
        variables["params"]["kernel"],
        tuple(map(int, strides)),
        padding,
        rhs_dilation=tuple(map(int, dilation)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=options.get("groups", 1),
    )
    np.testing.assert_allclose(jnp.vdot(correlated, IMAGES), jnp.vdot(pictures, outputs), rtol=1e-4)


def test_a_transpose_is_drawn_group_by_group():
    # The kernel of a correlation whose entry says (input within its group, output).
    def numbered(key, shape, dtype):
        return jnp.arange(np.prod(shape), dtype=dtype).reshape(shape)

    layer = layers.ConvTranspose(4, (1,), groups=2, kernel_init=numbered)
    kernel = np.asarray(layer.init(KEY, jnp.ones((1, 2, 6)))["params"]["kernel"])
    for group, place, output in np.ndindex(2, 3, 2):
        assert kernel[0, output, 3 * group + place] == 4 * place + 2 * group + output


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_equals_flax(multiplier):
    assert_same(
        layers.DepthwiseConv((3, 2), 2, multiplier=multiplier, padding=[(1, 2), (0, 1)], dilation=(1, 2)),
        nn.Conv(4 * multiplier, (3, 2), 2, [(1, 2), (0, 1)], kernel_dilation=(1, 2), feature_group_count=4),
        IMAGES,
    )
    assert_same(
        layers.DepthwiseConv((3, 3), multiplier=multiplier, padding_mode="circular", use_bias=False),
        nn.Conv(4 * multiplier, (3, 3), padding="CIRCULAR", feature_group_count=4, use_bias=False),
        IMAGES,
    )


def test_depthwise_is_the_functional_one(monkeypatch):
    monkeypatch.setattr(separable, "depthwise_conv", lambda images, kernel, **options: images + kernel.sum())
    layer = layers.DepthwiseConv((3, 3), use_bias=False, kernel_init=nn.initializers.ones)
    result, _ = layer.init_with_output(KEY, jnp.zeros((1, 4, 4, 2)))
    np.testing.assert_array_equal(result, np.full((1, 4, 4, 2), 18))


class FromFlax(nn.Module):
    """A separable convolution of Flax's layers."""

    use_bias: bool

    @nn.compact
    def __call__(self, images):
        middle = nn.Conv(
            8, (3, 2), 2, "CIRCULAR", kernel_dilation=2, feature_group_count=4, use_bias=False, name="depthwise"
        )(images)
        return nn.Conv(5, (1, 1), use_bias=self.use_bias, name="pointwise")(middle)


@pytest.mark.parametrize("use_bias", [True, False])
def test_separable_equals_flax(use_bias):
    ours = layers.SeparableConv(
        5, (3, 2), 2, multiplier=2, padding=(2, 1), padding_mode="circular", dilation=2, use_bias=use_bias
    )
    assert_same(ours, FromFlax(use_bias), IMAGES)


def test_initial_values_are_flaxs():
    ours, reference = layers.SeparableConv(5, (3, 2), 2, multiplier=2), FromFlax(True)
    jax.tree.map(np.testing.assert_array_equal, ours.init(KEY, IMAGES), reference.init(KEY, IMAGES))


def test_fan_in_of_a_transpose_counts_what_an_output_sees():
    # 9 taps times 16 input channels in each of 2 groups; Lecun's variance is one over that.
    layer = layers.ConvTranspose(64, (3, 3), groups=2)
    kernel = layer.init(KEY, jnp.ones((1, 1, 1, 32)))["params"]["kernel"]
    assert kernel.shape == (3, 3, 32, 32)
    np.testing.assert_allclose(jnp.var(kernel), 1 / (9 * 16), rtol=0.05)


LAYERS = {
    "conv": lambda **options: layers.Conv(4, (3, 3), **options),
    "transpose": lambda **options: layers.ConvTranspose(4, (3, 3), **options),
    "depthwise": lambda **options: layers.DepthwiseConv((3, 3), **options),
    "separable": lambda **options: layers.SeparableConv(4, (3, 3), **options),
}
every_layer = pytest.mark.parametrize("create", LAYERS.values(), ids=LAYERS.keys())


@every_layer
def test_types_precision_and_initial_values(create):
    layer = create(
        dtype=jnp.bfloat16,
        precision=lax.Precision.HIGHEST,
        kernel_init=nn.initializers.constant(3),
        bias_init=nn.initializers.constant(2),
    )
    variables = layer.init(KEY, IMAGES)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        assert leaf.dtype == jnp.float32
        assert (leaf == (3 if path[-1].key == "kernel" else 2)).all()
    program = jax.make_jaxpr(layer.apply)(variables, IMAGES)
    assert program.out_avals[0].dtype == jnp.bfloat16
    kernels = [leaf for leaf in jax.tree.leaves(variables) if leaf.ndim > 1]
    assert len(re.findall(r"\bprecision=\S*HIGHEST", str(program))) == len(kernels)
    halves = jax.eval_shape(create(param_dtype=jnp.bfloat16).init, KEY, IMAGES.astype(jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(halves)} == {jnp.dtype(jnp.bfloat16)}


class Stage(nn.Module):
    """A layer with a path."""

    create: Callable
    options: dict

    @nn.compact
    def __call__(self, images):
        return self.create(name="inner", **self.options)(images)


@every_layer
@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0, 0], {}, r"images: shape \(9, 4\) came; expected .* with 1 to 3 spatial axes"),
        (IMAGES[0], {}, r"images: shape \(8, 9, 4\) came; .* the batch axis is missing: pass images\[None\]"),
        (jnp.ones((2, 28, 28)), {}, r".* the channel axis is missing, then pass images\[..., None\]"),
        (
            jnp.ones((1, 2, 8, 9, 4)),
            {},
            "images: .* with 2 spatial axes, as the window has; the window has 2 axes: give it 3",
        ),
        (jnp.ones((1, 4, 4, 2), jnp.uint8), {}, "images: uint8 came, floating point was expected"),
        (IMAGES, {"strides": 0}, "strides=0 is too small"),
        (IMAGES, {"dilation": -1}, "dilation=-1 is too small"),
        (IMAGES, {"padding": "ALL"}, "padding='ALL' is unknown; expected VALID, SAME, SAME_LOWER, FULL or integers"),
    ],
    ids=["rank", "no batch axis", "no channel axis", "window", "type", "strides", "dilation", "padding"],
)
def test_errors_name_the_layer(create, images, options, message, monkeypatch):
    # Typecheckers are on in the tests, and would speak first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=rf"^layer inner(/depthwise)?: (spatial axis 0 of \(8, 9\): )?{message}"):
        Stage(create, options).init(KEY, images)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Conv(0, (3, 3)), "layer Conv: features=0 is too small"),
        (layers.Conv(6, (3, 0)), r"layer Conv: kernel_size=\(3, 0\) is too small"),
        (layers.Conv(6, (3, 3), groups=3), "layer Conv: groups=3 must divide the 4 input channels"),
        (layers.Conv(5, (3, 3), groups=2), "layer Conv: groups=2 must divide the 4 input and 5 output channels"),
        (layers.Conv(6, (3, 3), input_dilation=0), "layer Conv: input_dilation=0 is too small"),
        (layers.ConvTranspose(0, (3, 3)), "layer ConvTranspose: features=0 is too small"),
        (layers.ConvTranspose(5, (3, 3), groups=2), "groups=2 must divide the 4 input and 5 output channels"),
        (layers.ConvTranspose(5, (3, 3), groups=0), "layer ConvTranspose: groups=0 is too small"),
        (layers.ConvTranspose(5, (3, 3), output_padding=1), "output_padding=1 came with padding='SAME'"),
        (layers.DepthwiseConv((3, 3), multiplier=0), "layer DepthwiseConv: multiplier=0 is too small"),
        (layers.DepthwiseConv((9, 9), padding="VALID"), "layer DepthwiseConv: .* window of 9 does not fit"),
        (layers.SeparableConv(0, (3, 3)), "layer pointwise: features=0 is too small"),
    ],
    ids=range(12),
)
def test_bad_attributes(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, IMAGES)


def test_an_unknown_padding_mode_and_an_integer_kernel_size(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"layer Conv: kernel_size=3; expected one integer per spatial axis"):
        layers.Conv(2, 3).init(KEY, IMAGES)
    with pytest.raises(ValueError, match="layer Conv: padding_mode='mirror' is unknown; expected zeros, reflect"):
        layers.Conv(2, (3, 3), padding_mode="mirror").init(KEY, IMAGES)


def test_images_of_other_channels_than_the_variables_were_made_for():
    layer = layers.Conv(4, (3, 3))
    variables = layer.init(jax.random.key(0), jnp.ones((1, 5, 5, 3)))
    with pytest.raises(ValueError, match=r"kernel of shape \(3, 3, 1, 4\), the variables hold one of \(3, 3, 3, 4\)"):
        layer.apply(variables, jnp.ones((1, 5, 5, 1)))


def test_channels_first_are_named():
    layer = layers.Conv(2, (3, 3))
    variables = layer.init(KEY, jnp.ones((1, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"layer Conv: .* channels first; expected .* np.moveaxis\(pictures, 1, -1\)"):
        layer.apply(variables, jnp.ones((1, 3, 8, 8)))
