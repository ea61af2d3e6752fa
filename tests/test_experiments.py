"""Experiment scripts whose steps are worth trusting: what they read and what they count."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image
from rich.console import Console

from cnnjax import models
from cnnjax.cli import experiment_main
from cnnjax.data import open_source
from cnnjax.experiment import run
from cnnjax.train import Experiment, Saving, read_rows
from cnnjax.train.checkpoint import Checkpoints
from experiments import (
    architecture_search_by_receptive_field,
    attribution,
    cifar10_fast,
    cost_table,
    effective_receptive_fields,
    fashion_mnist,
    feature_maps,
    imagenet_eval,
    invariance,
    kernel_size,
    kill_a_saving_run,
    receptive_fields,
    resnet50_imagenet,
    scaling,
)
from experiments.benchmarks import receptive_field, train_step


class Brightest(nn.Module):
    """Class by the largest channel, from red to blue."""

    @nn.compact
    def __call__(self, images, *, train=False):
        return jnp.mean(images, axis=(1, 2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three classes by name; one red picture lies among the blue ones."""
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / ".cache"))
    colours = {"a_red": [(200, 0, 0)] * 3, "b_green": [(0, 200, 0)] * 2, "c_blue": [(0, 0, 200), (200, 0, 0)]}
    for name, pictures in colours.items():
        (tmp_path / name).mkdir()
        for number, colour in enumerate(pictures):
            Image.new("RGB", (40 + number, 30), colour).save(tmp_path / name / f"{number}.PNG")
    (tmp_path / "a_red" / "notes.txt").write_text("no picture")
    return tmp_path


def test_accuracy_over_a_folder(folder):
    source = open_source(f"folder:{folder}", "all")
    assert len(source) == 7
    scores = imagenet_eval.evaluate(Brightest(), {}, source, batch_size=4, resize=16, crop=12)
    assert scores == {"top1": pytest.approx(6 / 7), "top5": 1.0}


def test_pictures_are_resized_cropped_and_standardised():
    """The left half is black, the right white; the middle of 60x30 at half size."""
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    found = imagenet_eval.prepare(pixels, resize=15, crop=10)
    assert found.shape == (10, 10, 3)
    np.testing.assert_allclose(found[:, 0, 1], (0 - 0.456) / 0.224, rtol=1e-5)
    np.testing.assert_allclose(found[:, -1, 2], (1 - 0.406) / 0.225, rtol=1e-5)


def test_a_picture_that_cannot_be_read_is_named(folder):
    (folder / "b_green" / "0.PNG").write_bytes(b"no picture")
    source = open_source(f"folder:{folder}", "all")
    with pytest.raises(ValueError, match=r"b_green/0\.PNG: .* do not decode"):
        imagenet_eval.evaluate(Brightest(), {}, source, batch_size=4, resize=8, crop=8)


def test_scaling_is_its_formula():
    """A link that moves a gigabyte a second, a step of a second, a millisecond a message."""
    setting = scaling.Setting(
        bytes=10**9, step_milliseconds=1000, link_gigabits=8, latency_microseconds=1000, overlap=0.0
    )
    # Over four devices, 3/4 of the bytes travel twice: 1.5 s; in six messages of a ring, four of a tree.
    assert scaling.reduction_seconds(setting, 4, "ring") == pytest.approx(1.506)
    assert scaling.reduction_seconds(setting, 4, "tree") == pytest.approx(1.504)
    assert scaling.reduction_seconds(setting, 5, "tree") == pytest.approx(1.606)
    assert scaling.efficiency(setting, 4, "ring") == pytest.approx(1 / 2.506)
    half = dataclasses.replace(setting, overlap=0.5)
    assert scaling.efficiency(half, 4, "ring") == pytest.approx(1 / 2.006)
    # On two devices a second and two messages, of which all but the messages is hidden; on one there is nothing.
    hidden = dataclasses.replace(setting, overlap=1.0)
    assert scaling.efficiency(hidden, 2, "ring") == pytest.approx(1 / 1.002)
    assert scaling.efficiency(setting, 1, "ring") == scaling.efficiency(setting, 1, "tree") == 1


