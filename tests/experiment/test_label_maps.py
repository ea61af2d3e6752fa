"""Segmentation end to end: a run from files, its page, and label maps of pictures of any size, as files too."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy import ndimage

from cnnjax import Devices, Experiment, Folder, Net, Optimizer, PictureData, load_run, run
from cnnjax.cli import main
from cnnjax.experiment.label_maps import LabelMaps
from cnnjax.tasks import SegmentationSettings


def draw(side, random):
    """Two bright squares on a dark ground."""
    labels = np.zeros((side, side), np.uint16)
    for number in (1, 2):
        row, column = random.integers(0, side - 6, 2)
        labels[row : row + 6, column : column + 6] = number
    picture = np.where(labels > 0, 200, 40) + random.integers(-20, 20, (side, side))
    return picture.astype(np.uint8), labels


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for split, number in (("train", 8), ("test", 3)):
        for kind in ("images", "instances"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(number):
            picture, labels = draw(20, random)
            Image.fromarray(picture).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(labels).save(folder / split / "instances" / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(squares, tmp_path_factory):
    experiment = Experiment(
        net=Net("unet", options={"width": 4, "depth": 1, "padding": "mirror", "batch_norm": True}),
        pictures=PictureData(f"masks:{squares}"),
        task=SegmentationSettings(separation=5.0),
    ).with_training(
        steps=40,
        batch_size=4,
        optimizer=Optimizer(learning_rate=1e-2),
        devices=Devices(count=1),
        folder=Folder(tmp_path_factory.mktemp("runs") / "run"),
    )
    outcome = run(experiment, console=Console(file=io.StringIO()))
    return outcome, load_run(outcome.training.run_dir)


def test_it_learns_and_has_a_page(trained):
    outcome, _ = trained
    # Of background alone it would be 0.41.
    assert outcome.training.evaluation.summary["mean_iou"] > 0.5
    page = outcome.report.read_text()
    assert "Confusion of pixels" in page
    assert "Worst examples" in page


def test_pictures_of_the_runs_size_and_others_give_what_the_net_gives(trained):
    _, net = trained
    random = np.random.default_rng(1)
    pictures = [np.repeat(draw(side, random)[0][..., None], 3, axis=-1) for side in (20, 51)]
    pictures.append(pictures[1][:33, :46])
    found = net.predict(pictures)
    for picture, labels in zip(pictures, found.labels, strict=True):
        np.testing.assert_array_equal(labels, np.asarray(net(picture[None])).argmax(-1)[0])
    assert [record["objects"] for record in found.rows()] == [ndimage.label(one)[1] for one in found.labels]
    assert found.rows()[0]["picture"] == "0"
    assert len(found.draw().axes) == 3


def test_the_first_test_pictures_come_with_their_masks(trained):
    _, net = trained
    pictures, masks = net.test_pictures(2)
    assert pictures.shape == (2, 20, 20, 3)
    source = net.open_split()
    np.testing.assert_array_equal(masks, [source[index]["masks"] for index in range(2)])


def test_files_are_written(trained, squares, tmp_path, capsys):
    outcome, net = trained
    main(["predict", str(outcome.training.run_dir), str(squares / "test" / "images"), "--out", str(tmp_path / "out")])
    assert "written to" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        *(f"{index}_{kind}.png" for index in range(3) for kind in ("labels", "objects", "overlay")),
        "predictions.csv",
    ]
    found = net.predict(squares / "test" / "images")
    for kind, mode, expected in (("labels", "P", found.labels), ("objects", "I;16", found.objects)):
        with Image.open(tmp_path / "out" / f"1_{kind}.png") as image:
            assert image.mode == mode
            np.testing.assert_array_equal(np.asarray(image), expected[1])
    with Image.open(tmp_path / "out" / "1_overlay.png") as image:
        assert (image.size, image.mode) == ((20, 20), "RGB")
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert [int(row["objects"]) for row in rows] == [int(one.max()) for one in found.objects]


def test_names_that_come_twice_are_numbered(tmp_path):
    maps = LabelMaps(
        names=("a/1.png", "b/1.jpg"),
        pictures=(np.zeros((2, 3, 1), np.uint8),) * 2,
        labels=(np.full((2, 3), 300), np.zeros((2, 3), np.int32)),
        records=({"share": 1.0}, {"share": 0.0}),
        classes=tuple(map(str, range(301))),
    )
    maps.write(tmp_path)
    assert {path.name for path in tmp_path.glob("*_labels.png")} == {"1_labels.png", "1_1_labels.png"}
    # More classes than a byte holds.
    with Image.open(tmp_path / "1_labels.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.full((2, 3), 300))


def test_a_file_is_no_place_for_label_maps(trained, squares, tmp_path, capsys):
    outcome, _ = trained
    with pytest.raises(SystemExit):
        main(["predict", str(outcome.training.run_dir), str(squares / "test" / "images"), "--out", "labels.csv"])
    assert "expected a folder, since the run labels pixels" in capsys.readouterr().err


@pytest.mark.usefixtures("unchecked_types")
def test_pixels_need_a_net_of_pixels_and_classes_need_labels(squares, tmp_path):
    console = Console(file=io.StringIO())
    one = Experiment(net=Net("convnet"), pictures=PictureData(f"masks:{squares}")).with_training(
        steps=1, batch_size=4, devices=Devices(count=1), run_dir=tmp_path / "one"
    )
    with pytest.raises(ValueError, match="has no 'label' for classification"):
        run(one, console=console)
    two = Experiment(
        net=Net("convnet"), pictures=PictureData(f"masks:{squares}"), task=SegmentationSettings()
    ).with_training(steps=1, batch_size=4, devices=Devices(count=1), run_dir=tmp_path / "two")
    with pytest.raises(ValueError, match=r"logits have shape .*; expected \(batch, rows, columns, 2\): take a net"):
        run(two, console=console)
