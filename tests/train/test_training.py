"""`fit` on tiny data: what a run leaves, how it resumes, and tasks that it has never heard of."""

import io
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax import layers
from cnnjax.data import ArraySource
from cnnjax.data.augment import flip
from cnnjax.functional.cpu import machine
from cnnjax.settings import Devices, Loading, Optimizer
from cnnjax.tasks import Classification, masked_mean
from cnnjax.train import load_variables, read_rows
from tests.train.toy_run import TEST, TRAIN, Net, run, scaled, settings
from tests.train.toy_tasks import Boxes, Segmentation

generator = np.random.default_rng(1)


class StopAfter(io.StringIO):
    """A screen that interrupts the run once a line holds a text."""

    def __init__(self, text):
        super().__init__()
        self.stop = text

    def write(self, text):
        if self.stop in text:
            raise KeyboardInterrupt
        return super().write(text)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run from beginning to end."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    screen = io.StringIO()
    result = run(settings(folder, log_every=3), console=Console(file=screen, width=200))
    return result, screen.getvalue()


def test_it_learns_and_leaves_a_run_folder(straight):
    result, _ = straight
    assert result.evaluation.summary["accuracy"] == 1.0
    assert sorted(path.name.split(".")[0] for path in result.run_dir.iterdir()) == [
        "checkpoints",
        "config",
        "events",
        "metrics",
        "result",
    ]
    assert int(result.state.step) == 25  # 4 * 100 / 16
    np.testing.assert_array_equal(result.evaluation.examples["id"], np.arange(30))
    np.testing.assert_array_equal(result.evaluation.examples["label"], TEST.arrays["label"])
    assert result.evaluation.predictions["probabilities"].shape == (30, 2)


def test_rows_are_by_step_with_the_test_set_at_the_epochs(straight):
    rows = read_rows(straight[0].run_dir)
    steps = [row["step"] for row in rows]
    # Every third step, and the first steps at or past 100, 200, 300 and 400 examples.
    assert steps == sorted({*range(3, 25, 3), 7, 13, 19, 25})
    assert [row["step"] for row in rows if "test" in row] == [7, 13, 19, 25]
    assert rows[-1]["epoch"] == 4.0
    assert rows[-1]["test"] == straight[0].evaluation.summary
    assert all(row["examples_per_second"] > 0 for row in rows)
    # Cosine: the last step is taken at 24 / 25 of the way.
    assert rows[-1]["learning_rate"] == pytest.approx(3e-3 * (1 + np.cos(np.pi * 24 / 25)) / 2, rel=1e-4)


def test_plain_lines_off_a_terminal(straight):
    text = straight[1]
    # By hand: 3 * 3 * 4 + 2 * 4 + 4 * 4 * 4 * 2 + 2 parameters.
    assert "Net on stripes: 174 float32 parameters, computing in float32, on 1 cpu device(s) by jit" in text
    assert "step 25/25  epoch 4  train" in text
    assert "0 s left" in text


def test_model_and_data_are_called_what_was_given(straight):
    saved = json.loads((straight[0].run_dir / "config.json").read_text())
    stripes = {"data": "stripes", "split": "train"}
    assert saved["name"] == "Net"
    assert saved["sources"] == {"training": stripes, "validation": None, "test": stripes}
    assert saved["model"].startswith("Net( ")
    assert saved["task"].startswith("Classification(classes=('across', 'down')")


def test_resuming_continues_to_the_same_end(straight, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(settings(folder, log_every=3), console=Console(file=StopAfter("step 18/"), width=200))
    rows = [row["step"] for row in read_rows(tmp_path / "run")]
    assert rows[-1] == 18
    # Read batch by batch, where the first run gathered on the device: the same examples, to the bit.
    streamed = Loading(threads=1, resident_mib=0)
    resumed = run(settings(folder, log_every=3, resume=True, loading=streamed))
    assert resumed.run_dir == tmp_path / "run"
    steps = [row["step"] for row in read_rows(tmp_path / "run")]
    assert steps == [row["step"] for row in read_rows(straight[0].run_dir)]
    for found, expected in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(straight[0].state), strict=True):
        if jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
            found, expected = jax.random.key_data(found), jax.random.key_data(expected)
        np.testing.assert_array_equal(found, expected)


class Torn(ArraySource):
    """The last example cannot be read."""

    def __getitem__(self, index):
        if index == len(self) - 1:
            raise OSError("the file ends early")
        return super().__getitem__(index)


