"""From settings to a page: on data of any kind, from Python and from disk."""

import dataclasses
import io
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax import analysis
from cnnjax.data import ArraySource, Info
from cnnjax.experiment import Experiment, Net, PictureData, export_run, load_run, run, run_on, running, trained_network
from cnnjax.models import registry
from cnnjax.models.export import load_exported
from cnnjax.settings import Devices, Folder, Objects, Training
from cnnjax.tasks import (
    ClassificationSettings,
    DetectionSettings,
    InstanceSettings,
    LocalizationSettings,
    TaggingSettings,
)
from cnnjax.train import load_variables, read_rows
from tests.data.tiny_sources import write_picture, write_xml


def training(folder, *, resume=False, **changes):
    return Training(
        **({"steps": 2, "batch_size": 4, "devices": Devices(count=1)} | changes), folder=Folder(folder, resume)
    )


def test_classes_are_compared_before_pictures_are_measured():
    class Unread(ArraySource):
        def __getitem__(self, index):
            raise AssertionError("read too early")

    train, test = (
        Unread({"image": np.zeros((4, 8, 8, 1), np.uint8), "label": np.arange(4) % 2}, Info("pets", "all", {}, names))
        for names in (("cat", "dog"), ("cat", "dog", "eel"))
    )
    with pytest.raises(ValueError, match=r"the test data pets \(all\) has other classes, cat, dog, eel, than"):
        run_on(train, test, Experiment())
    with pytest.raises(ValueError, match=r"data pets \(all\) has other classes, cat, dog, eel, than"):
        run_on(train, train, Experiment(), validation_source=test)


LEVELS = np.random.default_rng(0).integers(0, 256, (12, 12, 20, 2)).astype(np.uint8)
SCALES = {
    "bytes": LEVELS,
    "floats to 1": (LEVELS / 255).astype(np.float32),
    "floats to 255": LEVELS.astype(np.float32),
    "floats around 0": (LEVELS / 50 - 2.5).astype(np.float32),
}


class Tiny(nn.Module):
    """A net that is soon compiled."""

    num_classes: int = 2
    dtype: jnp.dtype = jnp.float32
    hidden: int | None = None

    @nn.compact
    def __call__(self, images, train=False):
        features = jnp.concatenate([images.max((1, 2)), jnp.square(images[:, ::3, ::5]).mean((1, 2))], axis=-1)
        if self.hidden is not None:
            features = nn.Dense(self.hidden, name="hidden")(features)
        return nn.Dense(self.num_classes, name="output")(features)


