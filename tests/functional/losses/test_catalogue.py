"""What holds for every loss: one value per example, masks, types, gradients, extreme logits, refused shapes."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional import losses
from cnnjax.functional.losses import edges, overlaps, pixels, sequences, vectors

EXAMPLES = 4
generator = np.random.default_rng(0)


def normal(*shape):
    return generator.normal(size=(EXAMPLES, *shape))


def integers(low, high, *shape):
    return generator.integers(low, high, size=(EXAMPLES, *shape))


def uniform(*shape):
    return generator.uniform(size=(EXAMPLES, *shape))


def boxes():
    low = uniform(2)
    return np.concatenate([low, low + 0.5 + uniform(2)], axis=-1)


SOFT = np.concatenate([uniform(1) / 2, uniform(1) / 2], axis=-1)
SOFT = np.concatenate([SOFT, 1 - SOFT.sum(-1, keepdims=True)], axis=-1)

# The loss, its outputs and its targets.
CASES = {
    "mean_squared_error": (losses.mean_squared_error, normal(3), normal(3)),
    "mean_absolute_error": (losses.mean_absolute_error, normal(3), normal(3)),
    "smooth_l1": (partial(losses.smooth_l1, beta=0.7), 2 * normal(3), normal(3)),
    "huber": (losses.huber, 2 * normal(3), normal(3)),
    "binary_cross_entropy": (losses.binary_cross_entropy, normal(3), uniform(3)),
    "sigmoid_focal": (partial(losses.sigmoid_focal, gamma=1.5, alpha=0.25), normal(3), uniform(3)),
    "softmax_cross_entropy": (losses.softmax_cross_entropy, normal(3), integers(0, 3)),
    "softmax_cross_entropy smooth": (partial(losses.softmax_cross_entropy, label_smoothing=0.1), normal(3), SOFT),
    "softmax_focal": (losses.softmax_focal, normal(3), integers(0, 3)),
    "softmax_focal soft": (partial(losses.softmax_focal, gamma=0.5), normal(3), SOFT),
    "multiclass_hinge": (losses.multiclass_hinge, normal(3), integers(0, 3)),
    "margin_ranking": (partial(losses.margin_ranking, margin=0.5), normal(2), 2 * integers(0, 2) - 1),
    "dice_loss": (losses.dice_loss, normal(5, 3), integers(0, 3, 5)),
    "dice_loss alone": (losses.dice_loss, normal(5, 1), uniform(5, 1)),
    "soft_jaccard_loss": (losses.soft_jaccard_loss, normal(5, 3), integers(0, 3, 5)),
    "pixel_cross_entropy": (losses.pixel_cross_entropy, normal(5, 3), integers(0, 3, 5)),
    "class_balanced_cross_entropy": (losses.class_balanced_cross_entropy, normal(5, 1), uniform(5, 1)),
    "diou_loss": (losses.diou_loss, boxes(), boxes()),
    "ciou_loss": (losses.ciou_loss, boxes(), boxes()),
    "iou_loss": (losses.iou_loss, boxes(), boxes()),
    "giou_loss": (losses.giou_loss, boxes(), boxes()),
    "ctc_loss": (losses.ctc_loss, normal(5, 3), integers(1, 3, 2)),
}
# Of masks: an example has positions, each with a flag.
OF_POSITIONS = ("dice_loss", "soft_jaccard_loss", "pixel_cross_entropy", "class_balanced_cross_entropy")
ON_LOGITS = [name for name in CASES if not name.endswith("iou_loss")]
every_loss = pytest.mark.parametrize("name", CASES)


def case(name, dtype=jnp.float32):
    loss, outputs, targets = CASES[name]
    kind = jnp.int32 if targets.dtype.kind == "i" else dtype
    return loss, jnp.asarray(outputs, dtype), jnp.asarray(targets, kind)


@partial(jax.jit, static_argnums=0)
def derivatives(loss, outputs, targets, direction):
    """Values, the gradient of their sum, and how it changes along the direction."""

    def gradient(outputs):
        values, pullback = jax.vjp(lambda outputs: loss(outputs, targets), outputs)
        return pullback(jnp.ones_like(values))[0], values

    first, second, values = jax.jvp(gradient, (outputs,), (direction,), has_aux=True)
    return values, first, second


def unchecked(loss):
    """The loss without typecheckers, which would speak first."""
    if isinstance(loss, partial):
        return partial(inspect.unwrap(loss.func), **loss.keywords)
    return inspect.unwrap(loss)


def test_every_loss_is_here_and_called_alike():
    for module in (vectors, overlaps, pixels, sequences, edges):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_") and name != "example_weights":
                assert name in CASES
                parameters = inspect.signature(function).parameters
                assert list(parameters)[:2] == ["outputs", "targets"]
                assert list(parameters)[-1] == "where"
                assert all(parameter.kind == parameter.KEYWORD_ONLY for parameter in list(parameters.values())[2:])


@every_loss
def test_one_value_per_example_each_from_its_own(name):
    loss, outputs, targets = case(name)
    together = jax.jit(loss)(outputs, targets)
    assert (together.shape, together.dtype) == ((EXAMPLES,), jnp.float32)
    alone = jax.jit(jax.vmap(loss))(outputs[:, None], targets[:, None])
    np.testing.assert_allclose(alone, together[:, None], rtol=1e-5, atol=1e-6)
    if not name.startswith(OF_POSITIONS):
        nested = jax.jit(loss)(*(leaf.reshape(2, 1, 2, *leaf.shape[1:]) for leaf in (outputs, targets)))
        np.testing.assert_allclose(nested, together.reshape(2, 1, 2), rtol=1e-5, atol=1e-6)


@every_loss
def test_the_masked_cost_nothing_and_teach_nothing(name):
    loss, outputs, targets = case(name)
    # A loss of positions masks all of an example's.
    where = jnp.asarray([True, False, True, False])
    rows = np.asarray(where)
    flags = jnp.broadcast_to(where[:, None], (EXAMPLES, 5)) if name.startswith(OF_POSITIONS) else where
    bad_targets = (-7, 99) if targets.dtype == jnp.int32 else (jnp.inf, jnp.nan)
    poisoned = (
        outputs.at[1].set(jnp.nan).at[3].set(jnp.inf),
        targets.at[1].set(bad_targets[0]).at[3].set(bad_targets[1]),
    )

    def value_and_gradients(outputs, targets, where):
        if targets.dtype == jnp.int32:
            values, pullback = jax.vjp(lambda outputs: loss(outputs, targets, where=where), outputs)
        else:
            values, pullback = jax.vjp(partial(loss, where=where), outputs, targets)
        return values, pullback(jnp.ones_like(values))

    values, gradients = jax.jit(value_and_gradients)(*poisoned, flags)
    clean_values, clean_gradients = jax.jit(partial(value_and_gradients, where=None))(outputs, targets)
    np.testing.assert_allclose(values[rows], clean_values[rows], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(values[~rows], np.zeros(2))
    for gradient, clean in zip(gradients, clean_gradients, strict=True):
        np.testing.assert_allclose(gradient[rows], clean[rows], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(gradient[~rows], np.zeros_like(clean[~rows]))


@every_loss
def test_half_precision_is_computed_in_float32(name):
    loss, outputs, targets = case(name)
    half = outputs.astype(jnp.bfloat16)
    found = jax.jit(loss)(half, targets)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, jax.jit(loss)(half.astype(jnp.float32), targets), rtol=1e-6, atol=1e-7)


@every_loss
def test_float64_stays_and_float32_stays_beside_it(name):
    loss, outputs, targets = case(name)
    single = np.asarray(jax.jit(loss)(outputs, targets))
    with jax.enable_x64(True):
        loss, outputs, targets = case(name, jnp.float64)
        double = jax.jit(loss)(outputs, targets)
        assert double.dtype == np.float64
        assert jax.jit(loss)(outputs.astype(jnp.float32), targets).dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


# No gradient goes through one of ciou_loss's factors, by its paper.
@pytest.mark.parametrize("name", [name for name in CASES if name != "ciou_loss"])
def test_gradients_are_finite_differences(name):
    step = 1e-5
    with jax.enable_x64(True):
        loss, outputs, targets = case(name, jnp.float64)
        direction = np.random.default_rng(1).normal(size=outputs.shape)
        (low, low_first, _), (_, first, second), (high, high_first, _) = jax.device_get(
            [derivatives(loss, outputs + offset * direction, targets, direction) for offset in (-step, 0.0, step)]
        )
    np.testing.assert_allclose(np.sum(first * direction), np.sum(high - low) / (2 * step), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(second, (high_first - low_first) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ON_LOGITS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_extreme_logits_are_finite_to_the_second_derivative(name, dtype):
    loss, outputs, targets = case(name)
    if targets.dtype != jnp.int32:
        surest = jax.nn.one_hot(jnp.argmax(targets, -1), targets.shape[-1])
        targets = surest if name.startswith("softmax") else jnp.round(targets)
    signs = np.random.default_rng(1).choice([-1, 0, 1], size=(8, *outputs.shape))
    signs[0], signs[1] = 1, -1
    for row in signs:
        logits = jnp.asarray(1e4 * row, dtype)
        for found in derivatives(loss, logits, targets, jnp.ones_like(logits)):
            assert np.isfinite(np.asarray(found, np.float32)).all()


@every_loss
def test_nothing_is_broadcast(name):
    loss, outputs, targets = case(name)
    function = unchecked(loss)
    for wrong in (targets[:1], targets[:, None], targets[0]):
        with pytest.raises(ValueError, match=r"targets: shape \(.*\) came, \(.*\) was expected"):
            function(outputs, wrong)
    for shape in ((1,), (EXAMPLES, 1), ()):
        with pytest.raises(ValueError, match=r"where: shape \(.*\) came, \(.*\) was expected: a flag per"):
            function(outputs, targets, where=jnp.ones(shape, bool))
    flags = jnp.ones(outputs.shape[:2] if name.startswith(OF_POSITIONS) else EXAMPLES)
    with pytest.raises(ValueError, match="where: float32 came, bool was expected"):
        function(outputs, targets, where=flags)


@every_loss
def test_other_outputs_are_refused(name):
    loss, outputs, targets = case(name)
    with pytest.raises(ValueError, match="outputs: int32 came, floating point was expected; convert it first"):
        unchecked(loss)(outputs.astype(jnp.int32), targets)
    with pytest.raises(ValueError, match=r"outputs: shape \(.*, 0\) came, \(.*\) was expected"):
        unchecked(loss)(outputs[..., :0], targets)
