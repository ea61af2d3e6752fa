"""Invariance and equivariance where they are exact: circular convolution, strides, pooling, symmetric kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis import changes, equivariance_error, invariance
from cnnjax.functional import correlate, max_pool

KEY = jax.random.key(0)
IMAGES = jax.random.uniform(jax.random.key(1), (3, 16, 16, 2))
KERNEL = jax.random.normal(jax.random.key(2), (3, 3, 2, 4))


def circular(x, strides=1):
    return correlate(x, KERNEL, strides=strides, padding=((1, 1), (1, 1)), padding_mode="circular")


def error(function, change, severity, images=IMAGES):
    return equivariance_error(KEY, function, images, change, severity)


@pytest.mark.parametrize("pixels", [1.0, 3.0, 7.0])
def test_a_circular_convolution_moves_along(pixels):
    assert error(circular, changes.circular_shift(pixels), pixels) < 1e-6
    assert error(lambda x: jnp.tanh(circular(x)), changes.circular_shift(pixels), pixels) < 1e-6


def test_a_stride_of_two_moves_along_with_even_shifts_only():
    found = [error(lambda x: circular(x, 2), changes.circular_shift(pixels), pixels) for pixels in (1.0, 2.0, 3.0, 4.0)]
    assert max(found[1], found[3]) < 1e-6
    assert min(found[0], found[2]) > 0.1


def test_global_pooling_is_invariant():
    assert error(lambda x: circular(x).mean((1, 2)), changes.circular_shift(5.0), 5.0) < 1e-6
    assert error(lambda x: circular(x).max((1, 2)), changes.circular_shift(5.0), 5.0) == 0


def test_padding_breaks_what_moves_in_from_the_border():
    # VALID: what is moved in from inside the maps is exact.
    assert error(lambda x: correlate(x, KERNEL, padding="VALID"), changes.shift(2.0), 2.0) < 1e-5
    assert error(lambda x: correlate(x, KERNEL, padding="SAME"), changes.shift(2.0), 2.0) > 1e-3


def test_maps_are_moved_about_the_centres_of_their_fields():
    # A window of two at stride two has its centres half a pixel off: the error is that of rounding alone.
    def halve(x):
        return correlate(x, jnp.ones((2, 2, 2, 1)), strides=2, padding="VALID")

    assert error(halve, changes.shift(4.0), 4.0) < 1e-5
    assert error(halve, changes.mirror(), 1.0) < 1e-5
    assert error(halve, changes.rotation(90.0), 90.0) < 1e-5


def test_mirrors_and_symmetric_kernels():
    symmetric = KERNEL + KERNEL[:, ::-1]
    assert error(lambda x: correlate(x, symmetric), changes.mirror(), 1.0) < 1e-6
    assert error(lambda x: correlate(x, KERNEL), changes.mirror(), 1.0) > 0.1


def test_smooth_pictures_come_back_from_any_turn():
    smooth = jax.image.resize(IMAGES[:, :6, :6], (3, 64, 64, 2), "cubic")
    for change, severity in (
        (changes.rotation(33.0), 33.0),
        (changes.scale(1.3), 1.3),
        (changes.viewpoint(30.0), 30.0),
    ):
        assert error(lambda x: x, change, severity, smooth) < 0.03


def classify(x):
    with jax.named_scope("maps"):
        x = max_pool(jax.nn.relu(correlate(x, KERNEL)), 2)
    with jax.named_scope("logits"):
        return x.mean((1, 2))


def test_every_transform_and_severity_has_a_record():
    tried = (changes.shift(1.0, 2.0), changes.noise(0.0, 0.3), changes.mirror())
    labels = np.asarray(classify(IMAGES).argmax(-1))
    found = invariance(KEY, classify, IMAGES, labels=labels, changes=tried, layers="maps")
    assert [(response.change, response.severity) for response in found.responses] == [
        *(("shift", 1.0), ("shift", 2.0), ("noise", 0.0), ("noise", 0.3), ("reflection", 1.0)),
    ]
    assert found.accuracy == 1
    nothing = found.responses[2]
    assert (nothing.output_change, nothing.agreement, nothing.accuracy) == (0, 1, 1)
    assert nothing.equivariance_errors is None
    # The maps have a stride of two: a shift by two pixels is exact but for the border.
    shifted = [response.equivariance_errors["maps"] for response in found.responses[:2]]
    assert shifted[1] < shifted[0]
    row = found.rows()[0]
    assert list(row) == [*("change", "severity", "unit", "output_change", "agreement", "accuracy"), "maps_error"]
    assert found.draw().axes[0].get_title("left") == "shift / pixels"
    assert len(found.draw_equivariance().axes) == 2


def test_output_change_is_relative():
    def function(x):
        return x.reshape(len(x), -1)

    (response,) = invariance(KEY, function, IMAGES, changes=[changes.illumination(0.5)]).responses
    assert response.output_change == pytest.approx(0.5)
    assert response.accuracy is None


def test_bad_input():
    with pytest.raises(ValueError, match=r"images have the shape \(16, 16, 2\)"):
        invariance(KEY, classify, IMAGES[0])
    with pytest.raises(ValueError, match=r"labels \(2,\)"):
        invariance(KEY, classify, IMAGES, labels=[0, 1])
    with pytest.raises(ValueError, match=r"labels \(3, 1\)"):
        invariance(KEY, classify, IMAGES, labels=np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="labels are int64 from 0 to 9; expected integers from 0 to 3"):
        invariance(KEY, classify, IMAGES, labels=np.array([0, 9, 1]))
    with pytest.raises(ValueError, match=r"values from .* expected 0 to 1"):
        invariance(KEY, classify, 255 * IMAGES)
    with pytest.raises(ValueError, match="expected maps"):
        error(lambda x: jnp.moveaxis(x, -1, 1), changes.mirror(), 1.0)
    with pytest.raises(ValueError, match="does not depend on its input"):
        error(lambda x: jnp.ones((1, 2, 2, 1)), changes.mirror(), 1.0)
    with pytest.raises(ValueError, match=r"output \(3, 16, 16, 2\)"):
        invariance(KEY, lambda x: x * 2, IMAGES)
    with pytest.raises(ValueError, match=r"logits has the shape \(3, 4\); expected maps"):
        invariance(KEY, classify, IMAGES, layers=("logits",))
    with pytest.raises(ValueError, match="no layer matches 'map'; there are maps"):
        invariance(KEY, classify, IMAGES, layers=("map",))
    with pytest.raises(ValueError, match="output: 12 of 12 numbers are NaN"):
        invariance(KEY, classify, IMAGES * jnp.nan)
    with pytest.raises(ValueError, match="images are int32"):
        invariance(KEY, classify, np.ones((2, 16, 16, 2), np.int32))
    with pytest.raises(ValueError, match="noise moves no points"):
        error(classify, changes.noise(0.1), 0.1)
    with pytest.raises(ValueError, match="no layers were compared"):
        invariance(KEY, classify, IMAGES, changes=[changes.mirror()]).draw_equivariance()
