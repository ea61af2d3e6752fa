"""Correlations of every kind, and their products as sums over taps in float64 NumPy."""

import pytest

from cnnjax.functional.correlation import Correlation
from tests.functional import correlation_oracle as oracle

OPTIONS = ("strides", "padding", "input_dilation", "dilation", "groups")


def form_of(sizes, window, strides=1, padding=(0, 0), input_dilation=1, dilation=1, groups=1):
    rank = len(sizes)
    steps = ((step,) * rank for step in (strides, input_dilation, dilation))
    strides, input_dilation, dilation = steps
    return Correlation(sizes, window, strides, (padding,) * rank, input_dilation, dilation, groups)


def shapes(form, channels, outputs, batch):
    return (
        (batch, *form.sizes, channels),
        (*form.window, channels // form.groups, outputs),
        (batch, *form.positions, outputs),
    )


def products(rule, images, kernel, output, *, form):
    return (
        rule(images, kernel, result="output", form=form),
        rule(kernel, output, result="images", form=form),
        rule(images, output, result="kernel", form=form),
    )


def expected_products(images, kernel, output, form):
    options = {name: getattr(form, name) for name in OPTIONS}
    return (
        oracle.correlate(images, kernel, **options),
        oracle.input_adjoint(kernel, output, form.sizes, **options),
        oracle.kernel_adjoint(images, output, form.window, **options),
    )


# Each with its channels, outputs and examples.
FORMS = {
    "pixel": (form_of((5, 4), (1, 1)), 3, 5, 2),
    "pixel_strided": (form_of((6, 5), (1, 1), 2), 3, 5, 2),
    "pixel_padded": (form_of((3, 4), (1, 1), 2, (2, 1)), 3, 5, 2),
    "pixel_grouped": (form_of((3, 4), (1, 1), groups=2), 4, 6, 2),
    "depthwise": (form_of((6, 5), (3, 3), 1, (1, 1), groups=4), 4, 4, 2),
    "depthwise_strided": (form_of((7, 6), (3, 2), 2, (1, 0), groups=3), 3, 6, 2),
    "depthwise_dilated": (form_of((7,), (3,), 1, (2, 2), dilation=2, groups=3), 3, 6, 2),
    "depthwise_input_dilated": (form_of((4, 3), (2, 3), 1, (1, 2), 2, groups=3), 3, 3, 2),
    "depthwise_cropped": (form_of((8, 8), (3, 3), 3, (1, -1), groups=2), 2, 2, 2),
    "grouped": (form_of((5, 6), (3, 2), 1, (1, 1), groups=2), 4, 6, 2),
    "grouped_strided": (form_of((7, 7), (3, 3), 2, (1, 1), groups=2), 4, 2, 2),
    "many_groups": (form_of((5,), (3,), 2, (1, 1), groups=40), 80, 40, 2),
    "many_groups_input_dilated": (form_of((4,), (3,), 1, (1, 1), 2, groups=40), 40, 80, 2),
    "one_channel": (form_of((6, 6), (3, 3), 2, (1, 1)), 1, 4, 2),
    "one_output": (form_of((6, 6), (3, 3), 1, (1, 1)), 4, 1, 2),
    "few_channels": (form_of((6, 6), (3, 3), 1, (1, 1)), 3, 32, 2),
    "few_channels_strided": (form_of((9, 9), (3, 3), 2, (1, 1), dilation=2), 3, 32, 2),
    "more_channels": (form_of((6, 6), (3, 3), 1, (1, 1)), 12, 10, 2),
    "more_channels_strided": (form_of((8, 8), (3, 3), 2, (0, 1)), 12, 10, 2),
    "many_channels": (form_of((9, 9), (3, 3), 1, (1, 1)), 64, 64, 1),
    "more_channels_than_positions": (form_of((3, 3), (3, 3), 1, (1, 1)), 64, 64, 1),
    "more_channels_than_positions_strided": (form_of((5, 5), (3, 3), 2, (1, 1)), 64, 64, 1),
    "deep": (form_of((4, 3), (3, 3), 1, (1, 1)), 128, 130, 1),
    "deep_strided": (form_of((5, 5), (3, 3), 2, (1, 1)), 130, 128, 1),
    "window_of_the_picture": (form_of((4, 4), (4, 4)), 6, 10, 3),
    "line": (form_of((9,), (4,), 1, (0, 3)), 5, 6, 2),
    "volume": (form_of((4, 3, 5), (2, 3, 2), 2, (1, 1)), 3, 4, 2),
    "input_dilated": (form_of((4, 5), (3, 2), 1, (2, 1), 2), 3, 4, 2),
    "input_dilated_strided": (form_of((4, 5), (3, 2), 3, (2, 1), 2, 2), 3, 4, 2),
    "input_dilated_cropped": (form_of((6, 6), (1, 2), 4, (0, -2), 2), 3, 4, 2),
    "input_dilated_rest": (form_of((6,), (1,), 4, (3, 1), 3), 2, 3, 2),
    "cropped": (form_of((8, 8), (3, 3), 3, (0, -2)), 3, 4, 2),
    "cropped_grouped": (form_of((8,), (3,), 4, (1, -2), groups=2), 4, 4, 2),
    "cropped_away": (form_of((1,), (2,), 5, (3, -2)), 9, 10, 2),
    "cropped_away_input_dilated": (form_of((2,), (1,), 8, (2, -4), 2), 3, 4, 2),
    "rest_unread": (form_of((8, 7), (3, 2), 3), 9, 10, 2),
    "padded_beyond_the_window": (form_of((3, 2), (1, 2), 1, (4, 3)), 9, 10, 2),
}
every_form = pytest.mark.parametrize(("form", "channels", "outputs", "batch"), FORMS.values(), ids=FORMS.keys())
