"""Loops and choices that are not written out, gates, and branches that look elsewhere."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax import models
from cnnjax.analysis import receptive_field, tracing
from cnnjax.functional import avg_pool, correlate, max_pool


def conv(x, size=3, features=1, **options):
    return correlate(x, jnp.ones((size,) * (x.ndim - 2) + (x.shape[-1], features)), **options)


def extents(function, shape=(1, 12, 1)):
    (field,) = receptive_field(function, shape).outputs
    reach = field.axes[0].reach
    return reach.low.ravel().tolist(), reach.high.ravel().tolist()


def test_a_choice_by_the_data_sees_both_branches_and_what_decides():
    def function(x):
        return lax.cond(x[0, 3, 0] > 0, lambda y: y[:, 4:8], lambda y: conv(y)[:, 4:8], x)

    # Each position what 3x3 sees, and pixel 3.
    assert extents(function) == ([3, 3, 3, 3], [5, 6, 7, 8])


def test_a_choice_that_the_image_does_not_make():
    def function(x):
        return lax.switch(jnp.int32(5) // 2, [lambda y: y, conv, lambda y: conv(y, 5)], x)[:, 4:6]

    assert extents(function) == ([2, 3], [6, 7])


def test_a_loop_that_spreads_sees_everything():
    low, high = extents(lambda x: lax.while_loop(lambda y: y.sum() < 9, conv, x))
    assert (low, high) == ([0], [11])
    assert receptive_field(lambda x: lax.while_loop(lambda y: y.sum() < 9, conv, x), (1, 12, 1)).unknown == ()


def test_a_loop_that_stays_in_place_sees_its_place():
    def function(x):
        return lax.while_loop(lambda carry: carry[0] < 3, lambda carry: (carry[0] + 1, carry[1] * 2), (0, conv(x)))[1]

    low, high = extents(function)
    assert low == [0, *range(11)]
    assert high == [*range(1, 12), 11]


def test_what_ends_a_loop_is_seen_everywhere():
    def function(x):
        return lax.while_loop(lambda y: y[0, 2, 0] < 3, lambda y: y + 1, x)

    low, high = extents(function)
    assert low == [0, 1, *[2] * 10]
    assert high == [2, 2, 2, *range(3, 12)]


def test_long_scans_are_followed_until_nothing_changes(monkeypatch):
    monkeypatch.setattr(tracing, "_MOST_SCANNED", 3)

    def in_place(x):
        carry, collected = lax.scan(lambda y, z: (y + z, y * 2), conv(x), jnp.ones((30, 1, 12, 1)))
        return carry + collected[-1]

    low, high = extents(in_place)
    assert low == [0, *range(11)]
    assert high == [*range(1, 12), 11]
    assert extents(lambda x: lax.scan(lambda y, _: (conv(y), None), x, length=30)[0]) == ([0], [11])
    # Rows of the image that are taken apart.
    rows = jnp.moveaxis
    found = extents(lambda x: rows(lax.scan(lambda y, row: (y, row + y), jnp.zeros((1, 1)), rows(x, 1, 0))[1], 0, 1))
    assert found == ([0], [11])


def test_loops_that_are_not_written_out_are_told(monkeypatch):
    def scanned(x):
        return lax.scan(lambda y, _: (conv(y), None), x, length=2)[0]

    assert receptive_field(scanned, (1, 12, 1)).loops == ()
    monkeypatch.setattr(tracing, "_MOST_SCANNED", 1)
    fields = receptive_field(scanned, (1, 12, 1))
    assert fields.loops == ("scan",)
    assert "Of loops in scan fields hold for any number of turns: fewer may see less." in str(fields)

    def chosen(x):
        return lax.cond(x.sum() > 0, lambda y: lax.while_loop(lambda z: z.sum() < 9, conv, y), conv, x)

    assert receptive_field(chosen, (1, 12, 1)).loops == ("cond",)


def gated(x):
    y = conv(x, features=2)
    return conv(y * nn.sigmoid(y.mean((1, 2), keepdims=True)), features=2)


def test_gates_may_be_left_out():
    shape = (1, 16, 16, 1)
    (whole,) = receptive_field(gated, shape, gates=True).outputs
    (local,) = receptive_field(gated, shape).outputs
    assert whole.axes[0].reach.low.max() == 0
    assert (local.size, local.stride, local.start) == ((5, 5), (1, 1), (-2, -2))
    # What a gate alone gives is told all the same.
    (pooled,) = receptive_field(lambda x: conv(x).mean((1, 2)), shape).outputs
    assert pooled.axes[0].reach.high.ravel().tolist() == [15]


def test_squeeze_and_excitation_keeps_the_fields_of_its_net():
    # Equal to ResNet-50's (v1.5): 427 pixels at stride 32; the gates see the whole picture.
    fields = receptive_field(models.create("se_resnet50"), (1, 224, 224, 3))
    assert (fields["stage4"].size, fields["stage4"].stride) == ((427, 427), (32, 32))
    assert fields.misaligned == ()


def misaligned(x):
    # Araujo et al. (2019): 5/2 padded 2|1 beside two 3/1.
    left = conv(x, 5, strides=2, padding=[(2, 1)])
    return left + conv(conv(x, padding="VALID"), padding="VALID")


def aligned(x):
    left = conv(x, 1, strides=4, padding="VALID")
    return left + conv(conv(x, strides=2, padding=[(1, 0)]), 1, strides=2, padding="VALID")


def shifted_and_plain(x):
    return x + jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("cond", lambda x: lax.cond(x.sum() > 0, shifted_and_plain, lambda y: y, x)),
        ("while", lambda x: lax.while_loop(lambda y: y.sum() < 9, shifted_and_plain, x)),
    ],
    ids=["cond", "while"],
)
def test_branches_that_meet_inside_of_a_loop_are_named_after_it(name, function):
    assert receptive_field(function, (1, 8, 1)).misaligned == (name,)


def test_branches_that_look_elsewhere_are_named():
    fields = receptive_field(misaligned, (1, 8, 1))
    assert fields.misaligned == ("add",)
    assert "Branches that look at other places meet in add." in str(fields)
    assert receptive_field(aligned, (1, 32, 1)).misaligned == ()


@pytest.mark.parametrize("name", ["vgg16", "googlenet", "resnet50"])
def test_published_nets_are_aligned(name):
    # Araujo et al. (2019): of the published nets, Inception-ResNet and NASNet families aside, all are aligned.
    assert receptive_field(models.create(name), (1, 224, 224, 3)).misaligned == ()


def test_joined_after_an_even_window_is_misaligned():
    def function(x):
        return jnp.concatenate([conv(x, 4), conv(x, 3)], -1)

    # SAME pads a window of four by one before and two after, which moves its centre by half a pixel.
    fields = receptive_field(function, (1, 12, 1))
    assert fields.misaligned == ("concatenate",)
    centres = fields.layers[0].axes[0].centres - fields.layers[1].axes[0].centres
    np.testing.assert_array_equal(centres, np.full(12, 0.5))


def slim_bottlenecks(x, units):
    """The 3x3 convolutions of TF-Slim's resnet_v1: a block's stride is in its last unit, with explicit padding."""
    fields = []
    for number, count in enumerate(units):
        for unit in range(count):
            last = unit == count - 1 and number < len(units) - 1
            x = conv(x, 3, strides=2, padding=[(1, 1)] * 2) if last else conv(x)
        fields.append(x)
    return fields


@pytest.mark.parametrize(
    ("size", "paddings"), [(224, (15, 47, 143, 239)), (321, (17, 49, 145, 241))], ids=["224", "321"]
)
def test_padding_depends_on_the_size_of_the_picture(size, paddings):
    # google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md: resnet_v1_50, block1 to block4.
    def resnet(x):
        x = conv(x, 7, strides=2, padding=[(3, 3)] * 2)
        return slim_bottlenecks(max_pool(x, 3, strides=2, padding="SAME"), (3, 4, 6, 3))

    found = receptive_field(resnet, (1, size, size, 1)).outputs
    assert [field.size[0] for field in found] == [35, 99, 291, 483]
    assert [-field.start[0] for field in found] == list(paddings)


@pytest.mark.parametrize(("size", "padding"), [(224, 126), (321, 157)], ids=["224", "321"])
def test_padding_of_mobilenet(size, padding):
    # The same table, mobilenet_v1: 315 pixels, padding 126 at 224 and 157 at 321.
    def mobilenet(x):
        x = conv(x, strides=2, padding="SAME")
        for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1):
            x = conv(x, strides=stride, padding="SAME")
        return x

    (field,) = receptive_field(mobilenet, (1, size, size, 1)).outputs
    assert (field.size[0], field.stride[0], -field.start[0]) == (315, 32, padding)


def test_statistics_of_a_batch_see_everything():
    def function(x):
        return avg_pool(x - x.mean((0, 1, 2), keepdims=True), 2)

    assert receptive_field(function, (1, 8, 8, 1), gates=True).outputs[0].axes[0].reach.high.min() == 7
    assert receptive_field(function, (1, 8, 8, 1)).outputs[0].size == (2, 2)
