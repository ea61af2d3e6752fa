"""Logits, losses and gradients equal to those of torchvision's and timm's models on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.functional.losses import softmax_cross_entropy
from cnnjax.models.weights import from_torch, to_torch
from tests.models.quick import run_unoptimised
from tests.models.torch_goldens import (
    FILE,
    LOGITS,
    TRAIN_LABELS,
    TRAIN_SIZE,
    TRAINED,
    draw_pictures,
    draw_weights,
    picture_side,
)

GOLDENS = np.load(FILE)
UNROLLED = ("resnet18", "resnet34")


def create(name, **options):
    """The model, its equal blocks scanned where it can, which also shows that stacked weights end in the right places.

    Those of 18 and 34 layers are left as they come.
    """
    registered = name.removesuffix("_bn") if name.startswith("vgg") else name
    scan = {"scan": True} if "scan" in models.options_of(registered) and name not in UNROLLED else {}
    return models.create(registered, **LOGITS[name][0], **scan, **options)


def drawn_variables(model):
    image = jax.ShapeDtypeStruct((1, *models.registry.designed_for(model)), jnp.float32)
    empty = jax.tree.map(
        lambda leaf: np.empty(leaf.shape, np.float32), jax.eval_shape(model.init, jax.random.key(0), image)
    )
    shapes = {name: array.shape for name, array in to_torch(model, empty).items()}
    # Gates are 1x1 convolutions there.
    gates = {name: (*shape, 1, 1) for name, shape in shapes.items() if ".se" in name and len(shape) == 2}
    return from_torch(model, draw_weights(shapes | gates))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", LOGITS)
def test_logits(name):
    model = create(name)
    variables = drawn_variables(model)
    images = jnp.asarray(draw_pictures(1, picture_side(name)))
    logits = run_unoptimised(model.apply, variables, images)[0]
    expected = GOLDENS[f"{name}/logits"]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients_in_training(name):
    """In double precision, where rounding hides nothing."""
    dropout = {"dropout": 0.0, "auxiliary_dropout": 0.0} if name == "googlenet_bn" else {}
    model = create(name, **dropout)
    with jax.enable_x64(True):
        variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), drawn_variables(model))
        images = jnp.asarray(draw_pictures(len(TRAIN_LABELS), TRAIN_SIZE), jnp.float64)
        labels = jnp.asarray(TRAIN_LABELS, jnp.int32)

        def loss_of(params, variables, images):
            output, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            if not isinstance(output, models.AuxiliaryLogits):
                return jnp.mean(softmax_cross_entropy(output, labels))
            losses = [jnp.mean(softmax_cross_entropy(logits, labels)) for logits in (output.logits, *output.auxiliary)]
            return losses[0] + 0.3 * (losses[1] + losses[2])

        step = jax.value_and_grad(loss_of)
        loss, gradients = run_unoptimised(step, variables["params"], variables, images)
        found = to_torch(model, {**variables, "params": gradients})
    np.testing.assert_allclose(loss, GOLDENS[f"{name}/loss"], rtol=1e-9)
    prefix = f"{name}/gradient/"
    expected = {key.removeprefix(prefix): GOLDENS[key] for key in GOLDENS if key.startswith(prefix)}
    assert set(expected) == {key for key in found if not key.endswith(("running_mean", "running_var"))}
    for key, norm in expected.items():
        np.testing.assert_allclose(np.linalg.norm(found[key]), norm, rtol=1e-7, err_msg=key)