@pytest.fixture(scope="module", params=SCALES)
def on_a_scale(request, tmp_path_factory):
    """A run of two steps on oblong pictures of two channels, on each of the scales that pictures come on."""
    pictures, folder = SCALES[request.param], tmp_path_factory.mktemp("scale") / "run"
    info = Info("my pictures", "all", {}, ("a", "b"))
    source = ArraySource({"image": pictures, "label": np.arange(12) % 2}, info)
    experiment = Experiment(Net("tiny"), training=training(folder))
    console = Console(file=io.StringIO(), width=200)
    with pytest.MonkeyPatch.context() as known:
        known.setitem(registry._ENTRIES, "tiny", registry.Entry(Tiny, {}, (8, 8, 3)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CNNJAX_CACHE", str(folder.parent / "cache"))
            # Pages are tested elsewhere.
            patch.setattr(running, "write_run", lambda *_, **__: None)
            outcome = run_on(source, source, experiment, console=console)
        yield request.param, folder, outcome, console.file.getvalue()


def test_run_folder_exported_file_and_analyses_agree_on_every_scale(on_a_scale, tmp_path):
    scale, folder, outcome, _ = on_a_scale
    pictures = SCALES[scale]
    plain = pictures.astype(np.float64)
    ready = (plain - plain.mean((0, 1, 2))) / plain.std((0, 1, 2))
    expected = np.asarray(Tiny(2).apply(load_variables(folder), jnp.asarray(ready, jnp.float32)), np.float64)
    shares = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    np.testing.assert_allclose(outcome.training.evaluation.predictions["probabilities"], shares, atol=1e-5)

    trained = load_run(folder)
    # Bytes and floats from 0 to 1 are taken for each other.
    for given in [pictures] if scale in ("floats to 255", "floats around 0") else [LEVELS, LEVELS / 255]:
        (maps,) = analysis.feature_maps(trained, given, layers="output").values()
        for found in (trained(given), jax.jit(trained)(given), maps):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    (tmp_path / "file.zip").write_bytes(export_run(folder))
    program, about = load_exported(tmp_path / "file.zip")
    assert (about["dtype"], about["shape"]) == (pictures.dtype.name, ["b", 12, 20, 2])
    limits = {"low": pictures.min(), "high": pictures.max()}
    assert about["pixels"] == {"dtype": pictures.dtype.name, **limits}
    np.testing.assert_allclose(program.call(pictures), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_run_on_data_from_python_says_whose_it_is(on_a_scale):
    scale, folder, _, said = on_a_scale
    assert said.strip().startswith("tiny on my pictures: ")
    saved = json.loads((folder / "config.json").read_text())
    mine, data = {"data": "my pictures", "split": "all"}, saved["data"]
    assert (saved["name"], saved["net"]["name"]) == ("tiny", "tiny")
    assert saved["sources"] == {"training": mine, "validation": None, "test": mine}
    assert (data["shape"], data["pixels"]["dtype"]) == ([12, 20, 2], SCALES[scale].dtype.name)
    assert data["examples"] == {"training": 12, "test": 12}
    trained = load_run(folder)
    assert trained.image_shape == (12, 20, 2)
    with pytest.raises(
        ValueError, match=r"tested on 'my pictures' \(all\), which was given from Python .* source\[0\]"
    ):
        trained.test_pictures(3)


def test_what_is_known_to_be_on_another_scale_is_refused(on_a_scale):
    scale, folder, _, _ = on_a_scale
    trained = load_run(folder)
    for dtype in (bool, np.int64, np.uint16):
        with pytest.raises(
            ValueError, match=f"pictures are {np.dtype(dtype)}; expected uint8 from 0 to 255, or floats"
        ):
            trained(LEVELS.astype(dtype))
    wrong = {
        "bytes": [LEVELS.astype(float), LEVELS / 100 - 1],
        "floats to 1": [LEVELS.astype(float), LEVELS / 100 - 1],
        "floats to 255": [LEVELS, LEVELS / 255, 257.0 * LEVELS],
        "floats around 0": [LEVELS, LEVELS.astype(float)],
    }
    for pictures in wrong[scale]:
        with pytest.raises(ValueError, match=r"pictures (are uint8|have values from .*); expected"):
            trained(pictures)
    # Black on every scale, and nothing is known while a function is traced.
    trained(np.zeros((1, 12, 20, 2), np.float32))
    jax.eval_shape(trained, jax.ShapeDtypeStruct((1, 12, 20, 2), jnp.float32))
    with pytest.raises(
        ValueError, match=r"shape \(12, 20, 2\); expected \(batch, height, width, 2\), and a batch axis"
    ):
        trained(LEVELS[0])
    with pytest.raises(ValueError, match=r"shape \(12, 12, 20, 1\); expected"):
        trained(LEVELS[..., :1])


def test_test_pictures_on_another_scale_than_the_training_pictures_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path))
    experiment = Experiment(Net("convnet"), training=training(tmp_path / "run", steps=1))
    sources = {
        scale: ArraySource({"image": pictures, "label": np.arange(12) % 2}, Info(scale, "all", {}, ("a", "b")))
        for scale, pictures in SCALES.items()
    }
    for train, test in [
        ("bytes", "floats to 1"),
        ("floats to 1", "bytes"),
        ("floats to 1", "floats to 255"),
        ("floats to 255", "floats to 1"),
        ("floats around 0", "floats to 255"),
    ]:
        with pytest.raises(ValueError, match=f"{train} .*all.* holds .* first picture of {test} .* bring both"):
            run_on(sources[train], sources[test], experiment, console=Console(quiet=True))
    assert not (tmp_path / "run").exists()


def test_tagging_from_a_table_to_the_page_and_a_changed_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    rows = ["image,tags"]
    for number in range(20):
        tags = ["bright"] * (number % 2) + ["even"] * (number % 4 == 0) or ["dark"]
        Image.new("L", (32 + number % 3, 32), 100 * (number % 2) + number).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{';'.join(tags)}")
    (tmp_path / "tags.csv").write_text("\n".join(rows))
    pictures = PictureData("csv:tags.csv", image_size=32)
    experiment = Experiment(Net("lenet5"), pictures, TaggingSettings(), training(tmp_path / "run", batch_size=8))
    outcome = run(experiment, console=Console(file=io.StringIO()))
    assert {"loss", "mean_average_precision"} <= outcome.training.evaluation.summary.keys()
    assert read_rows(tmp_path / "run")[-1]["test"] == outcome.training.evaluation.summary
    assert "Average precision by tag" in outcome.report.read_text()
    record = (tmp_path / "run" / "config.json").read_text()
    assert '"bright",' in record
    assert json.loads(record)["data"]["fingerprints"].keys() == {"training", "test"}

    (tmp_path / "tags.csv").write_text("\n".join(rows[:-1]))
    changed = dataclasses.replace(experiment, training=training(tmp_path / "run", resume=True, batch_size=8))
    with pytest.raises(ValueError, match=r"another experiment \(.*data.fingerprints.training: \w+ there, \w+ here"):
        run(changed, console=Console(file=io.StringIO()))


def brightness(count, split, *, flipped=False):
    """Dark and bright pictures; labels may be wrong."""
    labels = np.arange(count) % 2
    pictures = (labels[:, None, None, None] * 150 + np.arange(count)[:, None, None, None] % 50).astype(np.uint8)
    info = Info("brightness", split, {}, ("dark", "bright"))
    return ArraySource({"image": np.broadcast_to(pictures, (count, 8, 8, 1)), "label": (labels + flipped) % 2}, info)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A net that is registered for a test, and a cache of this test's own."""
    monkeypatch.setitem(registry._ENTRIES, "tiny", registry.Entry(Tiny, {}, (8, 8, 3)))
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("tiny", "unchecked_types")
def test_validation_examples_choose_and_the_test_examples_are_reported(tmp_path):
    sources = brightness(16, "train"), brightness(12, "test")
    experiment = Experiment(Net("tiny"), training=training(tmp_path / "run", steps=8))
    screen = io.StringIO()
    outcome = run_on(
        *sources,
        experiment,
        validation_source=brightness(8, "val", flipped=True),
        console=Console(file=screen, width=200),
    )
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["sources"]["validation"] == {"data": "brightness", "split": "val"}
    assert record["data"]["examples"] == {"training": 16, "validation": 8, "test": 12}
    assert (outcome.training.evaluation.split, outcome.training.chosen_on) == ("test", "val")
    assert "validation" in read_rows(tmp_path / "run")[-1]
    page = outcome.report.read_text()
    assert "chosen on the split val; the split test was touched once, at the end" in page
    # Another set of validation examples is another run.
    with pytest.raises(ValueError, match=r"data.fingerprints.validation: \w+ there, \w+ here"):
        run_on(
            *sources,
            dataclasses.replace(experiment, training=training(tmp_path / "run", steps=8, resume=True)),
            validation_source=brightness(8, "val"),
            console=Console(quiet=True),
        )


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("named", "expected"), [(None, "val"), ("val", "val"), ("train[:2]", "train[:2]"), ("test", None)]
)
def test_the_validation_split_of_the_data_is_found_or_named(tmp_path, monkeypatch, named, expected):
    """A folder of pictures in three splits; the same split named for validation and test is only tested on."""
    for split in ("train", "val", "test"):
        for number in range(2):
            folder = tmp_path / split / f"class{number}"
            folder.mkdir(parents=True)
            for place in range(2):
                Image.new("RGB", (8, 8), (100 * number, place, len(split))).save(folder / f"{place}.png")
    given = {}
    monkeypatch.setattr(running, "run_on", lambda *sources, **options: given.update(options, sources=sources))
    run(Experiment(pictures=PictureData(f"folder:{tmp_path}", validation_split=named)))
    assert [source.info.split for source in given["sources"][:2]] == ["train", "test"]
    found = given["validation_source"]
    assert (found and found.info.split) == expected


