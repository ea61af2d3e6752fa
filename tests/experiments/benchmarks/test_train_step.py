"""The sides of the comparison of steps, and its table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from experiments.benchmarks import train_step


@pytest.mark.parametrize(("net", "parameters"), [("lenet5", 61_706), ("resnet20", 269_722), ("resnet50", 25_557_032)])
def test_the_nets_that_steps_are_compared_on_are_the_same(net, parameters):
    """The net in plain Flax has the published number of parameters, and as many arrays of each shape as ours."""
    image = jnp.zeros((1, *train_step.NETS[net][1:2] * 2, train_step.NETS[net][2]))

    def variables(model):
        # Flax mixes types in its average pool.
        with jax.numpy_dtype_promotion("standard"):
            return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))

    def shapes(tree):
        return sorted(leaf.shape for leaf in jax.tree.leaves(tree))

    plain = variables(train_step.flax_model(net, jnp.float32))
    assert shapes(plain) == shapes(variables(models.create(net, num_classes=train_step.NETS[net][3])))
    assert sum(np.prod(shape) for shape in shapes(plain["params"])) == parameters


def test_the_table_tells_which_bars_are_reached():
    """Bars against others are at least, those of what the loop adds are under."""
    measured = {
        "resnet20": {
            "milliseconds": {"cnnjax": 200.0, "flax": 300.0, "torch": 190.0, "cnnjax in a plain loop": 194.0},
            "times_as_fast_as_flax": {"ratio": 1.5, "bar": 1.5},
            "times_as_fast_as_torch": {"ratio": 0.95, "bar": 1.0},
            "added_in_the_step": {"share": 0.0309, "bar": 0.03},
        },
        "loop": {
            "milliseconds": 0.25,
            "bar_milliseconds": 0.3,
            "share_of_a_resnet20_step": 0.00125,
            "bar_share": 0.03,
        },
    }
    columns = [list(column.cells) for column in train_step.table(measured).columns]
    assert list(zip(columns[2], columns[3], columns[6], strict=True)) == [
        ("flax", "300", "reached"),
        ("torch", "190", "missed"),
        ("plain loop", "194", "missed"),
        ("", "", "reached"),
        ("", "", "reached"),
    ]


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_pytorch_may_warn_between_its_answers(tmp_path):
    python = script(tmp_path / "python", "echo 2.9.0; while read net steps; do echo careful >&2; echo $steps.5; done")
    with train_step.torch_side(train_step.Options(torch_python=python)) as side:
        assert side is not None
        assert side[0] == "2.9.0"
        assert [side[1]("lenet5", 3), side[1]("lenet5", 4)] == [3.5, 4.5]


def test_what_stops_pytorch_is_told(tmp_path, capsys):
    absent = script(tmp_path / "absent", "echo Traceback: >&2; echo No module named torch >&2; exit 1")
    with train_step.torch_side(train_step.Options(torch_python=absent)) as side:
        assert side is None
    assert capsys.readouterr().out == "PyTorch left out: No module named torch\n"
    stopping = script(tmp_path / "stopping", "echo 2.9.0; read net; echo out of memory >&2")
    with train_step.torch_side(train_step.Options(torch_python=stopping)) as side:
        assert side is not None
        with pytest.raises(RuntimeError, match=r"PyTorch's side stopped: out of memory"):
            side[1]("lenet5", 1)


def test_what_the_loop_takes_is_told_as_a_share_of_a_step():
    found = train_step.measure_loop(200.0, calls=20, log_every=10)
    assert found["milliseconds"] > 0
    assert found["share_of_a_resnet20_step"] == pytest.approx(found["milliseconds"] / 200, abs=1e-5)
