"""Every registered model: counts as published, names, stages, shapes, types, gradients, training against inference."""

import math
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis.counting import multiply_accumulates
from cnnjax.analysis.receptive_field import fields_of
from cnnjax.analysis.tracing import trace
from experiments.cost_table import PUBLISHED
from tests.models.quick import drawn, run_unoptimised

WITHOUT_AUXILIARY = {
    "googlenet": 6_998_552,
    "googlenet_bn": 6_624_904,
    "inception_v3": 23_834_568,
    "fcn_resnet50": 32_957_013,
}
BATCH_NORM = {"vgg11": 132_868_840, "vgg13": 133_053_736, "vgg16": 138_365_992, "vgg19": 143_678_248}

# Neither normalises nor drops by default.
SAME_IN_TRAINING = ("lenet5", "lenet5_1998", "convnet", "hed", "yolov1_classifier")

# As others here but for the number of equal blocks: their gradients would be those of the same layers once more.
DEEPER = (
    *("vgg13", "vgg16", "vgg19", "resnet34", "resnet101", "resnet152", "se_resnet34", "se_resnet101", "se_resnet152"),
    *("se_resnet18", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202", "preact_resnet1001"),
)
# Each of their gradients is compared with PyTorch's in test_torch_parity.
COMPARED = ("resnet18", "googlenet_bn")

# Equal layers, of which a few stand for all.
SHALLOWER = {
    "densenet121": {"depths": (2, 2, 2, 2)},
    "resnet50": {"depths": (2, 1, 1, 1)},
    "se_resnet50": {"depths": (2, 1, 1, 1)},
    "preact_resnet164": {"depth": 2, "scan": False},
    "unet": {"width": 4},
}

# Sides of the smallest pictures that some take, for what is really computed.
SIDES = {
    "alexnet": 67,
    "alexnet_owt": 63,
    "zfnet": 63,
    "googlenet": 79,
    "inception_v3": 299,
    "convnet": 28,
    "hed": 16,
    "unet": 188,
}

# By how many rows and columns logits for pixels are fewer than the picture's, where convolutions are not padded.
CROPPED = {"unet": 184}


# Those of detectors are no logits of the picture or of its pixels: see test_detectors.
LABELLERS = [name for name in models.names() if models.logits_of(name) in ("picture", "pixels")]


def key():
    return jax.random.key(0)


def pictures(name, batch=1, side=None):
    height, _, channels = models.image_shape(name)
    side = side or height
    return jax.ShapeDtypeStruct((batch, side, side, channels), jnp.float32)


def shape_of_logits(name, batch, classes, side=None):
    if models.logits_of(name) == "picture":
        return batch, classes
    rows = (side or models.image_shape(name)[0]) - CROPPED.get(name, 0)
    return batch, rows, rows, classes


def count(variables):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def scanned(name, /, **options):
    """The model, its equal blocks scanned where it can: of the same parameters and sooner traced."""
    scan = {"scan": True} if "scan" in models.options_of(name) else {}
    return models.create(name, **scan, **options)


def shapes(name, /, **options):
    return jax.eval_shape(scanned(name, **options).init, key(), pictures(name))


def test_all_models_have_expectations():
    assert set(PUBLISHED) == set(models.names())


@pytest.mark.parametrize("name", WITHOUT_AUXILIARY)
def test_parameters_without_auxiliary_heads(name):
    assert count(shapes(name, auxiliary=False)) == WITHOUT_AUXILIARY[name]


@pytest.mark.parametrize("name", BATCH_NORM)
def test_parameters_with_batch_norm(name):
    assert count(shapes(name, batch_norm=True)) == BATCH_NORM[name]


def test_thousand_layers_hold_the_published_ten_million_in_kernels():
    flat = jax.tree_util.tree_leaves_with_path(shapes("preact_resnet1001")["params"])
    kernels = [leaf for path, leaf in flat if path[-1].key == "kernel" or "output" in jax.tree_util.keystr(path)]
    assert sum(math.prod(leaf.shape) for leaf in kernels) == 10_178_490


@pytest.mark.parametrize("name", LABELLERS)
def test_counts_outputs_names_and_stages(name):
    model = scanned(name)
    seen = {}

    def record(call, arguments, options, context):
        output = call(*arguments, **options)
        if context.method_name == "__call__" and context.module.path:
            seen["/".join(context.module.path)] = getattr(output, "shape", None)
        return output

    with nn.intercept_methods(record):
        output, variables = jax.eval_shape(partial(model.init_with_output, train=False), key(), pictures(name))
    assert count(variables) == PUBLISHED[name][0]
    assert output.shape == shape_of_logits(name, 1, model.num_classes)
    automatic = [path for path in seen if re.search(r"(^|/)[A-Z]\w*_\d+", path)]
    assert not automatic, "modules without an explicit name"
    asked = [stage.name for stage in model.stages]
    maps = jax.eval_shape(partial(model.apply, stages=asked), variables, pictures(name))
    assert {stage: array.shape for stage, array in maps.items()} == {stage: seen[stage] for stage in asked}
    assert [maps[stage.name].shape[-1] for stage in model.stages] == [stage.channels for stage in model.stages]


@pytest.mark.parametrize("name", models.names())
def test_a_backbone_ends_with_the_last_stage_that_is_asked_for(name):
    """As a part of another module: what comes later has no variables, and is not traced."""

    class Trunk(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            return scanned(name, name="net")(images, train=train, stages=(model.stages[0].name,))

    model = scanned(name)
    maps, variables = jax.eval_shape(partial(Trunk().init_with_output, train=True), key(), pictures(name))
    assert list(maps) == [model.stages[0].name]
    held, whole = set(variables["params"]["net"]), set(shapes(name)["params"])
    assert held < whole
    assert not held & {stage.name for stage in model.stages[1:]}


@pytest.mark.parametrize("name", LABELLERS)
def test_options(name):
    """Half precision, features, few classes and pictures of another size, in shapes and types alone."""
    larger = pictures(name, 2, models.image_shape(name)[0] + 64)
    features = scanned(name, num_classes=None, dtype=jnp.bfloat16)
    result, variables = jax.eval_shape(features.init_with_output, key(), larger)
    assert (result.dtype, result.ndim, result.shape[0]) == (jnp.bfloat16, len(shape_of_logits(name, 2, 1)), 2)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert not [path for path in variables["params"] if path.startswith(("output", "aux"))]
    small = scanned(name, num_classes=7, dtype=jnp.float32, param_dtype=jnp.bfloat16)
    result, variables = jax.eval_shape(small.init_with_output, key(), pictures(name))
    assert (result.dtype, result.shape) == (jnp.float32, shape_of_logits(name, 1, 7))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables["params"])} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", [name for name in LABELLERS if name not in DEEPER + COMPARED])
