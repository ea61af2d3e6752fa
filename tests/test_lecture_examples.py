"""Every number of the lectures on convolutional networks, computed by this package.

Where a lecture prints a wrong value, the test states the right one and names the slip.
"""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from cnnjax import layers, models
from cnnjax.analysis import receptive_field, summary
from cnnjax.functional import avg_pool, correlate, dilated_size, kernels, max_pool, output_size, slide
from cnnjax.functional.boxes import iou
from cnnjax.functional.counts import activation_bytes, activation_count, parameter_count
from cnnjax.functional.geometry import Window, slide_all, transposed_size

IMAGE = [
    [1, 0, 0, 0, 0, 1],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 1, 0, 0],
    [1, 0, 0, 0, 1, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 0, 1, 0],
]
FILTER_1 = [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
FILTER_2 = [[-1, 1, -1], [-1, 1, -1], [-1, 1, -1]]
TO_POOL = [[2, 4, 7, 4], [6, 6, 9, 8], [3, 4, 8, 3], [7, 5, 3, 6]]


def picture(rows):
    """One picture of one channel."""
    return jnp.asarray(rows, jnp.float32)[None, ..., None]


def slid(image, kernel, **options):
    """The map that one filter makes of one picture, or signal; without padding unless some is given."""
    filters = jnp.asarray(kernel, jnp.float32)[..., None, None]
    return correlate(picture(image), filters, **{"padding": "VALID"} | options)[0, ..., 0]


class Net(nn.Module):
    """3x3 convolutions that keep the size, each with its features, 2x2 pools where it says 0, then dense layers."""

    features: tuple[int, ...]
    dense: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        for index, width in enumerate(self.features):
            if width:
                x = nn.relu(layers.Conv(width, (3, 3), padding=1, name=f"conv{index}")(x))
            else:
                x = layers.MaxPool(2, name=f"pool{index}")(x)
        x = x.reshape(x.shape[0], -1)
        for index, width in enumerate(self.dense):
            x = layers.Dense(width, name=f"dense{index}")(x)
        return x


def test_pictures_as_numbers():
    # 50x50 pixels, a "2 megapixel" HD picture, and 800x600 pixels in three colours.
    assert activation_count((50, 50), 1) == 2500
    assert activation_count((1920, 1080), 1) == 2_073_600
    assert activation_count((800, 600), 3) == 1_440_000


def test_one_dimensional_smoothing():
    positions = [1.00, 1.10, 1.20, 1.40, 1.70, 1.80, 1.90, 2.10, 2.20, 2.40, 2.50]
    # The lecture prints 1.80, 1.96, 2.11 under six weights; these six give 1.704, 1.815, 1.973, ...
    six = slid(positions, [0.01, 0.02, 0.03, 0.04, 0.4, 0.5])
    np.testing.assert_allclose(six, [1.704, 1.815, 1.973, 2.118, 2.274, 2.417], rtol=1e-6)
    # The printed results come near those of seven weights, and are not quite theirs either.
    seven = slid(positions, [0.01, 0.01, 0.02, 0.02, 0.04, 0.4, 0.5])
    np.testing.assert_allclose(seven, [1.811, 1.967, 2.112, 2.269, 2.413], rtol=1e-6)


def test_six_by_six_image_filter_1():
    # The lecture prints -3 -1 0 -3 as the second row and -3 -2 0 1 as the third.
    expected = [[3, -1, -3, -1], [-3, 1, 0, -3], [-3, -3, 0, 1], [3, -2, -2, -1]]
    np.testing.assert_array_equal(slid(IMAGE, FILTER_1), expected)


def test_six_by_six_image_filter_1_at_stride_3():
    np.testing.assert_array_equal(slid(IMAGE, FILTER_1, strides=3), [[3, -1], [3, -1]])


def test_six_by_six_image_filter_2():
    # The lecture prints -1 -1 -2 -1 as the second row.
    expected = [[-1, -1, -1, -1], [-1, -1, -2, 1], [-1, -1, -2, 1], [-1, 0, -4, 3]]
    np.testing.assert_array_equal(slid(IMAGE, FILTER_2), expected)


def test_two_filters_make_two_feature_maps():
    filters = jnp.stack([jnp.asarray(FILTER_1, jnp.float32), jnp.asarray(FILTER_2, jnp.float32)], -1)[:, :, None]
    assert correlate(picture(IMAGE), filters, padding="VALID").shape == (1, 4, 4, 2)
    assert correlate(picture(IMAGE), filters, padding="VALID", strides=3).shape == (1, 2, 2, 2)


def test_six_by_six_image_with_padding():
    assert [6 + axis.before + axis.after for axis in slide_all((6, 6), 3, padding=1)] == [8, 8]
    # The lecture shows the padded image and leaves the result out.
    expected = [
        [2, -2, -1, 1, -2, 0],
        [-2, 3, -1, -3, -1, -2],
        [-2, -3, 1, 0, -3, 0],
        [2, -3, -3, 0, 1, -2],
        [-2, 3, -2, -2, -1, -1],
        [-1, -2, 2, -3, 0, 0],
    ]
    np.testing.assert_array_equal(slid(IMAGE, FILTER_1, padding=1), expected)


def test_corner_pixels_are_used_once_those_in_the_middle_nine_times():
    uses = jax.grad(lambda image: slid(image, np.ones((3, 3))).sum())(jnp.asarray(IMAGE, jnp.float32))
    np.testing.assert_array_equal(uses, np.outer([1, 2, 3, 3, 2, 1], [1, 2, 3, 3, 2, 1]))


@pytest.mark.parametrize(("window", "padding"), [(3, 1), (5, 2), (7, 3)])
def test_half_the_window_less_one_keeps_the_size(window, padding):
    assert slide(28, window, padding="SAME") == Window(28, padding, padding)
    assert output_size(28, window, padding=padding) == 28


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_output_size_formula(stride):
    # One lecture's padded size, n + 2p - f + 1, holds at stride 1 only; another's is (n - f + 2p + s) / s.
    for n, f, p in itertools.product(range(1, 13), range(1, 6), range(3)):
        if n + 2 * p >= f:
            assert output_size(n, f, strides=stride, padding=p) == math.floor((n - f + 2 * p + stride) / stride)


def test_a_stride_that_does_not_fit():
    # The lecture prints (W - F + 2P) / S = 4.5 for W = 10, F = 3, S = 2; that is 3.5, and 4.5 with the + 1.
    with pytest.raises(ValueError, match="is not whole"):
        slide(10, 3, stride=2, misfit="error")
    assert slide(10, 3, stride=2, misfit="floor") == Window(4, 0, 0)
    assert slide(10, 3, stride=2, misfit="pad") == Window(5, 0, 1)
    assert slide(10, 3, stride=2, misfit="crop") == Window(4, 0, -1)


def test_zero_padding_of_one_around_five():
    assert output_size(5, 3, padding=1) == 5
    assert output_size(5, 3) == 3


def test_an_odd_padding_is_split_in_two():
    # Of p = f - 1 for both sides together, ceil(p / 2) goes to one. The lecture's size has + 2p: there p is per side.
    assert slide(10, 4, padding="SAME") == Window(10, 1, 2)
    assert slide(10, 4, padding="SAME_LOWER") == Window(10, 2, 1)


def test_emboss_padded_by_five_grows_by_eight():
    np.testing.assert_array_equal(kernels.emboss(), [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    embossed = kernels.filter_images(jnp.ones((1, 6, 7, 1)), kernels.emboss(), padding=5)
    assert embossed.shape == (1, 14, 15, 1)
    # Inside, where the padding is out of sight, an even picture stays even: the weights sum to 1.
    np.testing.assert_array_equal(embossed[0, 5:9, 5:10, 0], np.ones((4, 5)))


def test_edge_filters():
    np.testing.assert_array_equal(kernels.vertical_edge(), [[1, 0, -1], [1, 0, -1], [1, 0, -1]])
    np.testing.assert_array_equal(kernels.horizontal_edge(), [[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
    half_bright = np.tile([10, 10, 10, 0, 0, 0], (6, 1))
    np.testing.assert_array_equal(slid(half_bright, kernels.vertical_edge()), [[0, 30, 30, 0]] * 4)
    np.testing.assert_array_equal(slid(half_bright, kernels.horizontal_edge()), np.zeros((4, 4)))
    np.testing.assert_array_equal(slid(half_bright.T, kernels.horizontal_edge()), np.transpose([[0, 30, 30, 0]] * 4))


def test_a_centred_kernel_of_three_starts_one_pixel_before():
    # The lecture's sum starts at floor(-m / 2), for m = 3 that is -2, and has four terms.
    assert slide(28, 3, padding="SAME") == Window(28, 1, 1)


def test_cross_correlation_reads_the_taps_forwards_and_convolution_backwards():
    taps, dot = np.arange(1, 10).reshape(3, 3), [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_array_equal(slid(dot, taps, padding=1), [[9, 8, 7], [6, 5, 4], [3, 2, 1]])
    np.testing.assert_array_equal(slid(dot, taps[::-1, ::-1], padding=1), taps)


def test_convolution_is_associative_and_cross_correlation_is_not():
    a, b, c = np.array([1, 2, 3]), np.array([1, 0, -1]), np.array([1, 2])

    def convolve(signal, taps):
        return slid(signal, taps[::-1], padding="FULL")

    def cross_correlate(signal, taps):
        return slid(signal, taps, padding="FULL")

    np.testing.assert_array_equal(convolve(convolve(a, b), c), [1, 4, 6, 2, -7, -6])
    np.testing.assert_array_equal(convolve(a, convolve(b, c)), [1, 4, 6, 2, -7, -6])
    np.testing.assert_array_equal(cross_correlate(cross_correlate(a, b), c), [-2, -5, -6, 2, 8, 3])
    np.testing.assert_array_equal(cross_correlate(a, cross_correlate(b, c)), [-1, -4, -6, -2, 7, 6])


def test_only_kernels_that_look_the_same_upside_down_make_both_equal():
    # The lecture calls kernels symmetric in practice; those that networks learn, and its own edge filter, are not.
    blur, edge = kernels.gaussian_blur(size=3), kernels.vertical_edge()
    np.testing.assert_allclose(slid(IMAGE, blur), scipy.signal.convolve2d(IMAGE, blur, "valid"), rtol=1e-6)
    np.testing.assert_array_equal(slid(IMAGE, edge), -scipy.signal.convolve2d(IMAGE, edge, "valid"))


def test_the_window_of_position_2_3():
    # A 7x7 image numbered from 1, and nine filters that each pick one pixel: I(2 + m, 3 + n).
    numbered = picture(np.arange(1, 50).reshape(7, 7))
    picked = correlate(numbered, jnp.eye(9).reshape(3, 3, 1, 9), padding="VALID")[0, 2, 3]
    assert picked.tolist() == [18, 19, 20, 25, 26, 27, 32, 33, 34]


def test_transposed_convolution_of_figure_2_1():
    # i = 4, k = 3, s = 1, p = 0 makes 2; its transpose brings 2 back to 4, as does a direct one padded by 2.
    assert output_size(4, 3) == 2
    assert transposed_size(2, 3) == 4
    assert output_size(2, 3, padding=2) == 4
    _, transpose = jax.vjp(lambda image: slid(image, np.ones((3, 3))), jnp.zeros((4, 4)))
    (spread,) = transpose(jnp.ones((2, 2)))
    np.testing.assert_array_equal(spread, np.outer([1, 2, 2, 1], [1, 2, 2, 1]))
    np.testing.assert_array_equal(slid(np.ones((2, 2)), np.ones((3, 3)), padding=2), spread)


def test_transposed_convolution_of_figure_4_5():
    # The slide titled "dilated convolution" shows this transpose: i = 5, k = 3, s = 2, p = 0.
    assert output_size(5, 3, strides=2) == 2
    assert transposed_size(2, 3, strides=2) == 5
    _, transpose = jax.vjp(lambda image: slid(image, np.ones((3, 3)), strides=2), jnp.zeros((5, 5)))
    (spread,) = transpose(jnp.ones((2, 2)))
    np.testing.assert_array_equal(spread, np.outer([1, 1, 2, 1, 1], [1, 1, 2, 1, 1]))
    # "One zero inserted between inputs, a border of two zeros."
    np.testing.assert_array_equal(slid([[1, 0, 1], [0, 0, 0], [1, 0, 1]], np.ones((3, 3)), padding=2), spread)


def test_dilated_convolution():
    # What that slide should show: taps of a 3x3 kernel two apart cover 5x5, and need a padding of 2 to keep the size.
    assert dilated_size(3, 2) == 5
    assert slide(28, 3, dilation=2, padding="SAME") == Window(28, 2, 2)
    taps = slid(np.arange(25).reshape(5, 5), np.ones((3, 3)), dilation=2)
    assert taps.tolist() == [[0 + 2 + 4 + 10 + 12 + 14 + 20 + 22 + 24]]


def test_groups_are_block_diagonal_weights():
    images = jnp.asarray(np.arange(36).reshape(1, 3, 3, 4), jnp.float32)
    kernel = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    blocks = np.zeros((1, 1, 4, 4), np.float32)
    blocks[..., :2, :2], blocks[..., 2:, 2:] = kernel[..., :2], kernel[..., 2:]
    expected = np.asarray(images) @ blocks[0, 0]
    np.testing.assert_array_equal(correlate(images, jnp.asarray(kernel), groups=2), expected)
    assert parameter_count(4, 4, 1, groups=2, bias=False) == 8


def test_max_pooling():
    np.testing.assert_array_equal(max_pool(picture(TO_POOL), 2)[0, ..., 0], [[6, 9], [7, 8]])


def test_average_pooling():
    np.testing.assert_array_equal(avg_pool(picture(TO_POOL), 2)[0, ..., 0], [[4.5, 7], [4.75, 5]])


def test_convolution_then_max_pooling():
    first = max_pool(slid(IMAGE, FILTER_1)[None, ..., None], 2)
    second = max_pool(slid(IMAGE, FILTER_2)[None, ..., None], 2)
    np.testing.assert_array_equal(first[0, ..., 0], [[3, 0], [3, 1]])
    # The lecture prints -1 -1 as the first row, from the map whose second row it has wrong.
    np.testing.assert_array_equal(second[0, ..., 0], [[-1, 1], [0, 3]])


def test_two_by_two_pooling_discards_three_quarters():
    assert activation_count(output_size((32, 32), 2, strides=2), 12) * 4 == activation_count(32, 12)


def test_sizes_that_halve_many_times():
    for size, halvings, rest in ((32, 5, 1), (64, 6, 1), (96, 5, 3), (224, 5, 7)):
        for _ in range(halvings):
            size = output_size(size, 2, strides=2, misfit="error")
        assert size == rest


@pytest.mark.parametrize(("window", "fields"), [(3, [3, 5, 7, 9]), (5, [5, 9, 13, 17])])
def test_receptive_field_of_stacked_convolutions(window, fields):
    # With 3x3 kernels the n-th layer sees 2n + 1 pixels; the homework's 5x5 kernels, 4n + 1.
    def stack(x, depth):
        for _ in range(depth):
            x = correlate(x, jnp.ones((window, window, 1, 1)))
        return x

    for depth, field in enumerate(fields, start=1):
        seen = receptive_field(lambda x, depth=depth: stack(x, depth), (1, 24, 24, 1))
        assert seen.outputs[0].size == (field, field)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_parameters_of_the_first_and_a_later_layer(window):
    # K1 (3 L^2 + 1) on colours, K3 (K2 L^2 + 1) later, with 8 and 16 kernels; without biases C_in C_out K_W K_H.
    assert parameter_count(3, 8, window) == 8 * (3 * window**2 + 1)
    assert parameter_count(8, 16, window) == 16 * (8 * window**2 + 1)
    assert parameter_count(8, 16, window, bias=False) == 8 * 16 * window * window


def test_weights_of_a_fully_connected_neuron():
    assert parameter_count(32 * 32 * 3, 1, (), bias=False) == 3072
    assert parameter_count(200 * 200 * 3, 1, (), bias=False) == 120_000


def test_weights_of_a_five_by_five_neuron_on_three_channels():
    # The lecture prints "5x5x75 weights"; they are 5 x 5 x 3 = 75, and one bias.
    assert parameter_count(3, 1, 5, bias=False) == 75
    assert parameter_count(3, 1, 5) == 76


def test_channels_are_summed_and_filters_are_counted():
    # The lecture's total output is o x n x c, with c the input's channels; there is no c in it: o x o x n.
    assert correlate(jnp.ones((1, 6, 6, 3)), jnp.ones((3, 3, 3, 2)), padding="VALID").shape == (1, 4, 4, 2)
    assert correlate(jnp.ones((1, 6, 6, 3)), jnp.ones((3, 3, 3, 2)), padding="VALID")[0, 0, 0].tolist() == [27, 27]


def test_one_by_one_convolution_mixes_channels():
    pixels = jnp.broadcast_to(jnp.asarray([10.0, 20.0, 30.0]), (1, 32, 32, 3))
    filters = jnp.asarray([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0.5, 0.25], [1, 1, -1]]).T.reshape(1, 1, 3, 5)
    mixed = correlate(pixels, filters)
    assert mixed.shape == (1, 32, 32, 5)
    np.testing.assert_array_equal(mixed[0, 31, 0], [10, 20, 30, 20, 0])
    assert parameter_count(3, 5, 1, bias=False) == 15


def test_first_layer_of_alexnet():
    assert output_size(227, 11, strides=4) == 55
    assert activation_count(55, 96) == 290_400
    assert parameter_count(3, 1, 11, bias=False) == 363
    # Unshared: the lecture multiplies by 363, 105,415,200, and leaves out the bias that it has just named.
    assert activation_count(55, 96) * parameter_count(3, 1, 11) == 105_705_600
    # Shared, one kernel and one bias per map: 34,848 + 96.
    assert parameter_count(3, 96, 11) == 34_944


def test_sizes_of_alexnet():
    size, sizes = 227, []
    for window, stride, padding in (
        (11, 4, 0),
        (3, 2, 0),
        (5, 1, 2),
        (3, 2, 0),
        (3, 1, 1),
        (3, 1, 1),
        (3, 1, 1),
        (3, 2, 0),
    ):
        size = output_size(size, window, strides=stride, padding=padding, misfit="error")
        sizes.append(size)
    assert sizes == [55, 27, 27, 13, 13, 13, 13, 6]


def test_lenet5_has_two_convolutions_or_three():
    # The lecture says five convolutional layers: C1 and C3, and C5, which sees all of what it is given; two pools.
    shapes = {layer.name: layer.shape[1:] for layer in summary(models.create("lenet5"), (1, 32, 32, 1)).cost.layers}
    assert [name for name in shapes if name.startswith("c")] == ["c1", "c3", "c5"]
    assert [name for name in shapes if name.startswith("s")] == ["s2", "s4"]
    assert shapes["c5"] == (1, 1, 120)


def test_the_small_network_on_32_by_32_colours():
    found = summary(Net((12, 0), (10,)), (1, 32, 32, 3))
    assert [layer.shape[1:] for layer in found.cost.layers] == [(32, 32, 12), (16, 16, 12), (10,)]
    # 12 (3 * 9 + 1), nothing, 16 * 16 * 12 * 10 + 10.
    assert [layer.params for layer in found.cost.layers] == [336, 0, 30_730]


def test_the_network_on_28_by_28_digits():
    found = summary(Net((32, 0, 64, 0), (128, 10)), (1, 28, 28, 1))
    shapes = [layer.shape[1:] for layer in found.cost.layers]
    assert shapes == [(28, 28, 32), (14, 14, 32), (14, 14, 64), (7, 7, 64), (128,), (10,)]
    # 7 * 7 * 64 = 3136 units are flattened: 3136 * 128 weights and 128 biases follow.
    assert activation_count(7, 64) == 3136
    assert [layer.params for layer in found.cost.layers] == [320, 0, 18_496, 0, 401_536, 1_290]


def test_vgg16():
    blocks = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    features = sum(((width,) * depth + (0,) for width, depth in blocks), ())
    found = summary(Net(features, (4096, 4096, 1000)), (1, 224, 224, 3))
    shapes = {layer.shape[1:] for layer in found.cost.layers}
    assert {(224, 224, 64), (112, 112, 128), (56, 56, 256), (28, 28, 512), (14, 14, 512), (7, 7, 512)} < shapes
    assert [layer.shape[1:] for layer in found.cost.layers][-3:] == [(4096,), (4096,), (1000,)]
    assert sum(layer.params > 0 for layer in found.cost.layers) == 16
    assert found.cost.params == 138_357_544


def test_memory_of_three_layers_of_64_maps():
    # The lecture rounds to 10 million activations and prints 72 MB; with gradients they are 77 MB, or 73.5 MiB.
    assert 3 * activation_count((224, 224), 64) == 9_633_792
    assert 2 * 3 * activation_bytes((224, 224), 64, dtype="float32") == 77_070_336 == 73.5 * 2**20


def test_inception_module():
    # Its branches keep 28x28 and are stacked: 64 + 128 + 32 + 32 = 256 maps.
    assert {output_size(28, window, padding="SAME") for window in (1, 3, 5)} == {28}
    branches = [jnp.zeros((1, 28, 28, width)) for width in (64, 128, 32, 32)]
    assert jnp.concatenate(branches, -1).shape == (1, 28, 28, 256)
    # "32 filters, 1x1x192"
    assert parameter_count(192, 32, 1, bias=False) == 6144


def test_unet_has_32_by_32_pixels_in_its_lowest_resolution():
    sizes = [572]
    for _ in range(4):
        twice = output_size(output_size(sizes[-1], 3), 3)
        sizes.append(output_size(twice, 2, strides=2, misfit="error"))
    assert sizes == [572, 284, 140, 68, 32]
    size = output_size(output_size(32, 3), 3)
    for _ in range(4):
        size = output_size(output_size(transposed_size(size, 2, strides=2), 3), 3)
    assert size == 388


def test_yolos_grid():
    # The first step that the lecture lists, "residual block", is this split into 7x7 cells of two boxes each.
    assert activation_count(7, 2) == 98
    # Twenty classes, and per box four coordinates and a confidence, probability x IoU.
    assert activation_count(7, 2 * 5 + 20) == 1470


@pytest.mark.parametrize(
    ("shift", "expected", "grade"),
    # Ten pixels square, moved: what is common over what both cover, and the lecture's word for it.
    [(0.5, 95 / 105, "excellent"), (1.0, 90 / 110, "good"), (2.0, 80 / 120, "poor"), (10.0, 0, "poor")],
)
def test_intersection_over_union(shift, expected, grade):
    true, proposed = jnp.asarray([0.0, 0.0, 10.0, 10.0]), jnp.asarray([shift, 0.0, 10.0 + shift, 10.0])
    overlap = iou(true, proposed).item()
    assert overlap == pytest.approx(expected, rel=1e-6)
    assert grade == ("excellent" if overlap > 0.9 else "good" if overlap > 0.7 else "poor")


def test_both_adjoints_of_a_convolution():
    # v times the derivative in x is v convolved, over every overlap, with W: cross-correlated with W flipped. In W,
    # which the lecture leaves blank, it is x cross-correlated with v; with v all ones, the sums over 4x4 of x.
    image, kernel = jnp.asarray(IMAGE, jnp.float32), jnp.asarray(FILTER_1, jnp.float32)
    _, adjoint = jax.vjp(slid, image, kernel)
    v = jnp.asarray([[1, 2, 0, -1], [0, 3, 1, 0], [2, 0, -2, 1], [0, 1, 0, 4]], jnp.float32)
    in_image, in_kernel = adjoint(v)
    np.testing.assert_array_equal(in_image, scipy.signal.convolve2d(v, kernel, "full"))
    np.testing.assert_array_equal(in_kernel, scipy.signal.correlate2d(image, v, "valid"))
    np.testing.assert_array_equal(adjoint(jnp.ones((4, 4)))[1], [[5, 5, 5], [5, 7, 5], [5, 7, 6]])