@pytest.mark.parametrize("resident_mib", [0, 1])
def test_unreadable_examples_are_counted_and_logged(tmp_path, resident_mib):
    loading = Loading(unreadable="skip", resident_mib=resident_mib)
    source = Torn({name: array[:32] for name, array in TRAIN.arrays.items()}, TRAIN.info)
    result = run(settings(tmp_path / "run", epochs=1.0, loading=loading), train_source=source)
    (row,) = read_rows(result.run_dir)
    (line,) = (result.run_dir / "unreadable.jsonl").read_text().splitlines()
    assert row["unreadable"] == 1
    assert json.loads(line) == {
        "step": 2,
        "source": "stripes",
        "split": "train",
        "index": 31,
        "message": "example 31 of stripes (train) cannot be read: the file ends early",
    }


def test_resuming_a_finished_run_evaluates_it_again(straight, tmp_path):
    result = straight[0]
    shutil.copytree(result.run_dir, tmp_path / "run")
    again = run(settings(tmp_path / "run", log_every=3, resume=True))
    assert again.evaluation.summary == result.evaluation.summary
    assert int(again.state.step) == 25
    assert [row["step"] for row in read_rows(tmp_path / "run")] == [row["step"] for row in read_rows(result.run_dir)]


def test_a_run_that_goes_on_where_convolutions_are_computed_otherwise_says_so(straight, tmp_path, monkeypatch):
    shutil.copytree(straight[0].run_dir, tmp_path / "run")
    saved = json.loads((straight[0].run_dir / "config.json").read_text())
    assert saved["versions"]["convolutions"] == str(machine.this_machine())
    monkeypatch.setattr(machine, "instructions", lambda: "other")
    screen = io.StringIO()
    run(settings(tmp_path / "run", log_every=3, resume=True), console=Console(file=screen, width=500))
    (warning,) = [line for line in screen.getvalue().splitlines() if "saved by other versions" in line]
    assert saved["versions"]["convolutions"] in warning
    assert "other without oneDNN" in warning


def test_a_run_of_another_model_is_not_resumed(straight, tmp_path):
    shutil.copytree(straight[0].run_dir, tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"another experiment \(name: Net there, Other here; model: Net\(.*\) there, Other\("
    ):
        run(settings(tmp_path / "run", log_every=3, resume=True), model=Other())


class Other(Net):
    """The same parameters, another model."""


def test_variables_are_loaded_from_the_folder_alone(straight):
    variables = load_variables(straight[0].run_dir)
    jax.tree.map(np.testing.assert_array_equal, variables, dict(straight[0].state.variables))
    with pytest.raises(FileNotFoundError, match=r"holds no step 7; there are \[.*25\]"):
        load_variables(straight[0].run_dir, step=7)
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        load_variables(straight[0].run_dir / "checkpoints")


def test_a_damaged_checkpoint_is_named(straight, tmp_path):
    shutil.copytree(straight[0].run_dir, tmp_path / "run")
    shortened = next(path for path in (tmp_path / "run" / "checkpoints" / "25").rglob("d/*") if path.stat().st_size)
    shortened.write_bytes(shortened.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"the checkpoint of step 25 cannot be used: .*{shortened.name} is damaged"):
        load_variables(tmp_path / "run")


def test_one_device_and_eight_agree(straight, tmp_path):
    eight = run(settings(tmp_path / "eight", log_every=3, devices=Devices()))
    first = [read_rows(result.run_dir)[0]["train"]["loss"] for result in (eight, straight[0])]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        eight.state.params,
        straight[0].state.params,
    )


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(
        FloatingPointError,
        match=r"10 steps in a row were skipped, .* \(step 10: first in the batch's image; .*, try a lower one",
    ):
        run(settings(tmp_path / "run"), prepare=lambda batch: scaled(batch) | {"image": scaled(batch)["image"] / 0.0})


def test_nothing_is_written_before_everything_fits(tmp_path):
    with pytest.raises(ValueError, match="batch_size=12 cannot be split over 8 devices; 8 and 16 can"):
        run(settings(tmp_path / "run", batch_size=12, devices=Devices()))
    with pytest.raises(ValueError, match=r"too small for Pooled: layer pool: .* smallest size that works is 9x9"):
        run(settings(tmp_path / "run"), model=Pooled())
    with pytest.raises(ValueError, match=r"logits have shape \(16, 3\) and labels \(16, 2\)"):
        run(settings(tmp_path / "run"), model=Net(outputs=3))
    small = ArraySource({"image": TEST.arrays["image"][:, :6], "label": TEST.arrays["label"]}, TEST.info)
    with pytest.raises(
        ValueError, match=r"does not take the test examples.* image \(6, 8, 1\) and \(8, 8, 1\).*--image-size N"
    ):
        run(settings(tmp_path / "run"), test_source=small)
    assert not (tmp_path / "run").exists()


