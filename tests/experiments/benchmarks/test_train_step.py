"""The sides of the comparison of steps, and its table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from experiments.benchmarks import train_step
from experiments.benchmarks.flax_nets import flax_model
from experiments.benchmarks.jax_side import make_side, timed
from experiments.benchmarks.train_step import Case, Taken


@pytest.mark.parametrize(
    ("net", "parameters"),
    [
        ("lenet5", 61_706),
        ("resnet20", 269_722),
        ("resnet50", 25_557_032),
        ("vgg11", 132_863_336),
        ("mobilenet_v1", 4_231_976),
    ],
)
def test_the_nets_that_steps_are_compared_on_are_the_same(net, parameters):
    """The net in plain Flax has the published number of parameters, and as many arrays of each shape as ours."""
    _, size, channels, classes = train_step.NETS[net].shape
    image = jnp.zeros((1, size, size, channels))

    def variables(model):
        # Flax mixes types in its average pool.
        with jax.numpy_dtype_promotion("standard"):
            return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))

    def shapes(tree):
        return sorted(leaf.shape for leaf in jax.tree.leaves(tree))

    plain = variables(flax_model(net, classes))
    assert shapes(plain) == shapes(variables(models.create(net, num_classes=classes)))
    assert sum(np.prod(shape) for shape in shapes(plain["params"])) == parameters


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["cnnjax", "flax", "plain loop"])
def test_a_side_takes_steps(name, training):
    case = {"net": "lenet5", "shape": (2, 32, 1, 10), "dtype": "float32", "training": training, "together": 1}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        seconds, worked = timed(make_side(name, case), 2)
    assert seconds > 0
    assert worked > 0


def test_a_side_in_a_process_of_its_own_answers_with_what_its_steps_took():
    case = Case("lenet5", (2, 32, 1, 10), 2, together=2)
    with train_step.running(train_step.sys.executable, "cnnjax", case, kept=True) as side:
        assert side is not None
        assert side.version == jax.__version__
        taken = side.take(4)
    assert 0 < taken.seconds < 60
    assert taken.peak_mib > 50


def test_what_the_rounds_come_to():
    """Medians and ratios by hand: three rounds of 1, 2 and 3 s against 3, 2 and 6 s."""

    def rounds(*seconds):
        return [Taken(one, 2 * one, 100.4) for one in seconds]

    found = train_step.compared(
        (2.0, 1.0),
        {
            "cnnjax": rounds(1, 2, 3),
            "torch": rounds(3, 2, 6),
            "cnnjax, memory as installed": rounds(2, 4, 3),
            "before": rounds(4, 4, 4),
        },
    )
    assert found["milliseconds"] == {
        "cnnjax": 2000,
        "torch": 3000,
        "cnnjax, memory as installed": 3000,
        "before": 4000,
    }
    assert found["processor_milliseconds"]["torch"] == 6000
    assert found["peak_mib"]["before"] == 100
    assert found["times_as_fast_as_torch"] == {"ratio": 1.5, "least": 1.0, "largest": 3.0, "bar": 1.0}
    assert found["times_as_fast_as_torch_with_equal_memory"] == {
        "as_installed": {"ratio": 1.0, "least": 0.5, "largest": 2.0}
    }
    assert found["times_as_fast_as_before"]["ratio"] == 2.0
    assert found["share_of_the_processor_time_before"] == 0.5
    assert "times_as_fast_as_flax" not in found


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


CASE = train_step.NETS["lenet5"]


def test_pytorch_may_warn_between_its_answers(tmp_path):
    answers = 'while read steps; do echo careful >&2; echo "[$steps, 1, 2]"; done'
    python = script(tmp_path / "python", f"echo '\"2.9.0\"'; {answers}")
    with train_step.running(python, "torch", CASE) as side:
        assert side is not None
        assert side.version == "2.9.0"
        assert [side.take(3), side.take(4)] == [Taken(1.0, 1 / 3, 2), Taken(1.0, 1 / 4, 2)]


def test_what_stops_pytorch_is_told(tmp_path, capsys):
    absent = script(tmp_path / "absent", "echo Traceback: >&2; echo No module named torch >&2; exit 1")
    with train_step.running(absent, "torch", CASE) as side:
        assert side is None
    assert capsys.readouterr().out == "PyTorch left out: No module named torch\n"
    with (
        pytest.raises(RuntimeError, match="cnnjax does not start: No module named torch"),
        train_step.running(absent, "cnnjax", CASE),
    ):
        pass
    stopping = script(tmp_path / "stopping", "echo '\"2.9.0\"'; read steps; echo out of memory >&2")
    with train_step.running(stopping, "torch", CASE) as side:
        assert side is not None
        with pytest.raises(RuntimeError, match="a side stopped: out of memory"):
            side.take(1)


def test_what_the_loop_takes_is_told_as_a_share_of_a_step():
    found = train_step.measure_loop(200.0, calls=20, log_every=10)
    assert found["milliseconds"] > 0
    assert found["share_of_a_resnet20_step"] == pytest.approx(found["milliseconds"] / 200, abs=1e-5)