def test_scaling_writes_what_it_predicts_and_assumes(tmp_path, capsys):
    scaling.main(scaling.Setting(), tmp_path / "curve.png")
    rows = json.loads((tmp_path / "curve.json").read_text())["predicted"]
    assert [row["devices"] for row in rows] == [2**power for power in range(13)]
    # By hand: 57.3025 ms are 2 * 4095 / 4096 * 102,228,128 bytes / 12.5 GB/s + 8,190 messages of 5 us.
    assert rows[-1]["ring"] == {"milliseconds": 57.303, "efficiency": 0.6357, "speedup": 2603.9}
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "4,096" in said
    assert "Assumed: every device keeps its share of the batch" in " ".join(said.split())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("bytes", 0, "bytes=0; expected a number above 0"),
        ("step_milliseconds", float("nan"), "step_milliseconds=nan; expected a number above 0"),
        ("link_gigabits", -1.0, "link_gigabits=-1.0; expected a number above 0"),
        ("latency_microseconds", -1.0, "latency_microseconds=-1.0; expected at least 0"),
        ("overlap", 1.5, "overlap=1.5; expected at least 0 and at most 1"),
    ],
)
def test_scaling_refuses_what_cannot_be(option, value, message):
    with pytest.raises(ValueError, match=message):
        scaling.Setting(**{option: value})


def test_a_saving_run_that_is_killed_can_be_resumed(tmp_path):
    """Three of the hundred kills that the script makes."""
    rows = kill_a_saving_run.kill_many(tmp_path / "checkpoints", 3, seed=1, say=lambda _: None)
    assert [row["wrong"] for row in rows] == [[], [], []]
    assert max(row["lost"] for row in rows) <= 1
    assert rows[-1]["restored"] >= 3


def test_what_a_kill_could_have_done_wrong_is_seen(tmp_path):
    start = kill_a_saving_run.first_state()
    assert kill_a_saving_run.is_state_of(0, start)
    fourth = dataclasses.replace(
        start,
        step=start.step + 4,
        params=start.params | {"kernel": start.params["kernel"] + 4},
        opt_state=start.opt_state._replace(trace=start.opt_state.trace | {"kernel": jnp.full((400, 400), 4.0)}),
        guard=start.guard._replace(since=jnp.int32(4)),
    )
    with Checkpoints(tmp_path, Saving(keep_last=2)) as checkpoints:
        checkpoints.save(fourth, 4, record={"place": 4})
    check = kill_a_saving_run.check_folder
    assert check(tmp_path, told=5, before=4) == {"restored": 4, "lost": 1, "wrong": []}
    assert "step 6 was reached" in check(tmp_path, told=6, before=4)["wrong"][0]
    assert "step 5 was complete before" in check(tmp_path, told=None, before=5)["wrong"][0]
    torn = fourth.params["kernel"].at[0, 0].add(1)
    with Checkpoints(tmp_path, Saving(keep_last=2)) as checkpoints:
        checkpoints.save(dataclasses.replace(fourth, step=jnp.int32(5), params=fourth.params | {"kernel": torn}), 5)
    assert check(tmp_path, told=5, before=4)["wrong"] == ["what was restored is not the state of step 5"]
    (tmp_path / "5" / "state" / "_METADATA").write_text("{}")
    assert "step 5 is set aside as damaged-5-1" in check(tmp_path, told=5, before=4)["wrong"][0]


