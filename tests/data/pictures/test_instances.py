"""Connected parts and U-Net's weights against plain loops over pixels."""

import math

import jaxtyping
import numpy as np
import pytest

from cnnjax.data.pictures.instances import connected_components, separation_weights

generator = np.random.default_rng(0)


def filled(mask, neighbours):
    """Parts by flooding, in the order of their first pixels."""
    labels, count = np.zeros(mask.shape, int), 0
    for start in np.argwhere(mask):
        if labels[tuple(start)]:
            continue
        count += 1
        waiting = [tuple(start)]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not labels[y, x]:
                labels[y, x] = count
                waiting += [(y + down, x + along) for down, along in neighbours]
    return labels


def weighed(labels, w0, sigma, background, inside):
    """Equation 2, by the distances of every pixel to every pixel of every object."""
    weights = np.zeros(labels.shape)
    for y, x in np.ndindex(labels.shape):
        if labels[y, x]:
            weights[y, x] = inside
            continue
        distances = []
        for number in set(labels[labels > 0].tolist()):
            distances.append(min(math.dist((y, x), place) for place in np.argwhere(labels == number)))
        first, second = sorted([*distances, math.inf, math.inf])[:2]
        weights[y, x] = background + w0 * math.exp(-((first + second) ** 2) / (2 * sigma**2))
    return weights


def test_parts_are_those_of_flooding():
    mask = generator.uniform(size=(20, 30)) < 0.45
    sides = [(0, 1), (1, 0), (0, -1), (-1, 0)]
    np.testing.assert_array_equal(connected_components(mask, connectivity=4), filled(mask, sides))
    corners = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    found = connected_components(mask)
    np.testing.assert_array_equal(found, filled(mask, corners))
    assert found.dtype == np.int32
    assert not connected_components(np.zeros((3, 4), bool)).any()


# Far objects; numbers with gaps; an object in two parts; one that surrounds another; no background with number 0 first.
LABELS = np.zeros((16, 70), np.int32)
LABELS[2:7, 3:8], LABELS[5:12, 10:14], LABELS[13:, 1:9] = 7, 2, 90
LABELS[1:3, 12:15], LABELS[4:13, 40:50], LABELS[6:10, 43:47], LABELS[7, 45] = 2, 5, 0, 9
LABELS[3, 68] = 11


@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (3.0, 1.0)])
def test_weights_are_those_of_every_distance(w0, sigma):
    found = separation_weights(LABELS, w0=w0, sigma=sigma, class_balance=(0.7, 2.0))
    np.testing.assert_allclose(found, weighed(LABELS, w0, sigma, 0.7, 2.0), atol=1e-6)
    assert found.dtype == np.float32


def test_classes_weigh_the_same_by_their_frequencies():
    weights = separation_weights(LABELS, w0=0.0)
    objects = LABELS > 0
    np.testing.assert_allclose(weights[objects].sum(), weights[~objects].sum(), rtol=1e-5)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("labels", [np.zeros((4, 5), int), np.ones((4, 5), int), np.zeros((0, 5), int)])
def test_one_class_weighs_one(labels):
    np.testing.assert_array_equal(separation_weights(labels), np.ones(labels.shape))


def test_one_object_has_no_gaps():
    labels = np.asarray([[0, 3, 0, 0]])
    np.testing.assert_allclose(separation_weights(labels), [[2 / 3, 2, 2 / 3, 2 / 3]], rtol=1e-6)


def test_a_hundred_objects_on_a_large_picture_are_the_same_as_without_the_crops():
    """Against distance transforms of the whole picture, object by object."""
    import scipy.ndimage

    labels = np.zeros((128, 128), np.uint16)
    for number, (y, x) in enumerate(generator.integers(4, 120, (60, 2)), 1):
        labels[y : y + 5, x : x + 6] = number
    whole = np.sort([scipy.ndimage.distance_transform_edt(labels != n) for n in np.unique(labels)[1:]], 0)
    expected = np.where(labels > 0, 1.0, 1.0 + 10 * np.exp(-((whole[0] + whole[1]) ** 2) / 50))
    np.testing.assert_allclose(separation_weights(labels, class_balance=(1.0, 1.0)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connected_components(np.zeros((2, 2), int)), "mask is int64"),
        (lambda: connected_components(np.zeros((2, 2), bool), connectivity=6), "connectivity=6"),
        (lambda: separation_weights(np.zeros((2, 2), bool)), "labels are bool.*connected_components"),
        (lambda: separation_weights(np.full((2, 2), -1)), "whole numbers from 0"),
        (lambda: separation_weights(np.zeros((2, 2), int), w0=-1.0), "w0=-1.0"),
        (lambda: separation_weights(np.zeros((2, 2), int), sigma=0.0), "sigma=0.0"),
        (lambda: separation_weights(np.zeros((2, 2), int), class_balance=(1.0, -1.0)), "class_balance="),
    ],
)
def test_what_is_no_map(monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call()