def test_gradients_reach_every_parameter_and_training_differs_from_inference(name):
    shallower = SHALLOWER.get(name)
    build = models.create if shallower else scanned
    model = build(name, num_classes=10, **(shallower or {}))
    side = SIDES.get(name, min(models.image_shape(name)[0], 32))
    images = np.random.default_rng(1).standard_normal(pictures(name, 2, side).shape, np.float32)
    variables = drawn(model, images)

    def loss(params, variables, images):
        everything = {**variables, "params": params}
        rngs = {"dropout": jax.random.key(1)}
        output, updates = model.apply(everything, images, train=True, mutable=["batch_stats"], rngs=rngs)
        heads = [output.logits, *output.auxiliary] if isinstance(output, models.AuxiliaryLogits) else [output]
        loss = sum(jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 3]) for logits in heads)
        return loss, (heads[0], updates)

    def run(variables, images):
        gradients, trained = jax.grad(loss, has_aux=True)(variables["params"], variables, images)
        return gradients, *trained, model.apply(variables, images)

    gradients, trained, updates, inferred = run_unoptimised(run, variables, images)
    assert trained.shape == inferred.shape == shape_of_logits(name, 2, 10, side)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.any(leaf != 0), f"no gradient reaches {jax.tree_util.keystr(path)}"
    assert np.array_equal(trained, inferred) == (name in SAME_IN_TRAINING)
    before, after = (jax.tree_util.tree_leaves_with_path(tree.get("batch_stats", {})) for tree in (variables, updates))
    for (path, old), (_, new) in zip(before, after, strict=True):
        assert np.any(old != new), f"{jax.tree_util.keystr(path)} does not follow the batch"


