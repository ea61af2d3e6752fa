"""R-CNN's run end to end: its last stages, how they go on, what they cannot do, and predictions of files."""

import io
import shutil

import jax
import jaxtyping
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax import Devices, Experiment, Folder, Net, Optimizer, PictureData, evaluate, load_run, run
from cnnjax.data.proposals import cache
from cnnjax.experiment import rcnn
from cnnjax.experiment.rcnn import Regions, _pairs
from cnnjax.settings import Proposals
from cnnjax.tasks import DetectionSettings
from cnnjax.train import load_variables, read_rows

pytestmark = pytest.mark.usefixtures("unchecked_types")

TINY = {
    "backbone_options": {"width": 4, "batch_norm": True},
    "hidden": 8,
    "crop": 32,
    "context": 2,
    "drawn_regions": 16,
}


def experiment(folder, proposals, **changes):
    return Experiment(
        net=Net("rcnn_small", options=TINY),
        pictures=PictureData("scenes:8:64", proposals=Proposals(most=40, smallest=6, folder=proposals)),
        task=DetectionSettings(),
    ).with_training(
        steps=4,
        batch_size=2,
        optimizer=Optimizer(learning_rate=1e-3),
        devices=Devices(count=1),
        folder=Folder(folder, **changes),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rcnn")
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        outcome = run(experiment(folder / "run", folder / "proposals"), console=Console(file=io.StringIO()))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return outcome, folder


def test_svms_and_regressions_are_in_the_last_checkpoint(trained):
    outcome, folder = trained
    rows = read_rows(folder / "run")
    assert rows[-1]["step"] == 5
    assert "class loss" in str(rows[0])
    assert "box loss" not in str(rows[0])
    before, after = (load_variables(folder / "run", step=step)["fitted"]["svms"] for step in (4, 5))
    assert (float(before["ready"]), float(after["ready"])) == (0, 1)
    assert not any(leaf.any() for leaf in jax.tree.leaves(before))
    assert np.asarray(after["svm_kernel"]).any(axis=0).all(), "an SVM of each class"
    assert np.isfinite(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(after)])).all()
    assert len(list((folder / "run" / "regions").glob("*/0*.npz"))) == 8
    assert outcome.report.is_file()


def test_stages_that_are_done_are_not_done_again(trained, tmp_path, monkeypatch):
    """The last checkpoint is lost, and half of the features: those are computed anew, and the end is the same."""
    _, folder = trained
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "5")
    kept = next((tmp_path / "run" / "regions").iterdir())
    for index in range(4):
        (kept / f"{index:06}.npz").unlink()
    (kept / "svms.npz").unlink()
    done = []
    regions = rcnn.LastStages._regions
    monkeypatch.setattr(rcnn.LastStages, "_regions", lambda self, *given: done.append(0) or regions(self, *given))
    monkeypatch.setattr(cache, "selective_search", lambda *_, **__: pytest.fail("proposals are kept"))
    again = experiment(tmp_path / "run", folder / "proposals", resume=True)
    run(again, console=Console(file=io.StringIO()))
    assert len(done) == 4
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6),
        load_variables(tmp_path / "run", step=5),
        load_variables(folder / "run", step=5),
    )


def test_it_predicts_and_is_evaluated_as_any_detector(trained, tmp_path):
    outcome, folder = trained
    # In the folder of the cache: a record says nothing of places.
    net = load_run(folder / "run")
    found = evaluate(net, net.open_split("test"))
    assert found.summary["ap50"] == pytest.approx(outcome.training.evaluation.summary["ap50"], abs=1e-6)
    picture = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "one.png")
    objects = net.predict([tmp_path / "one.png"])
    assert objects.boxes[0].shape == (len(objects.scores[0]), 4)
    assert (objects.boxes[0] <= [90, 50, 90, 50]).all()
    assert ((objects.scores[0] > 0) & (objects.scores[0] < 1)).all()


def test_without_any_object_svms_are_refused(tmp_path):
    nothing = Regions(
        np.zeros((2, 3), np.float16),
        np.ones((2, 4), np.float32),
        np.zeros((2, 0), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros(0, int),
        np.zeros(0, int),
        np.zeros((0, 5), np.float32),
    )
    rcnn._save(tmp_path / "0.npz", nothing._asdict())
    stages = rcnn.LastStages(None, None, None, ("one", "other"))
    with pytest.raises(ValueError, match="hold no object that is learned"):
        stages._svms([tmp_path / "0.npz"], lambda: None)


def test_whose_background_and_whose_pairs_regions_are():
    """Of class 0 region 0 is near, of class 1 region 1; region 2 lies on an object that is not learned."""
    overlaps = np.array(
        [[0.9, 0.0, 0.1], [0.0, 0.7, 0.0], [0.1, 0.0, 0.8], [0.29, 0.1, 0.0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    )
    objects = np.arange(12, dtype=np.float32).reshape(3, 4)
    boxes = np.concatenate([np.zeros((4, 4), np.float32), objects])
    regions = Regions(
        np.arange(7, dtype=np.float16)[:, None],
        boxes,
        overlaps,
        objects,
        np.array([0, 1, -1]),
        np.array([0, 1, 4, 5]),
        np.array([[0.0], [1.0], [4.0], [5.0]], np.float32),
    )
    assert regions.background(0).ravel().tolist() == [1, 3, 5]
    assert regions.background(1).ravel().tolist() == [0, 3, 4]
    assert regions.true(0).ravel().tolist() == [4]
    assert regions.true(1).ravel().tolist() == [5]
    pooled, near, theirs = _pairs(regions, 1)
    assert pooled.ravel().tolist() == [1, 5]
    np.testing.assert_array_equal(near, boxes[[1, 5]])
    np.testing.assert_array_equal(theirs, objects[[1, 1]])


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="SVMs are fitted by one process, and there are 2"):
        rcnn.LastStages(None, None, None, ("one",))
