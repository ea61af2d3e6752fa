"""Costs layer by layer against published counts and hand computation; tables, pictures and files of a result."""

import json

import jax.numpy as jnp
import pytest
from jax import lax

from cnnjax import models
from cnnjax.analysis import cost
from cnnjax.functional import correlate

LENET = cost(models.create("lenet5"), (2, 32, 32, 1))


def test_layers_and_totals():
    assert {layer.name: (layer.params, layer.macs) for layer in LENET.layers} == {
        "c1": (156, 2 * 117_600),
        "s2": (0, 0),
        "c3": (2416, 2 * 240_000),
        "s4": (0, 0),
        "c5": (48_120, 2 * 48_000),
        "f6": (10_164, 2 * 10_080),
        "output": (850, 2 * 840),
    }
    assert (LENET.params, LENET.macs, LENET.parameter_bytes) == (61_706, 2 * 416_520, 4 * 61_706)
    # What leaves convolutions and products.
    assert LENET.activations == 2 * (4704 + 1600 + 120 + 84 + 10)
    # The output of c1 and what pooling makes of it, in floats.
    assert LENET.forward_bytes == 4 * 2 * (4704 + 1176)
    assert LENET.training_bytes == 2 * LENET.parameter_bytes + LENET.kept_bytes
    layers = {layer.name: layer for layer in LENET.layers}
    assert max(layer.forward_bytes for layer in LENET.layers) == LENET.forward_bytes
    # C1 and its hyperbolic tangent, which overwrites it; then C3 with what it reads.
    assert layers["c1"].forward_bytes == 4 * 2 * 4704
    assert layers["c3"].forward_bytes == 4 * 2 * (1176 + 1600)
    # The pools' sums are kept for the next kernel's gradient; hyperbolic tangents stand between the layers.
    assert (layers["s2"].kept_bytes, layers["s4"].kept_bytes) == (4 * 2 * 1176, 4 * 2 * 400)
    between = LENET.kept_bytes - 4 * 2 * (1176 + 400)
    assert f"{between / 1024:.4g} KiB of what is kept are the picture, and what is made between layers" in str(LENET)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("name", "millions"), [("resnet50", "11.1"), ("resnet101", "16.2"), ("resnet152", "22.6")])
def test_activations_are_those_published(name, millions):
    # Radosavovic et al. (2020), "Designing Network Design Spaces", table 3.
    found = cost(models.create(name), (1, 224, 224, 3), training=False)
    assert f"{found.activations / 1e6:.1f}" == millions
    assert found.training_bytes is found.kept_bytes is None


def test_padding_is_counted_or_not():
    def function(x):
        return correlate(x, jnp.ones((3, 3, 1, 1)), padding="SAME")

    assert cost(function, (1, 4, 4, 1)).macs == 16 * 9
    inside = cost(function, (1, 4, 4, 1), padding=False)
    assert inside.macs == 100
    assert "taps on padding are left out" in str(inside)
    assert "taps on padding are counted" in str(LENET)


def test_a_functions_parameters_are_not_known():
    found = cost(lambda x: correlate(x, jnp.ones((3, 3, 1, 2)), padding="VALID"), (1, 5, 5, 1))
    assert (found.params, found.macs, found.training_bytes) == (0, 9 * 9 * 2, None)


def test_loops_are_named():
    found = cost(lambda x: lax.while_loop(lambda y: y.sum() < 9, lambda y: y @ jnp.ones((2, 2)), x), (1, 4, 2))
    assert (found.macs, found.data_dependent_loops) == (4 * 4, ("while",))
    assert str(found).endswith("Of each while loop one turn is counted.")


def test_it_is_saved_drawn_and_shown(tmp_path):
    LENET.save(tmp_path / "deep" / "lenet")
    saved = json.loads((tmp_path / "deep" / "lenet.json").read_text())
    first = {"layer": "c1", "shape": "2x28x28x6", "params": 156, "macs": 235_200, "activations": 9408}
    memory = {"forward_bytes": 4 * 9408, "kept_bytes": LENET.layers[0].kept_bytes}
    assert saved[0] == first | memory
    header = (tmp_path / "deep" / "lenet.csv").read_text().splitlines()[0]
    assert header == "layer,shape,params,macs,activations,forward_bytes,kept_bytes"
    assert (tmp_path / "deep" / "lenet.png").stat().st_size > 1000
    figure = LENET.draw()
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "multiply-accumulates / million",
        "parameters / thousand",
        "activations / thousand",
    ]
    assert [bar.get_width() for bar in figure.axes[1].patches] == [0.156, 2.416, 48.12, 10.164, 0.85]
    shown = LENET._repr_html_()
    assert "<td>c1</td>" in shown
    assert "MiB of parameters" in shown
