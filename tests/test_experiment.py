"""From settings to a task, an augmentation and a page."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax import analysis, models
from cnnjax.data import ArraySource, Info
from cnnjax.experiment import export_run, make_augment, make_task, run, run_on
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


def test_tasks_take_their_classes_and_weights_from_the_data():
    assert make_task(LABELLED, Experiment(label_smoothing=0.1)) == Classification(("a", "b"), 0.1)
    balanced = make_task(LABELLED, Experiment(class_weights="balanced"))
    assert balanced == Classification(("a", "b"), class_weights=(4 / (2 * 3), 4 / (2 * 1)))
    tagging = make_task(TAGGED, Experiment(task="tagging", tag_loss="focal", class_weights="balanced"))
    assert tagging == Tagging(("a", "b"), "focal", positive_weights=(1.0, 1 / 3))


def test_tasks_that_do_not_fit_the_data():
    with pytest.raises(
        ValueError, match=r"mine has no 'label' for classification; pass task='tagging' \(--task tagging\)"
    ):
        make_task(TAGGED, Experiment())
    with pytest.raises(ValueError, match="mine has no 'tags' for tagging; pass task='classification'"):
        make_task(LABELLED, Experiment(task="tagging"))
    lonely = ArraySource({"image": PICTURES, "label": np.zeros(4, int)}, Info("mine", "train", {}, ("a",)))
    with pytest.raises(ValueError, match="names 1 classes; classification needs at least two"):
        make_task(lonely, Experiment())


def test_no_augmentation_changes_nothing():
    changed = make_augment(Augmentation(), num_classes=2)(jax.random.key(0), BATCH)
    jax.tree.map(np.testing.assert_array_equal, dict(changed), BATCH)


def test_augmentations_follow_the_settings():
    """Traced: what each does is tested in its own room."""
    settings = Augmentation(
        shift=1, flip=True, rotation=10.0, scale=0.1, elastic=2.0, colour_jitter=0.3, policy="trivial_augment",
        erasing=0.5, cutout=2, mixup=0.2, cutmix=1.0,
    )  # fmt: skip
    coloured = BATCH | {"image": jnp.tile(BATCH["image"], 3)}
    changed = jax.eval_shape(make_augment(settings, num_classes=2), jax.random.key(0), coloured)
    assert (changed["image"].shape, changed["image"].dtype) == ((4, 8, 8, 3), jnp.uint8)
    assert (changed["label"].shape, changed["label"].dtype) == ((4, 2), jnp.float32)


def test_a_shift_moves_pictures_and_leaves_labels():
    changed = make_augment(Augmentation(shift=8), num_classes=2)(jax.random.key(0), BATCH)
    assert not np.array_equal(changed["image"], PICTURES)
    np.testing.assert_array_equal(changed["label"], BATCH["label"])


generator = np.random.default_rng(0)
LEVELS = generator.integers(0, 256, (12, 12, 20, 2)).astype(np.uint8)
SCALES = {
    "bytes": LEVELS,
    "floats to 1": (LEVELS / 255).astype(np.float32),
    "floats to 255": LEVELS.astype(np.float32),
    "floats around 0": (LEVELS / 50 - 2.5).astype(np.float32),
}


@pytest.fixture(scope="module", params=SCALES)
def on_a_scale(request, tmp_path_factory):
    """A run of two steps on oblong pictures of two channels, on each of the scales that pictures come in."""
    pictures, folder = SCALES[request.param], tmp_path_factory.mktemp("scale") / "run"
    info = Info("my pictures", "all", {}, ("a", "b"))
    source = ArraySource({"image": pictures, "label": np.arange(12) % 2}, info)
    experiment = Experiment(
        model="convnet", steps=2, batch_size=4, devices=1, run_dir=folder, augmentation=Augmentation(flip=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNJAX_CACHE", str(folder.parent / "cache"))
        if request.param != "bytes":  # one page is enough
            patch.setattr("cnnjax.experiment.write_report", lambda *_, **__: None)
        console = Console(file=io.StringIO(), width=200)
        outcome = run_on(source, source, experiment, console=console)
    return pictures, folder, outcome, console.file.getvalue()


def test_run_folder_exported_file_and_analyses_agree_on_every_scale(on_a_scale, tmp_path):
    pictures, folder, outcome, _ = on_a_scale
    plain = pictures.astype(np.float64)
    ready = (plain - plain.mean((0, 1, 2))) / plain.std((0, 1, 2))
    model = models.create("convnet", num_classes=2)
    expected = np.asarray(model.apply(load_variables(folder), jnp.asarray(ready, jnp.float32)), np.float64)
    shares = np.exp(expected - expected.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(outcome.fit.evaluation.predictions["probabilities"], shares, atol=1e-5)

    trained = load_run(folder)
    assert trained.image_shape == (12, 20, 2)
    close = {"rtol": 1e-5, "atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(trained(pictures), expected, **close)
    np.testing.assert_allclose(jax.jit(trained)(pictures), expected, **close)
    if (outcome.fit.run_dir and pictures.max() != 255) or pictures.dtype == np.uint8:
        others = {"bytes": LEVELS, "floats": LEVELS / 255} if pictures.max() in (1, 255) else {}
        for other in others.values():
            np.testing.assert_allclose(trained(other), expected, **close)
            np.testing.assert_allclose([*analysis.feature_maps(trained, other).values()][-1], expected, **close)
    (maps,) = analysis.feature_maps(trained, pictures, names="ConvNet/output").values()
    np.testing.assert_allclose(maps, expected, **close)

    (tmp_path / "file.zip").write_bytes(export_run(folder))
    program, about = load_exported(tmp_path / "file.zip")
    assert (about["dtype"], about["shape"]) == (pictures.dtype.name, ["b", 12, 20, 2])
    assert about["pixels"] == {"dtype": pictures.dtype.name, "low": pictures.min(), "high": pictures.max()}
    np.testing.assert_allclose(program.call(pictures), expected, **close)


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
