"""Architectures as backbones: which maps come, what they hold, and what is said to a wrong name."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from tests.models.quick import drawn, run_unoptimised

IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3)), jnp.float32)


def captured(model, variables, names):
    """What the modules of these names return in a run of the whole net."""
    _, state = model.apply(variables, IMAGES, capture_intermediates=True, mutable=["intermediates"])
    return {name: state["intermediates"][name]["__call__"][0] for name in names}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", ["resnet20", "resnet9", "convnet", "vgg11"])
def test_maps_are_those_of_the_whole_net(name):
    model = models.create(name, num_classes=3)
    variables = drawn(model, IMAGES)
    names = [stage.name for stage in model.stages[:2]]

    def run(variables):
        return model.apply(variables, IMAGES, stages=names[::-1]), captured(model, variables, names)

    maps, expected = run_unoptimised(run, variables)
    assert list(maps) == names  # in the order of the net, in whatever order they were asked for
    for stage in names:
        np.testing.assert_array_equal(maps[stage], expected[stage])


def test_only_what_is_asked_for_is_computed():
    """The stem and the first stage's block have three convolutions, the whole net has seven."""
    model = models.CifarResNet(1)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)

    def convolutions(**options):
        program = jax.make_jaxpr(lambda variables: model.apply(variables, IMAGES, **options))(variables)
        return sum(equation.primitive.name == "correlation" for equation in program.jaxpr.eqns)

    assert convolutions(stages=("stage1",)) == 3
    assert convolutions() == 7


def test_a_backbone_inside_a_module_trains_with_it():
    class Segmenter(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            maps = models.CifarResNet(1, name="backbone")(images, train=train, stages=("stage1", "stage2"))
            fine, coarse = maps["stage1"], jnp.repeat(jnp.repeat(maps["stage2"], 2, axis=1), 2, axis=2)
            return nn.Dense(2, name="head")(jnp.concatenate([fine, coarse], axis=-1))

    model = Segmenter()
    variables = drawn(model, IMAGES)
    assert "stage3" not in variables["params"]["backbone"]

    def loss(params):
        output, updates = model.apply({**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"])
        return jnp.mean(output**2), (output.shape, updates)

    gradients, (shape, updates) = jax.grad(loss, has_aux=True)(variables["params"])
    assert shape == (2, 32, 32, 2)
    assert set(updates["batch_stats"]["backbone"]) == {"bn1", "stage1", "stage2"}
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (("stage4",), "CifarResNet has no stage 'stage4'; did you mean 'stage"),
        (("pool",), "CifarResNet has no stage 'pool'; expected some of stage1, stage2, stage3"),
        ((), r"stages=\(\); expected a sequence of names, some of stage1"),
        ("stage1", "stages='stage1'; expected a sequence of names"),
    ],
)
def test_stages_that_are_not_there(stages, message):
    with pytest.raises(ValueError, match=message):
        models.CifarResNet(1).init(jax.random.key(0), IMAGES, stages=stages)
