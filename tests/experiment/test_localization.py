"""Localisation end to end: a run with its page, the same net again, boxes in pictures of any size, commands."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax import Devices, Experiment, Folder, Net, Optimizer, PictureData, evaluate, load_run, run
from cnnjax.cli import main
from cnnjax.experiment.found_objects import FoundObjects
from cnnjax.tasks import Localization, LocalizationSettings

DATA = "scenes:16:32"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    experiment = Experiment(
        net=Net("convnet", options={"features": [4, 8], "hidden": [8]}),
        pictures=PictureData(DATA),
        task=LocalizationSettings("giou"),
    ).with_training(
        steps=4,
        batch_size=8,
        optimizer=Optimizer(learning_rate=1e-2),
        devices=Devices(count=1),
        folder=Folder(tmp_path_factory.mktemp("runs") / "run"),
    )
    outcome = run(experiment, console=Console(file=io.StringIO()))
    return outcome, load_run(outcome.training.run_dir)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A wide and a high picture."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, sides in (("wide", (40, 100)), ("high", (90, 50))):
        Image.fromarray(random.integers(0, 256, (*sides, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def test_it_has_numbers_and_a_page(trained):
    outcome, _ = trained
    summary = outcome.training.evaluation.summary
    assert set(summary) == {"loss", "class loss", "box loss", "accuracy", "mean_iou", "iou50", "correct"}
    assert all(np.isfinite(value) for value in summary.values())
    assert outcome.training.best_score <= 1
    page = outcome.report.read_text(encoding="utf-8")
    for caption in ("Examples", "Worst examples", "Confusion matrix"):
        assert f"{caption}" in page


def test_the_net_is_made_again_with_all_its_outputs(trained):
    outcome, net = trained
    assert isinstance(net.task, Localization)
    assert (net.task, net.task.box_loss) == (outcome.task, "giou")
    assert net.model.num_classes == len(net.classes) + 4 == 7
    # The data is opened by the record, and gives the numbers of the run, of the same step.
    best = load_run(outcome.training.run_dir, step=outcome.training.evaluation.step)
    again = evaluate(best, best.open_split()).summary
    assert again == pytest.approx(outcome.training.evaluation.summary, rel=1e-5)


def test_boxes_are_in_pixels_of_their_own_picture(trained, files):
    """They are stretched as the picture was shrunk: what the net says of the small one, times the ratio of sides."""
    _, net = trained
    found = net.predict([files])
    assert isinstance(found, FoundObjects)
    assert [len(boxes) for boxes in found.boxes] == [1, 1]
    for picture, boxes, scores, labels in zip(found.pictures, found.boxes, found.scores, found.labels, strict=True):
        height, width = picture.shape[:2]
        small = net.read({"image": picture}, 0)["image"]
        numbers = np.asarray(net(small[None]))[0].astype(np.float64)
        x, y = width / 2 + width * numbers[3] / 10, height / 2 + height * numbers[4] / 10
        half = np.array([width * np.exp(numbers[5] / 5), height * np.exp(numbers[6] / 5)]) / 2
        expected = np.clip([x - half[0], y - half[1], x + half[0], y + half[1]], 0, [width, height, width, height])
        np.testing.assert_allclose(boxes[0], expected, rtol=1e-4, atol=1e-3)
        shares = np.exp(numbers[:3]) / np.exp(numbers[:3]).sum()
        assert labels[0] == shares.argmax()
        assert scores[0] == pytest.approx(shares.max(), rel=1e-4)


def test_every_picture_has_its_box_drawn_however_unsure(trained, files):
    _, net = trained
    found = net.predict([files])
    assert found.least_score == 0
    for number, picture in enumerate(found.pictures):
        drawn = found.drawn(number)
        factor = drawn.shape[0] // picture.shape[0]
        plain = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        assert (drawn != plain).any()


def test_the_commands(trained, files, tmp_path, capsys):
    outcome, _ = trained
    folder = str(outcome.training.run_dir)
    main(["evaluate", folder, "--out", str(tmp_path / "numbers.json")])
    assert f"test of {DATA}" in capsys.readouterr().out
    assert 0 <= json.loads((tmp_path / "numbers.json").read_text())["mean_iou"] <= 1
    main(["predict", folder, str(files), "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("high_objects.png", "objects.csv", "objects.json", "wide_objects.png"),
    ]
    with (tmp_path / "out" / "objects.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "has no 'boxes' for localization, only"),
        (["--data", DATA, "--box-loss", "hinge"], "hinge"),
    ],
    ids=["no boxes", "no such loss"],
)
def test_what_cannot_be_trained(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["train", "convnet", "--task", "localization", "--run-dir", str(tmp_path / "run"), *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            Net("unet", options={"width": 2, "padding": "zeros"}),
            r"the net gives .*; expected \(4, 7\): .*num_classes=7",
        ),
        (Net("ssd_small"), r"'ssd_small' has logits of boxes.*take another net, such as resnet18"),
    ],
    ids=["pixels", "boxes"],
)
def test_nets_of_other_outputs_are_refused(net, message, tmp_path):
    experiment = Experiment(net=net, pictures=PictureData("scenes:8:32"), task=LocalizationSettings()).with_training(
        steps=1, batch_size=4, devices=Devices(count=1), folder=Folder(tmp_path / "run")
    )
    with pytest.raises(ValueError, match=message):
        run(experiment, console=Console(file=io.StringIO()))