# Receptive fields and strides of layers, on pictures of the size the model was designed for.
INCEPTION = "mixed_5b mixed_5c mixed_5d mixed_6a mixed_6b mixed_6c mixed_6d mixed_6e mixed_7a mixed_7b mixed_7c"
FIELDS = {
    "lenet5": ("c1 s2 c3 s4 c5", (5, 6, 14, 16, 32), (1, 2, 2, 4, 4)),
    "lenet5_1998": ("c1 s2 c3 s4 c5", (5, 6, 14, 16, 32), (1, 2, 2, 4, 4)),
    "alexnet": (
        "conv1 pool1 conv2 conv3 conv4 conv5 pool5",
        (11, 19, 51, 99, 131, 163, 195),
        (4, 8, 8, 16, 16, 16, 32),
    ),
    "alexnet_owt": ("conv1 pool1 conv2 pool5", (11, 19, 51, 195), (4, 8, 8, 32)),
    "zfnet": (
        "conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5",
        (7, 11, 27, 43, 75, 107, 139, 171),
        (2, 4, 8, 16, 16, 16, 16, 32),
    ),
    "vgg11": ("pool5", (150,), (32,)),
    "vgg13": ("pool5", (156,), (32,)),
    "vgg16": ("pool1 pool2 pool3 pool4 pool5", (6, 16, 44, 100, 212), (2, 4, 8, 16, 32)),
    "vgg19": ("pool5", (268,), (32,)),
    "googlenet": ("inception5b", (715,), (32,)),
    "googlenet_bn": ("inception5b", (379,), (32,)),
    "inception_v3": (
        INCEPTION,
        (63, 95, 127, 159, 351, 543, 735, 927, 1055, 1183, 1311),
        (8,) * 3 + (16,) * 5 + (32,) * 3,
    ),
    "mobilenet_v1": ("stage5", (315,), (32,)),
    "hed": ("side1 side2 side3 side4 side5", (5, 14, 40, 92, 196), (1, 2, 4, 8, 16)),
    # By hand: each 3x3 adds twice the stride, each 2x2 pool once.
    "resnet9": ("stage1 stage2 stage3", (14, 20, 64), (2, 4, 8)),
    "resnet18": ("stage4", (435,), (32,)),
    "resnet34": ("stage4", (899,), (32,)),
    "resnet50": ("stage3 stage4", (267, 427), (16, 32)),
    "resnet101": ("stage4", (971,), (32,)),
    "resnet152": ("stage4", (1451,), (32,)),
}
FIELDS_OF_V1_STRIDES = {
    "resnet50": ("stage1 stage2 stage3 stage4", (35, 99, 291, 483), (4, 8, 16, 32)),
    "resnet101": ("stage4", (1027,), (32,)),
    "resnet152": ("stage4", (1507,), (32,)),
}
# Pixels of padding before the first position's field: the P of the tables, of nets that pad as the tables' do.
PADDING = {
    "alexnet_owt": 66,
    "vgg11": 59,
    "vgg13": 62,
    "vgg16": 90,
    "vgg19": 118,
    "resnet18": 217,
    "resnet34": 449,
    "resnet50": 213,
    "resnet101": 485,
    "resnet152": 725,
}


def check_fields(fields, layers, sizes, strides):
    assert [fields[layer].size for layer in layers.split()] == [(size, size) for size in sizes]
    assert [fields[layer].stride for layer in layers.split()] == [(stride, stride) for stride in strides]
    return fields[layers.split()[-1]].start


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name in FIELDS or PUBLISHED[name][1] is not None])
def test_costs_and_receptive_fields_are_those_published(name):
    program = trace(scanned(name), pictures(name).shape)
    expected = PUBLISHED[name][1]
    if expected is not None:
        macs = sum(multiply_accumulates(program))
        assert f"{macs / 1e9:.{len(expected.split('.')[1])}f}" == expected
    fields = fields_of(program)
    stages = models.create(name).stages
    assert [fields[stage.name].stride for stage in stages] == [(stage.stride, stage.stride) for stage in stages]
    if name in FIELDS:
        start = check_fields(fields, *FIELDS[name])
        assert name not in PADDING or start == (-PADDING[name],) * 2


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", FIELDS_OF_V1_STRIDES)
def test_receptive_fields_with_the_papers_strides(name):
    check_fields(fields_of(trace(scanned(name, v1_strides=True), pictures(name).shape)), *FIELDS_OF_V1_STRIDES[name])
