"""Tasks of other kinds through `cnnjax.fit`, page included: a detector, a net of two stages, points of the plane."""

import io
import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import cnnjax
from cnnjax import Devices, Folder, Optimizer, Training, layers, models
from cnnjax.data import ArraySource, Info
from cnnjax.train import load_variables, read_rows
from tests.train.toy_tasks import Detection, Regression, TwoStages

pytestmark = pytest.mark.usefixtures("unchecked_types")


def fit(folder, model, task, arrays, tested, *, resume=False, prepare=lambda batch: batch, **changes):
    basic = {"batch_size": 16, "optimizer": Optimizer("adam", 1e-2), "devices": Devices(count=1)}
    screen = io.StringIO()
    result = cnnjax.fit(
        model,
        task,
        ArraySource(arrays, Info("mine", "train", {})),
        ArraySource(tested, Info("mine", "test", {})),
        Training(**(basic | changes), folder=Folder(folder, resume)),
        prepare=prepare,
        console=Console(file=screen, width=200),
    )
    return result, (folder / "report.html").read_text(encoding="utf-8"), screen.getvalue()


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def squares(count, seed):
    """Pictures with one or two bright squares, and their boxes, left, top, right, bottom; the rest is padding."""
    generator = np.random.default_rng(seed)
    pictures, boxes = generator.integers(0, 40, (count, 16, 16, 1)), np.zeros((count, 3, 4), np.float32)
    present = np.arange(3) < generator.integers(1, 3, count)[:, None]
    for picture, of_picture, there in zip(pictures, boxes, present, strict=True):
        for place, row in enumerate(of_picture[there]):
            # Of two, one is in the left half and the other in the right.
            left, top = 8 * place + generator.integers(0, 4), generator.integers(0, 12)
            picture[top : top + 4, left : left + 4] = 200
            row[:] = of_picture[place] = left, top, left + 4, top + 4
    return {"image": pictures.astype(np.uint8), "boxes": boxes, "present": present}


class Detector(nn.Module):
    """Any architecture as a backbone, with a convolution on each of its maps."""

    backbone: str
    stages: tuple[str, ...]

    @nn.compact
    def __call__(self, images, *, train=False):
        backbone = models.create(self.backbone, num_classes=None, name="backbone")
        maps = backbone(images, train=train, stages=self.stages)
        outputs = {}
        for name, x in maps.items():
            x = nn.relu(layers.Conv(16, (3, 3), name=f"hidden_{name}")(x))
            outputs[name] = layers.Conv(5, (3, 3), name=f"head_{name}")(x)
        return outputs


def standardised(batch):
    return batch | {"image": batch["image"].astype(jnp.float32) / 128 - 0.5}


@pytest.mark.parametrize(
    ("backbone", "stages", "epochs"),
    [("convnet", (("pool1", 2), ("pool2", 4)), 8.0), ("resnet20", (("stage1", 1),), 3.0)],
)
def test_a_detector_on_the_stages_of_a_backbone(tmp_path, backbone, stages, epochs):
    model = Detector(backbone, tuple(name for name, _ in stages))
    data = squares(96, 0), squares(20, 1)
    result, page, said = fit(
        tmp_path / "run", model, Detection(stages), *data, epochs=epochs, prepare=standardised, accumulate=2
    )
    rows = read_rows(tmp_path / "run")
    # The parts of the loss are the rows of training, and boxes are matched in the test alone.
    assert all(row["train"].keys() == {"objectness", "box"} for row in rows)
    assert all(row["test"].keys() == {"mean_overlap"} for row in rows)
    assert rows[-1]["train"]["objectness"] < 0.7 * rows[0]["train"]["objectness"]
    assert rows[-1]["train"]["box"] < rows[0]["train"]["box"]
    assert result.evaluation.predictions["boxes"].shape == (20, 4, 4)
    assert result.best_score == max(row["test"]["mean_overlap"] for row in rows)
    assert rows[-1]["test"]["mean_overlap"] > 0.25
    assert rows[0]["test"]["mean_overlap"] < 0.1
    assert "multiply-accumulates" in said
    assert headings(page)[-2:] == ["Predictions", "Settings"]
    assert "The first picture with its surest box" in page
    # Nothing of the backbone is there after its last stage.
    assert "output" not in load_variables(tmp_path / "run")["params"]["backbone"]


