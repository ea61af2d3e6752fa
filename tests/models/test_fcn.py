"""FCN: logits, loss and gradients are torchvision's; stages, errors, and a backbone of another depth."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis.counting import multiply_accumulates
from cnnjax.analysis.receptive_field import fields_of
from cnnjax.analysis.tracing import trace
from cnnjax.functional.losses import softmax_cross_entropy
from cnnjax.models.weights import from_torch, head_names, to_torch
from tests.models import torch_dense_goldens as goldens
from tests.models.quick import run_unoptimised
from tests.models.torch_goldens import draw_weights

GOLDENS = np.load(goldens.FILE)
SHAPE = (1, goldens.HEIGHT, goldens.WIDTH, 3)


def filled(model: models.Model) -> Any:
    """Weights that PyTorch drew too, in double precision."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    names = to_torch(model, jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes), shape=SHAPE)
    variables = from_torch(model, draw_weights({name: array.shape for name, array in names.items()}), shape=SHAPE)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), variables)


@pytest.mark.usefixtures("unchecked_types")
def test_logits_are_torchvisions():
    model = models.create("fcn_resnet50", num_classes=goldens.CLASSES, scan=True)
    with jax.enable_x64(True):
        logits = run_unoptimised(model.apply, filled(model), jnp.asarray(goldens.pictures()[:1]))[0]
    expected = GOLDENS["logits"]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("unchecked_types")
def test_loss_and_gradients_are_torchvisions():
    model = models.create("fcn_resnet50", num_classes=goldens.CLASSES, dropout=0.0, scan=True)
    with jax.enable_x64(True):
        variables = filled(model)
        labels = jnp.asarray(goldens.labels(), jnp.int32)

        def loss_of(params, variables, images):
            output, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            assert output.weight == 0.5
            (auxiliary,) = output.auxiliary
            main, other = (jnp.mean(softmax_cross_entropy(logits, labels)) for logits in (output.logits, auxiliary))
            return main + 0.5 * other

        step = jax.value_and_grad(loss_of)
        loss, gradients = run_unoptimised(step, variables["params"], variables, jnp.asarray(goldens.pictures()))
        found = to_torch(model, {**variables, "params": gradients}, shape=SHAPE)
    np.testing.assert_allclose(loss, GOLDENS["loss"], rtol=1e-9)
    expected = {key.removeprefix("gradient/"): GOLDENS[key] for key in GOLDENS if key.startswith("gradient/")}
    assert set(expected) == {key for key in found if not key.endswith(("running_mean", "running_var"))}
    for key, norm in expected.items():
        np.testing.assert_allclose(np.linalg.norm(found[key]), norm, rtol=1e-7, err_msg=key)


@pytest.mark.usefixtures("unchecked_types")
def test_products_are_torchvisions_less_the_auxiliary_head_and_more_for_resizing():
    """Theirs, 152.717 billion at 520x520, count the auxiliary head's, and none of resizing."""
    program = trace(models.create("fcn_resnet50", scan=True), (1, 520, 520, 3))
    auxiliary = 65 * 65 * (9 * 1024 * 256 + 256 * 21)
    resizing = 21 * 65 * 520 * (65 + 520)
    assert f"{(sum(multiply_accumulates(program)) + auxiliary - resizing) / 1e9:.3f}" == "152.717"


@pytest.mark.usefixtures("unchecked_types")
def test_a_dilated_trunk_sees_what_a_strided_one_sees():
    """Published: 267 and 427 pixels after stages 3 and 4 of ResNet-50, 211 and 435 of ResNet-18."""
    for name, stride, sizes in (("resnet50", 8, (267, 427)), ("resnet18", 4, (211, 435))):
        fields = fields_of(trace(models.create(name, output_stride=stride, scan=True), (1, 64, 64, 3)))
        assert [fields[stage].size for stage in ("stage3", "stage4")] == [(size, size) for size in sizes]
        assert [fields[stage].stride for stage in ("stage3", "stage4")] == [(stride, stride)] * 2


def test_features_are_an_eighth_and_weights_of_the_trunk_load():
    model = models.create("fcn_resnet50", num_classes=None, backbone="resnet18")
    features, variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 48, 3), jnp.float32)
    )
    assert features.shape == (1, 8, 6, 128)
    assert set(variables["params"]) == {"backbone", "head"}


def test_heads_are_what_depends_on_the_classes():
    model = models.create("fcn_resnet50", scan=True)
    layers = ("classifier.4", "aux_classifier.4")
    assert head_names(model) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def test_what_cannot_be():
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    for options, message in (
        ({"backbone": "vgg11"}, r"backbone='vgg11'; expected a ResNet for ImageNet, such as 'resnet50'"),
        ({"output_stride": 12}, r"output_stride=12; expected 4, 8, 16 or 32"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(models.create("fcn_resnet50", **options).init, jax.random.key(0), images)
    model = models.create("fcn_resnet50")
    with pytest.raises(
        ValueError, match=r"FCN has no stage 'stage3'; expected some of backbone/stage1, backbone/stage2"
    ):
        jax.eval_shape(lambda images: model.apply({"params": {}}, images, stages=("stage3",)), images)