@pytest.mark.usefixtures("tiny", "unchecked_types")
def test_options_of_the_model_and_other_statistics_of_pixels(tmp_path):
    pictures = PictureData(mean=(0.5,), deviation=(0.25,))
    experiment = Experiment(Net("tiny", {"hidden": 3}), pictures, training=training(tmp_path / "run"))
    sources = brightness(8, "train"), brightness(4, "test")
    outcome = run_on(*sources, experiment, console=Console(quiet=True))
    assert outcome.training.state.params["hidden"]["kernel"].shape == (2, 3)
    trained = load_run(tmp_path / "run")
    assert trained.model.hidden == 3
    np.testing.assert_allclose(trained.prepare(np.full((1, 8, 8, 1), 255, np.uint8)), (1 - 0.5) / 0.25)
    wrong = dataclasses.replace(experiment, pictures=PictureData(mean=(0.5, 0.5, 0.5)))
    with pytest.raises(ValueError, match=r"mean=\(0.5, 0.5, 0.5\), but the pictures have 1 channels; .*--mean 0.5\)"):
        run_on(*sources, wrong, console=Console(quiet=True))
    unknown = Experiment(Net("tiny", {"hiden": 3}))
    with pytest.raises(ValueError, match="model 'tiny' has no option 'hiden'; did you mean hidden"):
        run(unknown)


