"""The page of a run, for tasks and nets that the report has never heard of."""

import csv
import dataclasses
import io
import re
from html import escape

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax import layers
from cnnjax.data import ArraySource, Info
from cnnjax.report.run_report import write_run
from cnnjax.settings import Devices, Folder, Optimizer, Training
from cnnjax.tasks import Classification
from cnnjax.train import fit
from cnnjax.view import figures
from tests.train.toy_tasks import Segmentation

generator = np.random.default_rng(0)
HOSTILE = "<script>alert(1)</script>&\"'"


def floats(batch):
    return batch | {"image": batch["image"].astype(jnp.float32) / 255}


def report(folder, net, task, arrays, /, *, prepare=floats, **changes):
    """Two steps on one device, and the page they leave."""
    source = ArraySource(arrays, Info(HOSTILE, "all", {}))
    settings = {"steps": 2, "batch_size": 4, "optimizer": Optimizer("momentum", 1e-3), "devices": Devices(count=1)}
    training = Training(**(settings | changes), folder=Folder(folder))
    result = fit(net, task, source, source, training, prepare=prepare, console=Console(file=io.StringIO()))
    path = write_run(result, task, model=net, prepare=prepare)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def pictures(page):
    return re.findall(r'<img [^>]*alt="(.*?)"', page)


def pixels(channels, count=8, size=4):
    return generator.integers(0, 255, (count, size, size, channels)).astype(np.uint8)


def labels(count=8):
    return (np.arange(count) % 2).astype(np.int32)


class PixelNet(nn.Module):
    @nn.compact
    def __call__(self, images, *, train):
        return layers.Conv(2, (3, 3), name="conv")(nn.relu(layers.Conv(5, (3, 3), name="stem")(images)))


@dataclasses.dataclass(frozen=True)
class Points(Classification):
    """Classifies points of the plane."""

    def inputs(self, batch, *, train):
        return batch["point"]

    def draw(self, batch, predictions):
        return {}


class PointNet(nn.Module):
    @nn.compact
    def __call__(self, points, *, train=False):
        return layers.Dense(2, name="out")(points)


class Deep(nn.Module):
    """Twenty-five layers that look at pictures of any number of channels, then the classes."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = images
        for number in range(25):
            x = layers.Conv(2, (1, 1), name=f"c{number:02}")(x)
        return layers.Dense(2, name="out")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation") / "run"
    maps = generator.integers(0, 2, (8, 4, 4)).astype(np.int32)
    return folder, report(folder, PixelNet(), Segmentation(), {"image": pixels(1), "map": maps})


def test_a_segmentation_task_draws_for_itself(segmentation):
    folder, page = segmentation
    assert headings(page) == [
        *("Result", "Learning curves", "Layers", "Receptive fields"),
        *("Filters and feature maps", "Predictions", "Settings"),
    ]
    assert pictures(page)[-1] == "Maps beside predictions"
    assert (folder / "analysis" / "maps_beside_predictions.png").read_bytes()[:4] == b"\x89PNG"
    assert "test pixel_accuracy" in page


def test_layers_are_saved_with_hand_known_numbers(segmentation):
    folder, _ = segmentation
    with (folder / "analysis" / "layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = ("layer", "shape", "params", "macs", "activations", "receptive_field", "stride", "start")
    assert [tuple(row[name] for name in known) for row in rows] == [
        # 5 * (9 + 1); 16 * 5 * 9; 16 * 5
        ("stem", "1x4x4x5", "50", "720", "80", "3", "1", "-1"),
        # 2 * (5 * 9 + 1); 16 * 2 * 9 * 5; 16 * 2
        ("conv", "1x4x4x2", "92", "1440", "32", "5", "1", "-2"),
    ]
    assert {path.name for path in (folder / "analysis").iterdir()} >= {
        *("layers.json", "learning_curve_pixel_accuracy.png", "receptive_fields.png"),
        *("filters.png", "maps_stem.png", "maps_conv.png"),
    }


def test_inputs_that_are_no_pictures_have_no_layer_sections(tmp_path):
    arrays = {"point": generator.normal(size=(8, 2)).astype(np.float32), "label": labels()}
    page = report(tmp_path / "run", PointNet(), Points(("in", "out")), arrays, prepare=lambda batch: batch)
    assert headings(page) == ["Result", "Learning curves", "Settings"]
    assert pictures(page) == ["loss", "accuracy", "learning_rate", "examples_per_second"]
    assert not (tmp_path / "run" / "analysis" / "layers.csv").exists()


@pytest.mark.parametrize("channels", [2, 5])
def test_pictures_of_other_channels_have_a_page(tmp_path, channels):
    net, task = PixelNet(), Segmentation()
    maps = generator.integers(0, 2, (8, 4, 4)).astype(np.int32)
    page = report(tmp_path / "run", net, task, {"image": pixels(channels), "map": maps})
    assert "Receptive fields on the first test picture" in pictures(page)


def test_deep_nets_and_pictures_of_four_channels(tmp_path, monkeypatch):
    shown, draw = {}, figures.feature_maps

    def noted(maps, *, name, channel_names, **options):
        shown[name] = channel_names
        return draw(maps, name=name, channel_names=channel_names, **options)

    monkeypatch.setattr(figures, "feature_maps", noted)
    task = Classification(("a", "b"))
    page = report(tmp_path / "run", Deep(), task, {"image": pixels(4), "label": labels()})
    # The 25 convolutions, the mean and the dense layer.
    drawn = [alt.removeprefix("Feature maps of ") for alt in pictures(page) if alt.startswith("Feature maps of ")]
    assert len(drawn) == len({*drawn}) == 16
    assert (drawn[0], drawn[-1]) == ("c00", "out")
    assert "16 of 27 layers." in page
    assert "First-layer filters, c00" in pictures(page)
    assert shown["out"] == ("a", "b")  # the classes stand under the logits
    assert set(shown.values()) == {(), ("a", "b")}
    assert "Receptive fields on the first test picture" in pictures(page)
    assert {"Confusion matrix", "Most confused examples"} <= {*pictures(page)}


def test_hostile_names_are_escaped(tmp_path):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            return layers.Dense(2, name="<img src=x>")(images.mean((1, 2)))

    arrays = {"image": pixels(1), "label": labels()}
    page = report(tmp_path / "run", Net(), Classification((HOSTILE, "$x^{$")), arrays)
    assert f"<h1>Net on {escape(HOSTILE)}</h1>" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert escape("<img src=x>") in page
    assert escape(HOSTILE) in page.split("<h2>Settings</h2>")[1]


def test_the_page_names_the_settings(segmentation):
    settings = segmentation[1].split("<h2>Settings</h2>")[1]
    rows = dict(re.findall(r"<tr><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>", settings))
    assert (rows["training.steps"], rows["training.optimizer.name"]) == ("2", "momentum")
    assert rows["versions.jax"] == jax.__version__
    assert "cores" in rows["hardware"]
