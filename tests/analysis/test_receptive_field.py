"""Receptive fields against published figures, and against an experiment: a NaN in one pixel, and where it gets to."""

from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from jax import lax

from cnnjax import models
from cnnjax.analysis import receptive_field
from cnnjax.functional import avg_pool, correlate, max_pool
from tests.analysis.probes import check_against, probe


def conv(x, size=3, *, features=2, **options):
    """A convolution whose kernel has no zero in it."""
    return correlate(x, jnp.ones((size, size, x.shape[-1] // options.get("groups", 1), features)), **options)


def squeeze_and_excite(x):
    return x * nn.sigmoid(jnp.mean(x, (1, 2), keepdims=True))


def shrink(x):
    """Space to depth: 2x2 pixels become channels."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def uneven(x):
    return conv(x, 3, padding=[(0, 2)] * 2)


def repeated(x):
    return jnp.repeat(jnp.stack([x, conv(x, features=3)], 1)[:, 1], 2, axis=2)


def branches(x):
    return jnp.concatenate([conv(x, 1), conv(x, 5), max_pool(x, 3, strides=1, padding="SAME")], -1)


def misaligned_branches(x):
    left = conv(x, 5, strides=2, padding=[(2, 1)] * 2)
    right = conv(conv(x), strides=2, padding=[(1, 1)] * 2)
    return left + right[:, : left.shape[1], : left.shape[2]]


NETS = {
    "two 3x3, SAME": lambda x: conv(conv(x)),
    "SAME stride 2 on an even size": lambda x: conv(conv(x, strides=2), strides=2),
    "SAME stride 2, even kernel": lambda x: conv(x, 4, strides=2),
    "VALID, stride larger than kernel": lambda x: conv(x, 2, strides=3, padding="VALID"),
    "dilated, explicit uneven padding": lambda x: conv(x, 3, dilation=2, padding=[(3, 0), (1, 2)]),
    "max pool of a conv": lambda x: max_pool(conv(x), 2),
    "overlapping average pool": lambda x: avg_pool(conv(x), 3, strides=2, padding="SAME"),
    "three branches of different reach": branches,
    "conv after a concatenation of branches": lambda x: conv(jnp.concatenate([conv(x, 1), conv(x, 5)], -1)),
    "misaligned branches": misaligned_branches,
    "residual": lambda x: conv(conv(x, features=3), features=3) + x,
    "groups, uneven branches into groups": lambda x: conv(branches(x)[..., :4], 1, groups=2, features=4),
    "transposed": lambda x: lax.conv_transpose(conv(x, strides=2), jnp.ones((3, 3, 2, 2)), (2, 2), "SAME"),
    "pad, slice, reverse": lambda x: jnp.pad(conv(x)[:, 2:9:2, ::-1], ((0, 0), (2, 0), (0, 1), (0, 0))),
    "crop by negative padding": lambda x: lax.pad(conv(x), 0.0, ((0, 0, 0), (-1, 2, 0), (0, 0, 1), (0, 0, 0))),
    "space to depth, then conv": lambda x: conv(shrink(x)),
    "gate by the global mean": lambda x: squeeze_and_excite(conv(x)),
    "transposed axes": lambda x: jnp.transpose(conv(x, 3, strides=(1, 2)), (0, 2, 1, 3)),
    "row mean": lambda x: jnp.mean(conv(x), 2),
    "flatten and dense": lambda x: conv(x, strides=4).reshape(x.shape[0], -1) @ jnp.ones((18, 3)),
    "flatten alone": lambda x: conv(x, strides=3).reshape(x.shape[0], -1),
    "window wholly in the padding": lambda x: conv(x, 2, padding=[(3, 0), (0, 0)]),
    "jit, remat, custom_jvp": lambda x: jax.jit(jax.checkpoint(lambda y: nn.relu(conv(y))))(x),
    "stack, repeat, edge padding": lambda x: conv(jnp.pad(repeated(x), ((0, 0), (1, 0), (0, 3), (0, 0)), mode="edge")),
    "rows and columns as tokens": lambda x: conv(x, strides=2).reshape(x.shape[0], -1, 2)[:, 3:],
    "split and joined the other way": lambda x: jnp.concatenate(jnp.split(conv(x), 2, axis=1)[::-1], 1),
    "constant beside, then groups": lambda x: conv(jnp.concatenate([x, jnp.zeros_like(x)], -1), groups=2),
    "constant below": lambda x: conv(jnp.concatenate([x, jnp.zeros_like(x)], 1)),
    "one position seen from everywhere": lambda x: conv(jnp.broadcast_to(avg_pool(x, x.shape[1:3]), x.shape)),
    "uneven ends into groups": lambda x: conv(jnp.concatenate([x[..., :2], uneven(x)], -1), 1, groups=2),
    "several operands": lambda x: lax.reduce_window(
        (x, -x), (0.0, 0.0), lambda a, b: (a[0] + b[0], a[1] + b[1]), (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )[1],
    "reflection": lambda x: conv(jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect"), 5, padding="VALID"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shape", [(1, 12, 12, 3), (1, 10, 12, 3)], ids=["square", "oblong"])
def test_equals_the_nan_probe_at_every_position(name, shape):
    check_against(probe(NETS[name], shape), receptive_field(NETS[name], shape, gates=True))


@st.composite
def nets(draw):
    """A random chain of layers on a signal of 10 positions and 4 channels, with branches that join again."""
    steps = draw(
        st.lists(
            st.one_of(
                st.tuples(
                    st.just("conv"),
                    st.sampled_from([1, 2, 3]),
                    st.sampled_from([1, 2]),
                    st.sampled_from([1, 2]),
                    st.tuples(st.integers(0, 2), st.integers(0, 2)),
                    st.sampled_from([1, 2]),
                ),
                st.tuples(st.just("join"), st.sampled_from([1, 3, 5])),
                st.tuples(st.just("split"), st.integers(0, 2)),
                st.tuples(st.just("transposed"), st.sampled_from([2, 3])),
                st.tuples(st.just("gate")),
                st.tuples(st.just("pad"), st.integers(-1, 2), st.integers(0, 1)),
                st.tuples(st.just("pool"), st.sampled_from([2, 3]), st.sampled_from([1, 2])),
                st.tuples(st.just("chosen"), st.lists(st.integers(0, 30), min_size=2, max_size=12)),
                st.tuples(st.just("masked"), st.integers(2, 4)),
                st.tuples(st.just("running")),
            ),
            min_size=1,
            max_size=4,
        )
    )

    def layer(x, kind, *how):
        if kind == "conv":
            window, stride, dilation, padding, groups = how
            kernel = jnp.ones((window, 4 // groups, 4))
            return correlate(x, kernel, strides=stride, dilation=dilation, padding=[padding], groups=groups)
        if kind == "join":
            return jnp.concatenate([x[..., :2], correlate(x, jnp.ones((how[0], 4, 2)))], -1)
        if kind == "split":
            return jnp.concatenate([x[:, how[0] :], x[:, : how[0]]], 1)
        if kind == "transposed":
            return lax.conv_transpose(x, jnp.ones((how[0], 4, 4)), (2,), "SAME")
        if kind == "pool":
            return max_pool(x, how[0], strides=how[1], padding="SAME")
        if kind == "chosen":
            return x[:, np.array(how[0]) % x.shape[1]]
        if kind == "masked":
            return jnp.where((np.arange(x.shape[1]) % how[0] == 0)[None, :, None], x, conv(x, features=4))
        if kind == "running":
            return jnp.cumsum(x, 1)
        if kind == "gate":
            return x * jnp.mean(x, 1, keepdims=True)
        return lax.pad(x, 0.0, ((0, 0, 0), (how[0], 1, how[1]), (0, 0, 0)))

    def net(x):
        for step in steps:
            x = layer(x, *step)
        return x

    return net


@given(nets())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_random_nets_equal_the_nan_probe(net):
    shape = (1, 10, 4)
    try:
        jax.eval_shape(net, jax.ShapeDtypeStruct(shape, jnp.float32))
    except ValueError:
        reject()  # a window that does not fit: another net is drawn, so that 40 are looked at
    hit = probe(net, shape)
    (field,) = receptive_field(net, shape, gates=True).outputs
    reach = field.axes[0].reach
    low, high = (np.broadcast_to(bound, field.shape).ravel() for bound in (reach.low, reach.high))
    hit = hit.reshape(10, -1)
    some = hit.any(0)
    np.testing.assert_array_equal(low <= high, some)
    np.testing.assert_array_equal(low[some], hit.argmax(0)[some])
    np.testing.assert_array_equal(high[some], 9 - hit[::-1].argmax(0)[some])


@pytest.mark.parametrize(
    ("name", "size", "stride", "start"),
    [
        ("two 3x3, SAME", 5, 1, -2),
        # On 12 pixels SAME at stride 2 pads (0, 1), then on 6 again (0, 1).
        ("SAME stride 2 on an even size", 7, 4, 0),
        ("VALID, stride larger than kernel", 2, 3, 0),
        ("max pool of a conv", 4, 2, -1),
        ("residual", 5, 1, -2),
        ("space to depth, then conv", 6, 2, -2),
        # The mean of the conv's field [-1, 12]; what sees all goes on to see all.
        ("gate by the global mean", 14, 1, -1),
        ("one position seen from everywhere", 12, None, 0),
        ("stack, repeat, edge padding", 5, 1, -1),
        ("reflection", 5, 1, 0),
    ],
)
def test_size_stride_and_start(name, size, stride, start):
    (field,) = receptive_field(NETS[name], (1, 12, 12, 3), gates=True).outputs
    assert (field.size[0], field.stride[0], field.start[0]) == (size, stride, start)


def test_half_pixel_stride_of_an_upsampling():
    def double(x):
        return lax.conv_transpose(x, jnp.ones((2, 1, 1)), (2,), "VALID")

    (field,) = receptive_field(lambda x: correlate(double(x), jnp.ones((3, 1, 1))), (1, 8, 1)).outputs
    assert field.stride == (Fraction(1, 2),)
    # Outputs 2i and 2i+1 of the doubling see pixel i, so three in a row see two pixels, at every position.
    assert (field.axes[0].smallest, field.axes[0].size) == (2, 2)
    np.testing.assert_array_equal(
        field.axes[0].reach.plane_low.ravel(), np.repeat(np.arange(8), 2) - np.tile([1, 0], 8)
    )


def test_unknown_primitives_see_everything_and_are_named():
    def function(x):
        return jnp.linalg.cholesky(x[0] @ x[0].T)

    fields = receptive_field(function, (1, 9, 1))
    assert fields.unknown == ("cholesky",)
    assert fields.outputs[0].size == (9,)
    assert "No rule for cholesky" in str(fields)


def test_a_choice_by_the_whole_picture_sees_it_all():
    # Not for the NaN probe: NaN > 0 is False, not NaN.
    fields = receptive_field(lambda x: conv(jnp.where(x.sum() > 0, jnp.ones_like(x), x)), (1, 12, 12, 3), gates=True)
    assert fields.outputs[0].shape == (1, 12, 12, 2)
    assert fields.outputs[0].axes[0].reach.low.max() == 0
    assert fields.outputs[0].axes[0].reach.high.min() == 11


def test_layers_are_named_by_scope_else_by_primitive():
    def net(x):
        with jax.named_scope("stem"):
            x = conv(x)
        x = conv(conv(x))
        mean = x.mean((1, 2))
        with jax.named_scope("stem"):
            return {"head": conv(x), "mean": mean}

    fields = receptive_field(net, (1, 8, 8, 1))
    assert [layer.name for layer in fields.layers] == [
        "stem",
        "conv_general_dilated",
        "conv_general_dilated (2)",
        "reduce_sum",
        "stem (2)",
    ]
    assert [output.name for output in fields.outputs] == ["stem (2)", "(output)['mean']"]
    assert [layer.size[0] for layer in fields.layers] == [3, 5, 7, 14, 9]


def test_nested_modules_and_batch_norm_in_training():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.Conv(2, (3, 3), name="conv")(x)
            return x + nn.BatchNorm(use_running_average=False, name="norm")(y)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(3, (1, 1), name="head")(Block(name="block2")(Block(name="block1")(x)))

    net = Net()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 2)))
    fields = receptive_field(lambda x: net.apply(variables, x, mutable=["batch_stats"])[0], (1, 8, 8, 2), gates=True)
    assert [layer.name for layer in fields.layers] == [
        "block1",
        "block1/conv",
        "block1/norm",
        "block2",
        "block2/conv",
        "block2/norm",
        "head",
    ]
    assert fields["block1/norm"].shape == (1, 8, 8, 2)
    # Statistics of the batch see the whole picture.
    assert fields["block1/norm"].axes[0].reach.low.ravel().tolist() == [0] * 8
    assert fields["block1/norm"].axes[0].reach.high.ravel().tolist() == [7] * 8


def test_volumes_and_signals_are_drawn_as_bars(tmp_path):
    ones = jnp.ones((3, 1, 1))
    fields = receptive_field(lambda x: correlate(correlate(x, ones), ones), (1, 12, 1))
    assert [bar.get_width() for bar in fields.draw().axes[0].patches] == [3, 5]
    fields.save(tmp_path / "signal")
    assert (tmp_path / "signal.png").exists()
    with pytest.raises(ValueError, match=r"a picture of \(8, 8\) came; the fields are of pictures of \(32, 32\)"):
        receptive_field(models.create("lenet5"), (1, 32, 32, 1)).draw(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="nothing to draw"):
        receptive_field(lambda x: jnp.ones(3), (1, 8, 8, 1)).draw()


def test_bad_input():
    with pytest.raises(ValueError, match="no spatial axes"):
        receptive_field(lambda x: x, (4, 10))
    fields = receptive_field(models.create("lenet5"), (1, 32, 32, 1))
    with pytest.raises(KeyError, match="no layer is named 'C1'; there are c1"):
        fields["C1"]


def test_the_drawing_shows_each_field_once_and_layers_after_those_inside_them():
    """Of ResNet-20: nine convolutions of stage 1 and 2 widen, norms and blocks repeat what their convolutions see."""
    figure = receptive_field(models.create("resnet20"), (1, 32, 32, 3)).draw()
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    captions = [axes.get_title("center").split("\n")[1] for axes in figure.axes[1:]]
    assert len(names) == len({*captions}) == 12
    sides = [int(caption.split(",")[0]) for caption in captions]
    assert sides == sorted(sides)
    assert names[0] == "conv1"
    assert sides[-1] == 81
    assert not {"stage1", "stage2", "stage3"} & {*names}


def test_what_does_not_depend_on_the_input_has_no_field():
    with pytest.raises(ValueError, match="does not depend on its input"):
        receptive_field(lambda x: jnp.ones((1, 2)), (1, 2, 1)).only_output()
