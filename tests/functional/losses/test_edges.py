"""Class-balanced cross-entropy against the paper's equation, pixel by pixel."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional.losses import class_balanced_cross_entropy

generator = np.random.default_rng(0)
LOGITS = 2 * generator.standard_normal((3, 4, 5, 2))
EDGES = (generator.random((3, 4, 5, 2)) < 0.2).astype(np.float64)
COUNTED = generator.random((3, 4, 5)) < 0.7


def one_by_one(logits, edges, counted):
    """Equation 2, divided by the number of pixels, for every picture; the mean over kinds of edges."""
    result = []
    for picture in range(len(logits)):
        of_kinds = []
        for kind in range(logits.shape[-1]):
            pixels = [
                (logits[picture, i, j, kind], edges[picture, i, j, kind])
                for i, j in np.ndindex(*logits.shape[1:3])
                if counted[picture, i, j]
            ]
            beta = sum(1 for _, edge in pixels if not edge) / len(pixels)
            total = 0.0
            for logit, edge in pixels:
                probability = 1 / (1 + np.exp(-logit))
                total -= beta * np.log(probability) if edge else (1 - beta) * np.log(1 - probability)
            of_kinds.append(total / len(pixels))
        result.append(np.mean(of_kinds))
    return np.asarray(result)


@pytest.mark.parametrize("counted", [None, COUNTED], ids=["all pixels", "some"])
def test_every_pixel_by_hand(counted):
    expected = one_by_one(LOGITS, EDGES, np.ones_like(COUNTED) if counted is None else counted)
    with jax.enable_x64(True):
        found = jax.jit(class_balanced_cross_entropy)(LOGITS, EDGES, where=counted)
        assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    single = jax.jit(class_balanced_cross_entropy)(LOGITS.astype(jnp.bfloat16), EDGES.astype(bool), where=counted)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected, rtol=2e-2)


def test_edges_weigh_as_much_as_all_the_rest():
    """Where all logits are alike, the gradients of both kinds of pixels add up to zero."""
    edges = jnp.zeros((1, 8, 8, 1)).at[0, 3].set(1.0)
    gradient = jax.grad(lambda logits: class_balanced_cross_entropy(logits, edges).sum())(jnp.zeros(edges.shape))
    np.testing.assert_allclose(gradient[edges == 1].sum(), -gradient[edges == 0].sum(), rtol=1e-6)


def test_the_masked_cost_nothing_and_teach_nothing():
    logits = np.where(COUNTED[..., None], LOGITS, np.nan).astype(np.float32)
    edges = np.where(COUNTED[..., None], EDGES, 7).astype(np.float32)

    def total(logits):
        return class_balanced_cross_entropy(logits, jnp.asarray(edges), where=jnp.asarray(COUNTED)).sum()

    value, gradient = jax.value_and_grad(total)(jnp.asarray(logits))
    np.testing.assert_allclose(value, one_by_one(LOGITS, EDGES, COUNTED).sum(), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(gradient)[~COUNTED], 0)
    assert np.isfinite(gradient).all()
    assert np.any(np.asarray(gradient)[COUNTED] != 0)
    nothing = jax.jit(class_balanced_cross_entropy)(logits, edges, where=np.zeros_like(COUNTED))
    np.testing.assert_array_equal(nothing, np.zeros(3))


@pytest.mark.parametrize("edges", [0.0, 1.0])
def test_pictures_of_one_kind_of_pixels_cost_nothing(edges):
    logits = jnp.asarray(LOGITS, jnp.float32).at[0, 0, 0].set(jnp.inf).at[0, 1, 1].set(-jnp.inf)
    value, gradient = jax.value_and_grad(
        lambda logits: class_balanced_cross_entropy(logits, jnp.full(logits.shape, edges)).sum()
    )(logits)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(LOGITS.shape))


def test_infinite_logits_are_limits():
    edges = jnp.asarray([[1.0, 0.0, 0.0]])[..., None]
    right = jnp.asarray([[jnp.inf, -jnp.inf, 0.0]])[..., None]
    value, gradient = jax.value_and_grad(lambda logits: class_balanced_cross_entropy(logits, edges).sum())(right)
    np.testing.assert_allclose(value, np.log(2) / 9, rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert class_balanced_cross_entropy(-right, edges).item() == np.inf


def test_what_is_no_share_of_an_edge_stops_a_run():
    assert np.isnan(class_balanced_cross_entropy(jnp.zeros((1, 2, 1)), jnp.asarray([[[1.0], [3.0]]])).item())


@pytest.mark.parametrize(
    ("outputs", "targets", "where", "message"),
    [
        (np.zeros((2, 3, 1), int), np.zeros((2, 3, 1)), None, "outputs: int64 came, floating point was expected"),
        (np.zeros(3), np.zeros(3), None, r"outputs: shape \(3,\) came, \(batch, \*positions, classes\)"),
        (np.zeros((2, 3, 1)), np.zeros((2, 3)), None, r"targets: shape \(2, 3\) came, \(2, 3, 1\) was expected"),
        (np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), np.ones(2, bool), "where: shape .* a flag per position"),
    ],
)
def test_wrong_shapes_are_refused(outputs, targets, where, message):
    flags = None if where is None else jnp.asarray(where)
    with jax.enable_x64(True), pytest.raises(ValueError, match=message):
        inspect.unwrap(class_balanced_cross_entropy)(jnp.asarray(outputs), jnp.asarray(targets), where=flags)
