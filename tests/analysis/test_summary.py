"""Summaries against LeNet-5's published numbers and blocks counted by hand."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from jax import lax

from cnnjax import layers, models
from cnnjax.analysis import summary
from cnnjax.functional import correlate, max_pool

LENET = summary(models.create("lenet5"), (1, 32, 32, 1))


class Block(nn.Module):
    """A parameter and a product of its own, and a convolution inside."""

    @nn.compact
    def __call__(self, x):
        x = layers.Conv(3, (1, 1), name="conv")(x)
        return x @ self.param("mix", nn.initializers.ones_init(), (3, 4))


class Nest(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        x = Block(name="first")(x)
        x = layers.BatchNorm(name="norm")(Block(name="second")(x), train=train)
        return layers.Dense(5, name="head")(x.mean((1, 2)))


def test_lenet5_layer_by_layer():
    found = {layer.name: (layer.shape, layer.params, layer.macs, layer.activations) for layer in LENET.cost.layers}
    assert found == {
        "c1": ((1, 28, 28, 6), 6 * (25 + 1), 28 * 28 * 6 * 25, 28 * 28 * 6),
        "s2": ((1, 14, 14, 6), 0, 0, 14 * 14 * 6),
        "c3": ((1, 10, 10, 16), 16 * (6 * 25 + 1), 100 * 16 * 6 * 25, 1600),
        "s4": ((1, 5, 5, 16), 0, 0, 400),
        "c5": ((1, 1, 1, 120), 120 * (16 * 25 + 1), 120 * 16 * 25, 120),
        "f6": ((1, 84), 84 * 121, 84 * 120, 84),
        "output": ((1, 10), 850, 840, 10),
    }
    assert (LENET.cost.params, LENET.cost.macs) == (61_706, 416_520)
    # The paper's figure 2: what a unit of each layer sees.
    sizes = {layer.name: layer.size for layer in LENET.fields.layers}
    assert {name: sizes[name] for name in ("c1", "s2", "c3", "s4", "c5")} == {
        "c1": (5, 5),
        "s2": (6, 6),
        "c3": (14, 14),
        "s4": (16, 16),
        "c5": (32, 32),
    }


def test_costs_grow_with_the_batch_and_parameters_do_not():
    found = summary(models.create("lenet5"), (3, 32, 32, 1))
    assert (found.cost.params, found.cost.macs) == (61_706, 3 * 416_520)


def test_nested_blocks_add_up_without_double_counts():
    found = summary(Nest(), (1, 4, 6, 2))
    positions = 4 * 6
    expected = {
        # parameters, MACs
        "first": (12, positions * 3 * 4),
        "first/conv": (2 * 3 + 3, positions * 2 * 3),
        "second": (12, positions * 3 * 4),
        "second/conv": (4 * 3 + 3, positions * 4 * 3),
        "norm": (8, 0),
        "reduce_sum": (0, 0),  # the mean, outside of all blocks
        "head": (4 * 5 + 5, 4 * 5),
    }
    assert {layer.name: (layer.params, layer.macs) for layer in found.cost.layers} == expected
    assert found.cost.params == sum(params for params, _ in expected.values())
    assert found.cost.macs == sum(macs for _, macs in expected.values())


def test_a_plain_function():
    def function(x):
        return max_pool(correlate(x, jnp.ones((3, 3, 2, 4)), padding="VALID"), 2)

    found = summary(function, (1, 8, 8, 2))
    assert [(layer.name, layer.shape, layer.params, layer.macs) for layer in found.cost.layers] == [
        ("conv_general_dilated", (1, 6, 6, 4), 0, 36 * 4 * 9 * 2),
        ("reduce_window_max", (1, 3, 3, 4), 0, 0),
    ]
    assert (found.cost.params, found.cost.macs) == (0, 2592)
    assert [layer.size for layer in found.fields.layers] == [(3, 3), (4, 4)]


def test_table_ends_with_the_totals():
    header, rows = LENET.table()
    assert header[:4] == ("layer", "output", "parameters", "MACs")
    assert rows[0] == ("c1", "1x28x28x6", "156", "117,600", "4,704", "5", "1", "0")
    assert rows[-1][:4] == ("total", "", "61,706", "416,520")
    lines = str(LENET).splitlines()
    assert len(lines) == 2 + 7 + 1 + len(LENET.notes())
    assert LENET.rows()[0] == {
        "layer": "c1",
        "shape": "1x28x28x6",
        "params": 156,
        "macs": 117_600,
        "activations": 4704,
        "receptive_field": "5",
        "stride": "1",
        "start": "0",
        "uniform": True,
    }


def test_loops_are_named_in_the_notes():
    def looped(x):
        return lax.while_loop(lambda carry: carry.sum() < 9, lambda carry: correlate(carry, jnp.ones((3, 3, 1, 1))), x)

    found = summary(looped, (1, 4, 4, 1))
    assert found.cost.macs == 16 * 9
    assert found.cost.data_dependent_loops == ("while",)
    assert "Of each while loop one turn is counted." in found.notes()
    assert str(found).endswith("Of each while loop one turn is counted.")
    assert LENET.notes() == []


def test_shapes_without_spatial_axes_are_refused():
    with pytest.raises(ValueError, match=r"shape=\(1, 3\) has no spatial axes"):
        summary(lambda x: x, (1, 3))
    with pytest.raises(ValueError, match="layer c5"):
        summary(models.create("lenet5"), (1, 28, 28, 1))
