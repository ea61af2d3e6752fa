"""From settings to a task, an augmentation and a page."""

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
from cnnjax.data.pictures.pixels import Pixels
from cnnjax.experiment import check_augmentation, export_run, make_augment, make_task, run, run_on
from cnnjax.models import registry
from cnnjax.models.export import load_exported
from cnnjax.tasks import Classification, Tagging
from cnnjax.train import Augmentation, Experiment, load_run, load_variables, read_rows

PICTURES = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
LABELLED = ArraySource({"image": PICTURES, "label": np.array([0, 0, 0, 1])}, Info("mine", "train", {}, ("a", "b")))
TAGS = np.array([[1, 0], [1, 1], [0, 1], [0, 1]], np.float32)
TAGGED = ArraySource({"image": PICTURES, "tags": TAGS}, Info("mine", "train", {}, ("a", "b")))
BATCH = {
    "image": jnp.asarray(PICTURES),
    "label": jnp.asarray([0, 0, 0, 1]),
    "id": jnp.arange(4),
    "valid": jnp.ones(4, bool),
}


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


LEVELS = np.random.default_rng(0).integers(0, 256, (12, 12, 20, 2)).astype(np.uint8)
SCALES = {
    "bytes": LEVELS,
    "floats to 1": (LEVELS / 255).astype(np.float32),
    "floats to 255": LEVELS.astype(np.float32),
    "floats around 0": (LEVELS / 50 - 2.5).astype(np.float32),
}


class Tiny(nn.Module):
    """A net that is soon compiled."""

    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, train=False):
        features = jnp.concatenate([images.max((1, 2)), jnp.square(images[:, ::3, ::5]).mean((1, 2))], axis=-1)
        return nn.Dense(self.num_classes, name="output")(features)


@pytest.fixture(scope="module", params=SCALES)
def on_a_scale(request, tmp_path_factory):
    """A run of two steps on oblong pictures of two channels, on each of the scales that pictures come on."""
    pictures, folder = SCALES[request.param], tmp_path_factory.mktemp("scale") / "run"
    info = Info("my pictures", "all", {}, ("a", "b"))
    source = ArraySource({"image": pictures, "label": np.arange(12) % 2}, info)
    experiment = Experiment(model="tiny", steps=2, batch_size=4, devices=1, run_dir=folder)
    console = Console(file=io.StringIO(), width=200)
    with pytest.MonkeyPatch.context() as known:
        known.setitem(registry._ENTRIES, "tiny", registry.Entry(Tiny, {}, (8, 8, 3)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CNNJAX_CACHE", str(folder.parent / "cache"))
            # Pages are tested elsewhere.
            patch.setattr("cnnjax.experiment.write_report", lambda *_, **__: None)
            outcome = run_on(source, source, experiment, console=console)
        yield request.param, folder, outcome, console.file.getvalue()


def test_run_folder_exported_file_and_analyses_agree_on_every_scale(on_a_scale, tmp_path):
    scale, folder, outcome, _ = on_a_scale
    pictures = SCALES[scale]
    plain = pictures.astype(np.float64)
    ready = (plain - plain.mean((0, 1, 2))) / plain.std((0, 1, 2))
    expected = np.asarray(Tiny(2).apply(load_variables(folder), jnp.asarray(ready, jnp.float32)), np.float64)
    shares = np.exp(expected) / np.exp(expected).sum(-1, keepdims=True)
    np.testing.assert_allclose(outcome.fit.evaluation.predictions["probabilities"], shares, atol=1e-5)

    trained = load_run(folder)
    # Bytes and floats from 0 to 1 are taken for each other.
    for given in [pictures] if scale in ("floats to 255", "floats around 0") else [LEVELS, LEVELS / 255]:
        (maps,) = analysis.feature_maps(trained, given, names="output").values()
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
    settings, record = saved["experiment"], saved["record"]
    named = (settings["model"], settings["data"], settings["train_split"], settings["test_split"])
    assert named == ("tiny", "my pictures", "all", "all")
    assert (record["shape"], record["pixels"]["dtype"]) == ([12, 20, 2], SCALES[scale].dtype.name)
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
    experiment = Experiment(model="convnet", steps=1, run_dir=tmp_path / "run")
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
    experiment = Experiment(
        model="lenet5",
        data="csv:tags.csv",
        task="tagging",
        image_size=32,
        steps=2,
        batch_size=8,
        run_dir=tmp_path / "run",
    )
    outcome = run(experiment, console=Console(file=io.StringIO()))
    assert {"loss", "mean_average_precision"} <= outcome.fit.evaluation.summary.keys()
    assert read_rows(tmp_path / "run")[-1]["test"] == outcome.fit.evaluation.summary
    assert "Average precision by tag" in outcome.report.read_text()
    record = (tmp_path / "run" / "config.json").read_text()
    assert '"bright",' in record
    assert "fingerprint of the training data" in record

    (tmp_path / "tags.csv").write_text("\n".join(rows[:-1]))
    with pytest.raises(
        ValueError, match=r"another experiment \(.*fingerprint of the training data: \w+ there, \w+ here"
    ):
        run(dataclasses.replace(experiment, resume=True), console=Console(file=io.StringIO()))
