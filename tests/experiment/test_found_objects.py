"""Detection end to end: a run with masks, its page, objects in pictures of any size, files, a program for each size."""

import csv
import io
import json

import jaxtyping
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax import Devices, Experiment, Folder, Net, Optimizer, PictureData, load_run, run
from cnnjax.cli import main
from cnnjax.data.pictures.place import choose_placement
from cnnjax.experiment import export_run
from cnnjax.experiment.found_objects import FoundObjects, _own
from cnnjax.functional.masks import decode_rle
from cnnjax.models.export import load_exported
from cnnjax.tasks import Instances, InstanceSettings

pytestmark = pytest.mark.usefixtures("unchecked_types")

TINY = {
    "backbone_options": {"width": 4, "batch_norm": True},
    "features": 8,
    "hidden": 8,
    "mask_features": 4,
    "mask_depth": 1,
    "drawn_anchors": 16,
    "drawn_regions": 8,
    "train_before": 40,
    "train_after": 20,
    "test_before": 40,
    "test_after": 20,
    "most_detections": 6,
    "score_threshold": 0.0,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    experiment = Experiment(
        net=Net("mask_rcnn_small", options=TINY), pictures=PictureData("scenes:8:64"), task=InstanceSettings()
    ).with_training(
        steps=4,
        batch_size=2,
        optimizer=Optimizer(learning_rate=1e-3),
        devices=Devices(count=1),
        folder=Folder(tmp_path_factory.mktemp("runs") / "run"),
    )
    # Unchecked as the tests below are: a detector has thousands of calls.
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        outcome = run(experiment, console=Console(file=io.StringIO()))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return outcome, load_run(outcome.training.run_dir)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three pictures, one of which is a line of pixels."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, sides in (("wide", (40, 100)), ("high", (90, 50)), ("line", (1, 1000))):
        Image.fromarray(random.integers(0, 256, (*sides, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def test_it_has_numbers_and_a_page(trained):
    outcome, _ = trained
    summary = outcome.training.evaluation.summary
    assert {"ap", "ap50", "voc_ap50", "mask_ap", "mask_ap50", "ap of circle"} <= set(summary)
    assert "objectness loss" in (outcome.training.run_dir / "metrics.jsonl").read_text(encoding="utf-8")
    page = outcome.report.read_text(encoding="utf-8")
    for caption in ("Most wrong examples", "Precision and recall", "Where errors come from", "Confusion of classes"):
        assert caption in page


def test_objects_are_in_pixels_of_their_own_picture(trained, files):
    _, net = trained
    found = net.predict([files])
    assert isinstance(found, FoundObjects)
    assert [name.rsplit("/")[-1] for name in found.names] == ["high.png", "line.png", "wide.png"]
    for picture, boxes, masks in zip(found.pictures, found.boxes, found.masks, strict=True):
        height, width = picture.shape[:2]
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
        assert masks.shape == (len(boxes), height, width)
    assert len(found.boxes[0]) > 0
    assert found.boxes[0][:, 3].max() > 64  # beyond the canvas of 64 pixels


def test_pictures_of_one_size_are_those_of_an_evaluation(trained):
    """Nothing is moved on a picture that has the size of the run's."""
    _, net = trained
    picture = net.open_split()[0]["image"]
    found = net.predict([picture])
    output = net.model.apply(net.variables, net.prepare(picture[None]))
    expected = output.detections()
    count = int(expected.present[0].sum())
    np.testing.assert_allclose(found.boxes[0], expected.boxes[0, :count], atol=1e-4)
    np.testing.assert_allclose(found.scores[0], expected.scores[0, :count], atol=1e-5)


def test_one_program_serves_all_sizes_and_one_more_each_canvas(trained, monkeypatch):
    _, net = trained
    traced, own = [], Instances.predict
    monkeypatch.setattr(Instances, "predict", lambda *given: traced.append(1) or own(*given))
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (20 + side, 70 - side, 3), np.uint8) for side in range(50)]
    net.predict(pictures)
    assert len(traced) == 1
    both = net.predict(pictures[:3] + pictures[-3:], canvases=((64, 48), (48, 64)))
    assert len(traced) == 3
    assert [picture.shape for picture in both.pictures] == [one.shape for one in pictures[:3] + pictures[-3:]]


def test_files_are_written(trained, files, tmp_path):
    _, net = trained
    found = net.predict([files])
    found.write(tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["high_objects.png", "line_objects.png", "objects.csv", "objects.json", "wide_objects.png"]
    told = json.loads((tmp_path / "out" / "objects.json").read_text())
    assert [image["file_name"] for image in told["images"]] == ["high.png", "line.png", "wide.png"]
    total = sum(map(len, found.boxes))
    assert len(told["annotations"]) == total
    first = told["annotations"][0]
    assert first["area"] == decode_rle(first["segmentation"]).sum()
    x, y, width, height = first["bbox"]
    np.testing.assert_allclose([x, y, x + width, y + height], found.boxes[0][0], rtol=1e-5)
    with (tmp_path / "out" / "objects.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == total == len(found.rows())
    assert "highest score" in str(found)
    assert found.draw().axes


def test_the_command_line_predicts(trained, files, tmp_path, capsys):
    outcome, _ = trained
    folder = str(outcome.training.run_dir)
    main(["predict", folder, str(files), "--out", str(tmp_path / "found.json")])
    assert json.loads((tmp_path / "found.json").read_text())["categories"][0]["name"] == "circle"
    assert "written to" in capsys.readouterr().out
    (tmp_path / "taken").write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["predict", folder, str(files), "--out", str(tmp_path / "taken")])
    assert "expected a folder for pictures, or a name in .json or .csv" in capsys.readouterr().err


def test_an_exported_program_gives_detections(trained, tmp_path):
    outcome, net = trained
    (tmp_path / "net.zip").write_bytes(export_run(outcome.training.run_dir))
    program, about = load_exported(tmp_path / "net.zip")
    pictures = np.stack([net.open_split()[index]["image"] for index in range(2)])
    found = program.call(pictures)
    assert set(found) == {"boxes", "scores", "classes", "present", "masks"}
    assert about["classes"] == list(net.classes)
    expected = net.predict(list(pictures))
    for picture in range(2):
        count = int(found["present"][picture].sum())
        np.testing.assert_allclose(found["scores"][picture, :count], expected.scores[picture], atol=1e-5)


def test_a_mask_of_a_box_that_reaches_into_the_padding_is_not_squeezed():
    """By hand: a picture of 20 by 40 is in rows 16 to 48 of the canvas, at a scale of 1.6; the box begins at row 8."""
    placement = choose_placement((20, 40), (64, 64), "letterbox")
    mask = np.zeros((1, 28, 28), np.float32)
    mask[:, 14:] = 1  # its lower half: rows 28 to 48 of the canvas
    said = {
        "boxes": np.array([[0.0, 8, 64, 48]]),
        "scores": np.array([0.9]),
        "classes": np.array([0]),
        "present": np.array([True]),
        "masks": mask,
    }
    found = _own(said, placement, (20, 40, 3))
    np.testing.assert_allclose(found["boxes"], [[0, 0, 40, 20]], atol=1e-5)
    rows = np.flatnonzero(found["masks"][0].any(axis=1))
    # Row 28 is (28 - 16) / 1.6 = 7.5 of the picture; a mask may come out up to a pixel larger.
    assert 7 - 1 <= rows[0] <= 8
    assert rows[-1] == 19