def test_where_a_kill_struck_is_told_from_what_is_new(tmp_path):
    where, folders = kill_a_saving_run.where, kill_a_saving_run.folders
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "manifest.json").touch()
    found = folders(tmp_path)
    assert where(tmp_path, before=found) == "between saves"
    (tmp_path / "4").rename(tmp_path / "deleted-4")
    assert where(tmp_path, before=found) == "while an old step was deleted"
    (tmp_path / "5" / "state.orbax-checkpoint-tmp").mkdir(parents=True)
    assert where(tmp_path, before=found) == "while arrays were written"
    (tmp_path / "5" / "state").mkdir()
    assert where(tmp_path, before=found) == "between arrays and manifest"
    found = folders(tmp_path)
    assert where(tmp_path, before=found) == "between saves"
    (tmp_path / "5").rename(tmp_path / "unfinished-5-1")
    (tmp_path / "5").mkdir()
    assert where(tmp_path, before=found) == "while arrays were written"


RECIPES = {
    "imagenet": resnet50_imagenet.BASELINE,
    "imagenet, modern": resnet50_imagenet.MODERN,
    "cifar10": cifar10_fast.ACCELERATOR,
    "cifar10, cpu": cifar10_fast.CPU,
    "fashion": fashion_mnist.EXPERIMENT,
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_on_a_stand_in(name, tmp_path, monkeypatch, capsys):
    """Two steps on a folder in ImageNet's layout, of a small net, with all else as the recipe has it."""
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / ".cache"))
    # Pages are tested elsewhere.
    monkeypatch.setattr("cnnjax.experiment.write_report", lambda *_, **__: None)
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 3)):
        for kind in ("ant", "bee"):
            (tmp_path / "set" / split / kind).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (40 + number, 44, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / kind / f"{number}.jpg")
    small = ["convnet", "--image-size", "16", "--batch-size", "4", "--steps", "2", "--devices", "1"]
    where = ["--data", f"folder:{tmp_path / 'set'}", "--run-dir", str(tmp_path / "run")]
    experiment_main(RECIPES[name], tmp_path / "results.json", [*small, *where])
    assert "test accuracy" in capsys.readouterr().out
    (row,) = (row for row in read_rows(tmp_path / "run") if "test" in row and row["step"] == 2)
    assert np.isfinite(row["train"]["loss"])


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


