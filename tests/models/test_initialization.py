"""First variables, whatever a model calls training, and the smallest pictures it takes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers, models
from cnnjax.models import check_inputs, inference_options, initialize, smallest_image_size

LENET = models.create("lenet5")
KEY = jax.random.key(0)


class Plain(nn.Module):
    """Does not know training from inference."""

    @nn.compact
    def __call__(self, images):
        return layers.Dense(3, name="dense")(images.mean((1, 2)))


class Required(nn.Module):
    """Must be told."""

    @nn.compact
    def __call__(self, images, *, train):
        return layers.BatchNorm(name="norm")(layers.Conv(2, (3, 3), name="conv")(images), train=train)


def sizes(variables):
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def test_a_model_without_train_initialises():
    assert inference_options(Plain()) == {}
    variables = initialize(KEY, Plain(), jnp.ones((2, 4, 4, 5)))
    assert sizes(variables) == {"['params']['dense']['bias']": (3,), "['params']['dense']['kernel']": (5, 3)}
    check_inputs(Plain(), jax.ShapeDtypeStruct((1, 4, 4, 5), jnp.float32))


def test_a_model_with_a_required_train_initialises():
    assert inference_options(Required()) == {"train": False}
    variables = initialize(KEY, Required(), jax.ShapeDtypeStruct((1, 4, 4, 1), jnp.float32))
    assert sizes(variables["params"]) == {
        "['conv']['bias']": (2,),
        "['conv']['kernel']": (3, 3, 1, 2),
        "['norm']['bias']": (2,),
        "['norm']['scale']": (2,),
    }
    np.testing.assert_array_equal(variables["batch_stats"]["norm"]["var"], np.ones(2))
    assert smallest_image_size(Required(), channels=1) == 1


def test_variables_are_flaxs():
    found = initialize(KEY, Plain(), jnp.ones((2, 4, 4, 5)))
    expected = Plain().init(KEY, jnp.zeros((2, 4, 4, 5)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_smallest_picture_is_named():
    # By hand: ((n - 4) // 2 - 4) // 2 - 4 >= 1 first holds for n = 32.
    assert smallest_image_size(LENET, channels=1) == 32
    check_inputs(LENET, jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32))
    with pytest.raises(ValueError, match=r"pictures of 28x28 .* layer c5: .* smallest size that works is 32x32"):
        check_inputs(LENET, jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32))
    with pytest.raises(ValueError, match="too small"):
        initialize(KEY, LENET, jnp.zeros((1, 31, 40, 1)))


def test_errors_that_no_size_cures_pass_unchanged():
    grouped = layers.Conv(4, (3, 3), groups=2)
    assert smallest_image_size(grouped, channels=3) is None
    with pytest.raises(ValueError, match=r"^layer Conv: groups=2 must divide the 3 input channels"):
        check_inputs(grouped, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))


@pytest.mark.usefixtures("unchecked_types")
def test_axes_that_lack_or_are_swapped_are_named():
    net = models.create("resnet18", num_classes=3)
    shapes = {
        (32, 32, 3): r"layer conv1: images: shape \(32, 32, 3\) came; .* batch axis is missing: pass images\[None\]",
        (8, 32, 32): r"layer conv1: .* the channel axis is missing, then pass images\[..., None\]",
        (
            8,
            3,
            32,
            32,
        ): r"channels first; expected \(batch, height, width, channels\): pass np.moveaxis\(pictures, 1, -1\)",
    }
    for shape, message in shapes.items():
        with pytest.raises(ValueError, match=message):
            check_inputs(net, jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.usefixtures("unchecked_types")
def test_a_last_pool_larger_than_its_map_takes_what_is_there():
    # By hand: 15 pixels are 8, 4 and 2 before the third pool, of 3, in ceil mode, as in torchvision.
    check_inputs(models.create("googlenet_bn", num_classes=3), jax.ShapeDtypeStruct((1, 15, 15, 3), jnp.float32))