@pytest.mark.usefixtures("tiny", "unchecked_types")
def test_examples_that_are_also_trained_on_are_counted(tmp_path):
    from cnnjax.data.sources.source import Subset

    whole, screen = brightness(16, "all"), io.StringIO()
    train, test = Subset(whole, np.arange(10), whole.info), Subset(whole, np.arange(8, 16), whole.info)
    experiment = Experiment(Net("tiny"), training=training(tmp_path / "run"))
    run_on(train, test, experiment, console=Console(file=screen, width=200))
    assert "warning: 2 of the 8 test examples are also trained on" in screen.getvalue()


def test_a_network_is_read_where_a_run_is_given(run_dir):
    assert trained_network(run_dir, Experiment()).step == 2


@pytest.mark.usefixtures("tiny", "unchecked_types")
def test_a_network_is_trained_first_where_none_is_given():
    experiment = Experiment(Net("tiny"), training=training(None))
    trained = trained_network(None, experiment, console=Console(quiet=True))
    assert (trained.step, len(trained.classes)) == (2, 10)
    assert trained(np.zeros((1, 32, 32, 1), np.uint8)).shape == (1, 10)


def test_pictures_with_objects_are_opened_as_the_settings_say_and_have_no_class_each(tmp_path):
    for number in range(5):
        write_picture(tmp_path / f"{number}.png", 32, 32)
        write_xml(tmp_path / f"{number}.xml", (32, 32), ("dog", 1, 1, 9, 9), ("cat", 4, 4, 3, 3))
    spelling = f"voc:{tmp_path}"
    strict, dropping = (PictureData(spelling, objects=Objects(invalid=way)) for way in ("refuse", "drop"))
    with pytest.raises(ValueError, match=r"object 2 \(cat\): the box .* is empty"):
        run(Experiment(Net("lenet5"), strict, training=training(tmp_path / "run")))
    words = "has no 'label' for classification: of its pictures it tells boxes, classes, .*; choose a task"
    with pytest.raises(ValueError, match=words):
        run(Experiment(Net("lenet5"), dropping, training=training(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("net", "task", "message"),
    [
        ("resnet9", DetectionSettings, r"'resnet9' has logits of picture, and the task detection takes those of boxes"),
        ("ssd_small", ClassificationSettings, r"'ssd_small' has logits of boxes, and the task classification takes"),
        ("mask_rcnn_small", DetectionSettings, r"logits of instances, .*such as ssd_small, or another task"),
        ("ssd_small", InstanceSettings, r"logits of boxes, .*such as mask_rcnn_small, or another task"),
        ("ssd_small", LocalizationSettings, r"logits of boxes, .*such as resnet18, or another task"),
    ],
)
def test_a_net_and_a_task_that_do_not_fit_are_told(net, task, message):
    with pytest.raises(ValueError, match=message):
        running.check_task(net, task.kind)


def test_nets_and_tasks_that_fit():
    for net, kind in (
        ("ssd_small", "detection"),
        ("mask_rcnn_small", "instances"),
        ("unet", "segmentation"),
        ("resnet9", "localization"),
        ("ssd_small", "one of my own"),
    ):
        running.check_task(net, kind)
