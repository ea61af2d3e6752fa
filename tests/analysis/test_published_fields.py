"""Receptive fields of published nets, against the sizes, strides and paddings that their sources give."""

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax import models
from cnnjax.analysis import receptive_field
from cnnjax.functional import correlate, max_pool


def conv(x, size=3, *, features=2, **options):
    """A convolution whose kernel has no zero in it."""
    return correlate(x, jnp.ones((size, size, x.shape[-1], features)), **options)


def test_lenet5_has_the_published_fields():
    fields = receptive_field(models.create("lenet5"), (1, 32, 32, 1))
    expected = {"c1": (5, 1), "s2": (6, 2), "c3": (14, 2), "s4": (16, 4), "c5": (32, 4)}
    found = {name: (fields[name].size, fields[name].stride) for name in expected}
    assert found == {name: ((size, size), (stride, stride)) for name, (size, stride) in expected.items()}
    assert all(fields[name].uniform and fields[name].start == (0, 0) for name in expected)
    assert fields["output"].size == (32, 32)
    assert fields["output"].stride == (None, None)


def vgg(x, blocks, features=1):
    for number, depth in enumerate(blocks, 1):
        for _ in range(depth):
            x = conv(x, 3, features=features)
        with jax.named_scope(f"pool{number}"):
            x = max_pool(x, 2)
    return x


def test_vgg16_has_the_published_fields():
    # google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md: size and effective padding of every pool.
    fields = receptive_field(lambda x: vgg(x, (2, 2, 3, 3, 3)), (1, 224, 224, 3))
    published = {"pool1": (6, 2), "pool2": (16, 6), "pool3": (44, 18), "pool4": (100, 42), "pool5": (212, 90)}
    assert {name: (fields[name].size[0], -fields[name].start[0]) for name in published} == published
    assert fields["pool5"].stride == (32, 32)


def test_alexnet_has_the_published_fields():
    # The same table, alexnet_v2: 11/4 VALID, pool 3/2, 5 SAME, pool 3/2, three 3 SAME, pool 3/2.
    def alexnet(x):
        sizes = {}
        for name, layer in {
            "conv1": lambda x: conv(x, 11, strides=4, padding="VALID"),
            "pool1": lambda x: max_pool(x, 3, strides=2),
            "conv2": lambda x: conv(x, 5),
            "pool2": lambda x: max_pool(x, 3, strides=2),
            "conv3": conv,
            "conv4": conv,
            "conv5": conv,
            "pool5": lambda x: max_pool(x, 3, strides=2),
        }.items():
            with jax.named_scope(name):
                x = layer(x)
            sizes[name] = x
        return x

    fields = receptive_field(alexnet, (1, 224, 224, 3))
    published = {"conv1": 11, "pool1": 19, "conv2": 51, "conv3": 99, "conv4": 131, "conv5": 163, "pool5": 195}
    assert {name: fields[name].size[0] for name in published} == published
    assert (fields["pool5"].stride[0], -fields["pool5"].start[0]) == (32, 64)


def test_distill_toys():
    # Araujo et al. (2019): the aligned net, its two axes apart, and the misaligned net, which must be flagged.
    def aligned(x):
        left = correlate(x, jnp.ones((1, 1, 1)), strides=4, padding="VALID")
        right = correlate(x, jnp.ones((3, 1, 1)), strides=2, padding=[(1, 0)])
        return left + correlate(right, jnp.ones((1, 1, 1)), strides=2, padding="VALID")

    (field,) = receptive_field(aligned, (1, 32, 1)).outputs
    assert (field.size, field.stride, field.start, field.uniform) == ((3,), (4,), (-1,), True)


def test_misaligned_branches_are_flagged():
    # Araujo et al. (2019), "misaligned": 5/2 padded 2|1 beside two 3/1. By hand, on 8 pixels the left branch sees
    # [-2, 2], [0, 4], [2, 6], [4, 8] and the right one [0, 4], [1, 5], [2, 6], [3, 7].
    def misaligned(x):
        left = correlate(x, jnp.ones((5, 1, 1)), strides=2, padding=[(2, 1)])
        right = correlate(x, jnp.ones((3, 1, 1)), padding="VALID")
        return left + correlate(right, jnp.ones((3, 1, 1)), padding="VALID")

    (field,) = receptive_field(misaligned, (1, 8, 1)).outputs
    reach = field.axes[0].reach
    assert reach.plane_low.ravel().tolist() == [-2, 0, 2, 3]
    assert reach.plane_high.ravel().tolist() == [4, 5, 6, 8]
    assert (field.axes[0].smallest, field.axes[0].size, field.uniform) == (5, 7, False)


def test_oblong_kernels_have_a_field_per_axis():
    # Araujo et al. (2019): 3x5 stride 2, then 3x1 stride 2, gives 7 rows and 5 columns, strides 4.
    def net(x):
        x = correlate(x, jnp.ones((3, 5, 1, 1)), strides=2, padding="VALID")
        return correlate(x, jnp.ones((3, 1, 1, 1)), strides=2, padding="VALID")

    (field,) = receptive_field(net, (1, 33, 33, 1)).outputs
    assert (field.size, field.stride, field.start) == ((7, 5), (4, 4), (0, 0))


def test_field_does_not_shrink_on_a_map_of_one_position():
    # ResNet-50 at 224 sees 483 pixels; the same holds for a deep net whose last map has one position.
    def net(x):
        for _ in range(5):
            x = conv(x, 3, features=1, strides=2)
        return conv(conv(x, features=1), features=1)

    (field,) = receptive_field(net, (1, 32, 32, 1)).outputs
    # 1 + 2 * (1 + 2 + 4 + 8 + 16) + 2 * 2 * 32 by the recursion of Araujo et al., equation 2.
    assert field.size == (191, 191)
    assert field.axes[0].reach.low.ravel().tolist() == [0]
    assert field.axes[0].reach.high.ravel().tolist() == [31]


def test_unet_depends_on_the_position():
    # Ronneberger et al. (2015) at 572: 188 or 204 pixels, depending on the position (recomputed, numbers of Distill).
    def double(x):
        return conv(conv(x, features=1, padding="VALID"), features=1, padding="VALID")

    def unet(x):
        skips = []
        for _ in range(4):
            x = double(x)
            skips.append(x)
            x = max_pool(x, 2)
        x = double(x)
        for skip in reversed(skips):
            x = lax.conv_transpose(x, jnp.ones((2, 2, 1, 1)), (2, 2), "VALID")
            edge = (skip.shape[1] - x.shape[1]) // 2
            crop = skip[:, edge : edge + x.shape[1], edge : edge + x.shape[2]]
            x = double(jnp.concatenate([crop, x], -1))
        return x

    (field,) = receptive_field(unet, (1, 572, 572, 1)).outputs
    assert field.shape == (1, 388, 388, 1)
    assert (field.axes[0].smallest, field.axes[0].size) == (188, 204)
    assert not field.uniform
    assert field.stride == (1, 1)