def written(folder):
    """The record of an analysis, once its page is seen to be there."""
    assert "<h1>" in (folder / "report.html").read_text()
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def barely_trained(tmp_path_factory):
    """A run of two steps, for experiments that look inside one."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    experiment = Experiment(model="convnet", data="digits", image_size=12, steps=2, batch_size=16, run_dir=folder)
    return run(experiment, console=Console(quiet=True)).fit.run_dir


def test_published_receptive_fields_are_compared(tmp_path, capsys):
    receptive_fields.main(receptive_fields.Options("vgg1[16]", tmp_path))
    found = written(tmp_path)
    # Pool5 of VGG-11, and five pools of VGG-16, with three numbers each.
    assert (found["models"], found["equal_to_published"]) == (2, "18 of 18")
    assert "18 of 18 published numbers are equal" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no model matches 'vgg7'"):
        receptive_fields.main(receptive_fields.Options("vgg7", tmp_path))


def test_published_costs_are_compared(tmp_path):
    cost_table.main(cost_table.Options("resnet20", tmp_path))
    found = written(tmp_path)
    assert (found["parameters_as_published"], found["macs_as_published"]) == ("1 of 1", "1 of 1")
    (costs,) = found["costs"]
    assert (costs["parameters"], costs["macs_as_published"]) == (269_722, True)
    assert 0.05 < costs["on_padding"] < 0.2


def test_windows_without_gain_are_found(tmp_path):
    options = architecture_search_by_receptive_field.Options(("vgg16",), (32, 224), tmp_path)
    architecture_search_by_receptive_field.main(options)
    small, large = written(tmp_path)["windows"]
    # VGG-16's thirteen convolutions, five pools and the dense layer after them: all gain at 224, where pool5 sees 212.
    assert (large["windows"], large["gaining"], large["macs_wasted"]) == (19, 19, 0)
    assert small["gaining"] < small["windows"]
    with pytest.raises(ValueError, match="too small"):
        architecture_search_by_receptive_field.main(dataclasses.replace(options, sizes=(8,)))


def test_effective_fields_follow_the_root(tmp_path, barely_trained, monkeypatch):
    monkeypatch.setattr(effective_receptive_fields, "DEPTHS", (1, 4))
    options = effective_receptive_fields.Options(run_dir=barely_trained, examples=4, zoo=(), out=tmp_path)
    effective_receptive_fields.main(options)
    found = written(tmp_path)
    assert found["largest_deviation_from_the_law"] < 1e-3
    assert [row["net"] for row in found["training"]] == ["before training"] * 2 + ["after training"] * 2
    assert (tmp_path / "after_training.png").exists()


def test_feature_maps_of_fresh_weights_and_of_a_run(tmp_path, barely_trained):
    Image.new("RGB", (50, 40), (200, 30, 90)).save(tmp_path / "own.png")
    fresh = feature_maps.Options(model="lenet5", picture=tmp_path / "own.png", out=tmp_path / "fresh")
    feature_maps.main(fresh)
    found = written(tmp_path / "fresh")
    assert found["net"] == "lenet5 with fresh weights, on noise, on own.png"
    assert {"filters.png", "maps_c1.png", "statistics.csv"} <= {file.name for file in (tmp_path / "fresh").iterdir()}
    feature_maps.main(feature_maps.Options(run_dir=barely_trained, examples=8, out=tmp_path / "run"))
    found = written(tmp_path / "run")
    assert found["pictures"] == 8
    assert 0 <= found["similarity_of_first_and_last_layer"] <= 1


def test_invariance_of_a_run(tmp_path, barely_trained):
    invariance.main(invariance.Options(run_dir=barely_trained, examples=4, layers=("pool1",), out=tmp_path))
    found = written(tmp_path)
    assert set(found["lowest_accuracy"]) == {
        *("shift", "rotation", "scale", "reflection", "viewpoint", "illumination"),
        *("deformation", "occlusion", "clutter", "pixelation", "noise"),
    }
    assert (tmp_path / "equivariance.png").exists()


def test_attribution_of_a_run(tmp_path, barely_trained):
    attribution.main(attribution.Options(run_dir=barely_trained, examples=2, ascent=2, out=tmp_path))
    found = written(tmp_path)
    assert found["incompleteness_of_integrated_gradients"] < 0.05
    assert set(found["rank_correlation_with_all_new"]) == {
        *("saliency", "gradient x input", "guided backpropagation", "Grad-CAM")
    }


def test_windows_of_other_sizes_are_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_size, "VARIANTS", {"3x3": (3, 1), "two 3x3": (3, 2)})
    monkeypatch.setattr(kernel_size, "SIZE", 12)
    monkeypatch.setattr(kernel_size, "train", lambda model, experiment: 0.5 + experiment.seed / 4)
    kernel_size.main(kernel_size.Options(seeds=2, epochs=1, out=tmp_path))
    one, two = written(tmp_path)["variants"]
    assert (one["accuracy"], one["deviation"]) == (0.625, pytest.approx(0.25 / 2**0.5))
    assert one["convolution_weights"] == (9 + 1) * 16 + (9 * 16 + 1) * 32
    assert two["convolution_weights"] == one["convolution_weights"] + (9 * 16 + 1) * 16 + (9 * 32 + 1) * 32
    with pytest.raises(ValueError, match="seeds=0"):
        kernel_size.main(kernel_size.Options(seeds=0))


def test_a_net_with_another_window_is_trained():
    experiment = Experiment(model="convnet", data="digits", image_size=12, steps=2, batch_size=16)
    accuracy = kernel_size.train(models.create("convnet", kernel_size=5, features=(4,), hidden=()), experiment)
    assert 0 <= accuracy <= 1


def test_probes_lie_within_the_fields_that_are_read():
    seconds, inside = receptive_field.probe("lenet5", 3)
    assert len(seconds) == 3
    assert all(inside)
    fields = receptive_field.read("lenet5")[1]
    assert fields["c5"].size == (32, 32)