class Proposing(nn.Module):
    """Looks at parts of a map: in training about the boxes that it is given, else on a grid."""

    @nn.compact
    def __call__(self, inputs, *, train=False):
        maps = nn.relu(layers.Conv(8, (3, 3), name="stem")(inputs["image"]))
        if train:
            shift = jax.random.uniform(self.make_rng("proposals"), inputs["boxes"].shape[:2], minval=-1, maxval=1)
            proposals = inputs["boxes"] + shift[..., None]
        else:
            corners = jnp.stack(jnp.meshgrid(*2 * [jnp.arange(0.0, 16.0, 4.0)]), axis=-1).reshape(-1, 2)
            grid = jnp.concatenate([corners, corners + 4], axis=-1)
            proposals = jnp.broadcast_to(grid, (maps.shape[0], *grid.shape))
        places = (jnp.arange(16.0) + 0.5)[None, None]
        x, y = ((places >= proposals[..., low, None]) & (places < proposals[..., low + 2, None]) for low in (0, 1))
        inside = (y[..., :, None] & x[..., None, :]).astype(jnp.float32)
        pooled = jnp.einsum("bnhw,bhwc->bnc", inside, maps) / jnp.maximum(inside.sum((2, 3))[..., None], 1.0)
        return {"proposals": proposals, "logits": layers.Dense(2, name="head")(pooled)}


def marked(count, seed):
    """A square on a line of the grid, bright or striped."""
    generator = np.random.default_rng(seed)
    labels, corners = generator.integers(0, 2, count), 4 * generator.integers(0, 4, (count, 2))
    pictures = generator.integers(0, 20, (count, 16, 16, 1))
    for picture, label, (left, top) in zip(pictures, labels, corners, strict=True):
        picture[top : top + 4, left : left + 4] = 220 if label else np.tile([[220], [0]], (2, 4))[..., None]
    boxes = np.concatenate([corners, corners + 4], -1)[:, None].astype(np.float32)
    return {"image": pictures.astype(np.uint8), "label": labels.astype(np.int32), "boxes": boxes}


def test_a_model_of_two_stages_is_given_its_targets_in_training_alone(tmp_path):
    data, options = (
        (marked(64, 0), marked(30, 1)),
        {"steps": 60, "prepare": standardised, "optimizer": Optimizer("adam", 5e-2)},
    )
    result, page, said = fit(tmp_path / "run", Proposing(), TwoStages(), *data, **options)
    assert result.evaluation.predictions["proposals"].shape == (30, 16, 4)
    assert read_rows(tmp_path / "run")[-1]["train"]["class"] < 0.3 < read_rows(tmp_path / "run")[0]["train"]["class"]
    # What is not one picture has no layers on the page, and no multiply-accumulates in the log.
    assert headings(page) == ["Result", "Learning curves", "Settings"]
    assert "multiply-accumulates" not in said
    again, _, _ = fit(tmp_path / "run", Proposing(), TwoStages(), *data, resume=True, **options)
    assert again.evaluation.summary == result.evaluation.summary


class Plane(nn.Module):
    @nn.compact
    def __call__(self, points, *, train=False):
        x = nn.tanh(layers.Dense(16, name="hidden")(points))
        return layers.Dense(1, name="height")(x)[:, 0]


def hills(count, seed):
    points = np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)
    return {"point": points, "height": (points[:, 0] * points[:, 1] + 0.5).astype(np.float32)}


def test_points_of_the_plane_are_learned_without_any_picture(tmp_path):
    result, page, _ = fit(
        tmp_path / "run",
        Plane(),
        Regression(),
        hills(128, 0),
        hills(40, 1),
        epochs=30.0,
        optimizer=Optimizer("adam", 5e-2),
    )
    found = result.evaluation.summary["mean_squared_error"]
    # Always saying 0.5 errs by the variance of the product, a ninth.
    assert found < 0.1 * 1 / 9
    assert result.best_score == pytest.approx(
        -min(row["test"]["mean_squared_error"] for row in read_rows(tmp_path / "run"))
    )
    assert headings(page) == ["Result", "Learning curves", "Predictions", "Settings"]
    assert "Heights beside predictions" in page
    assert json.loads((tmp_path / "run" / "result.json").read_text())["mean_squared_error"] == pytest.approx(found)
