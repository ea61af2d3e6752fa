"""Faster R-CNN in four steps: what each learns and what stays, proposals in pixels of pictures, and what goes on."""

import io

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from rich.console import Console

from cnnjax import Devices, Experiment, Folder, Net, Optimizer, PictureData, load_run, run
from cnnjax.data import ArraySource, Info
from cnnjax.data.proposals import KeptProposals
from cnnjax.experiment.alternating import _propose
from cnnjax.models import FasterRCNN, FastRCNN
from cnnjax.tasks import DetectionSettings
from cnnjax.train import load_variables, read_rows

pytestmark = pytest.mark.usefixtures("unchecked_types")

TINY = {
    "backbone_options": {"width": 4, "batch_norm": False},
    "features": 8,
    "hidden": 8,
    "drawn_anchors": 16,
    "drawn_regions": 8,
    "train_before": 40,
    "train_after": 20,
    "test_before": 40,
    "test_after": 10,
}


def experiment(folder, net="faster_rcnn_vgg_small", options=None, **changes):
    return Experiment(
        net=Net(net, options=TINY if options is None else options),
        pictures=PictureData("scenes:8:64"),
        task=DetectionSettings(alternate=True),
    ).with_training(
        steps=3,
        batch_size=2,
        optimizer=Optimizer(learning_rate=1e-2),
        devices=Devices(count=1),
        folder=Folder(folder, **changes),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alternating")
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        run(experiment(folder / "run"), console=Console(file=io.StringIO()))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return folder


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def test_trunk_and_proposals_are_shared_in_the_end(trained):
    first, second, third = (load_variables(trained / "run-steps" / str(step))["params"] for step in (1, 2, 3))
    last = load_variables(trained / "run")["params"]
    assert not same(first["backbone"], second["backbone"]), "two trunks before they are one"
    assert same(second["backbone"], third["backbone"])
    assert same(second["backbone"], last["backbone"])
    assert not same(first["rpn"], third["rpn"])
    assert same(third["rpn"], last["rpn"])
    assert same(second["box_head"], third["box_head"])
    assert not same(second["box_head"], last["box_head"])


def test_each_step_is_a_run_of_its_net(trained):
    assert isinstance(load_run(trained / "run-steps" / "2").model, FastRCNN)
    net = load_run(trained / "run")
    assert isinstance(net.model, FasterRCNN)
    assert net.experiment.task.alternate
    row = read_rows(trained / "run-steps" / "1")[-1]["train"]
    # Only what proposals lose is learned in the first step; the rest is told.
    assert row["loss"] == pytest.approx(row["objectness loss"] + row["proposal loss"], rel=1e-5)
    assert row["class loss"] > 0


def test_what_is_done_is_not_done_again(trained):
    kept = {path: path.stat().st_mtime_ns for path in (trained / "run-steps").rglob("*") if path.is_file()}
    before = load_variables(trained / "run")
    run(experiment(trained / "run", resume=True), console=Console(file=io.StringIO()))
    assert {path: path.stat().st_mtime_ns for path in (trained / "run-steps").rglob("*") if path.is_file()} == kept
    assert same(before, load_variables(trained / "run"))


def test_proposals_are_in_pixels_of_the_pictures(trained):
    """Those of a picture of the run's size are the net's own; those of one of twice the size are twice as large."""
    net = load_run(trained / "run-steps" / "1")
    small = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    source = ArraySource({"image": small}, Info("mine", "all", {}))
    found = _propose(net, source, None)
    assert found.shape == (1, 20, 4)
    asked = net.model.clone(test_before=40, test_after=20)

    def own(picture):
        regions = asked.apply(net.variables, net.prepare(jnp.asarray(picture)[None])).regions
        return np.where(regions.present[0][:, None], regions.boxes[0], 0)

    np.testing.assert_allclose(found[0], own(small[0]), atol=1e-3)
    example = KeptProposals(source, found)[0]
    np.testing.assert_array_equal(example["proposals"], found[0])
    large = np.random.default_rng(1).integers(0, 256, (1, 128, 128, 3), np.uint8)
    found = _propose(net, ArraySource({"image": large}, Info("mine", "all", {})), None)
    np.testing.assert_allclose(found[0], 2 * own(net.read({"image": large[0]}, 0)["image"]), atol=2e-3)


@pytest.mark.parametrize(
    ("net", "folder", "message"),
    [
        ("ssd_small", "run", r"alternate is for the Faster R-CNN of the paper, and the net is 'ssd_small'"),
        ("faster_rcnn_vgg_small", None, r"alternate takes four runs.*name its folder \(--run-dir\)"),
    ],
)
def test_what_cannot_alternate_says_why(net, folder, message, tmp_path):
    place = None if folder is None else tmp_path / folder
    with pytest.raises(ValueError, match=message):
        run(experiment(place, net, {}), console=Console(file=io.StringIO()))