class Pooled(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return layers.MaxPool(9, name="pool")(images)


# Two tasks of other kinds. Nothing in `train` knows them.


class PixelNet(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return layers.Conv(2, (3, 3), name="conv")(images)


def mirror_picture_and_map(key, batch):
    """The package's own flip, by the same key on both: the map moves with its picture."""
    return batch | {"image": flip(key, batch["image"]), "map": flip(key, batch["map"][..., None])[..., 0]}


def test_a_task_with_a_label_per_pixel_trains_through_the_same_loop(tmp_path):
    def source(count):
        maps = generator.integers(0, 2, (count, 6, 6)).astype(np.int32)
        pictures = (maps * 150 + generator.integers(0, 60, maps.shape))[..., None].astype(np.uint8)
        return ArraySource({"image": pictures, "map": maps})

    result = run(
        settings(tmp_path / "run", epochs=20.0, optimizer=Optimizer("momentum", 0.5)),
        model=PixelNet(),
        task=Segmentation(),
        train_source=source(64),
        test_source=source(20),
        augment=mirror_picture_and_map,
    )
    assert result.evaluation.summary["pixel_accuracy"] > 0.95
    assert result.evaluation.predictions.shape == (20, 6, 6)
    assert result.best_score == pytest.approx(max(row["test"]["pixel_accuracy"] for row in rows_with_test(result)))


def rows_with_test(result):
    return [row for row in read_rows(result.run_dir) if "test" in row]


class BoxNet(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        features = nn.relu(layers.Dense(32, name="hidden")(images.reshape(images.shape[0], -1)))
        boxes = layers.Dense(12, name="boxes")(features).reshape(-1, 3, 4)
        return {"boxes": boxes, "objectness": layers.Dense(3, name="objectness")(features), "features": features}


def test_a_task_with_padded_boxes_trains_through_the_same_loop(tmp_path):
    def source(count):
        number = generator.integers(1, 4, count)
        present = np.arange(3) < number[:, None]
        boxes = np.where(present[..., None], (number[:, None, None] + np.arange(3)[:, None]) / 4, 0)
        boxes = np.broadcast_to(boxes, (count, 3, 4)).astype(np.float32)
        pictures = np.broadcast_to((number * 60)[:, None, None, None], (count, 4, 4, 1)).astype(np.uint8)
        return ArraySource({"image": pictures, "boxes": boxes, "present": present})

    shifted = []

    def move_boxes(key, batch):
        shifted.append(batch["boxes"].shape)
        amount = 0.01 * jax.random.normal(key, (batch["boxes"].shape[0], 1, 1))
        return batch | {"boxes": jnp.where(batch["present"][..., None], batch["boxes"] + amount, batch["boxes"])}

    result = run(
        settings(tmp_path / "run", epochs=8.0, optimizer=Optimizer("adam", 5e-2)),
        model=BoxNet(),
        task=Boxes(),
        train_source=source(64),
        test_source=source(20),
        augment=move_boxes,
    )
    assert set(shifted) == {(16, 3, 4)}
    rows = rows_with_test(result)
    assert rows[-1]["test"]["gap"] < 0.1 < rows[0]["test"]["gap"]
    assert result.evaluation.predictions["boxes"].shape == (20, 3, 4)
    # The best is the one of the smallest gap.
    assert result.best_score == pytest.approx(-min(row["test"]["gap"] for row in rows))


def test_metrics_that_counted_nothing_do_not_stop_a_run(tmp_path):
    class Recall(Classification):
        """With a metric that has nothing to count, in training and in evaluation."""

        def loss(self, output, batch):
            loss, told = super().loss(output, batch)
            return loss, told | {"recall": self.nothing(batch)}

        def metrics(self, output, predictions, batch):
            return super().metrics(output, predictions, batch) | {"recall": self.nothing(batch)}

        def nothing(self, batch):
            return masked_mean(jnp.ones(batch["valid"].shape), jnp.zeros_like(batch["valid"]))

    run(settings(tmp_path / "run", steps=8), task=Recall(("across", "down")))
    last = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]
    row = json.loads(last, parse_constant=pytest.fail)
    assert (row["train"]["recall"], row["test"]["recall"]) == (None, None)
    result = json.loads((tmp_path / "run" / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["recall"] is None


def test_a_source_with_labels_of_no_class_stops_the_run(tmp_path):
    wrong = ArraySource({"image": TRAIN.arrays["image"], "label": TRAIN.arrays["label"] + 1})
    with pytest.raises(FloatingPointError, match="labels that name no class"):
        run(settings(tmp_path / "run"), train_source=wrong)


def test_config_is_saved_with_the_run(straight):
    saved = json.loads((straight[0].run_dir / "config.json").read_text())
    assert saved["training"]["optimizer"] == {
        "name": "adamw",
        "learning_rate": 3e-3,
        "momentum": 0.9,
        "b2": None,
        "eps": None,
        "momentum_dtype": None,
        "weight_decay": 0.0,
        "clip_norm": 0.0,
        "frozen": [],
        "rates": {},
    }
