"""Tagging through the loop: scores of batches on eight devices are joined, and the last batch's padding is not."""

import io

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import average_precision_score, f1_score

from cnnjax import layers
from cnnjax.data import ArraySource
from cnnjax.settings import Folder, Optimizer, Training
from cnnjax.tasks import Tagging, positive_weights
from cnnjax.train import fit, read_rows

TAGS = ("across", "down", "corner")
generator = np.random.default_rng(0)


def striped(count):
    """Pictures with stripes across, stripes down and a bright corner, or any of these, under noise."""
    tags = generator.uniform(size=(count, 3)) < (0.5, 0.3, 0.2)
    lines = np.tile([0, 80], 4)
    patterns = np.stack([np.tile(lines[:, None], 8), np.tile(lines, (8, 1)), np.zeros((8, 8), int)])
    patterns[2, :3, :3] = 80
    pictures = np.tensordot(tags, patterns, 1) + generator.integers(0, 90, (count, 8, 8))
    return ArraySource({"image": pictures.astype(np.uint8)[..., None], "tags": tags.astype(np.float32)})


TRAIN, TEST = striped(96), striped(30)


class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.relu(layers.Conv(4, (3, 3), strides=2, name="conv")(images))
        return layers.Dense(3, name="dense")(x.reshape(x.shape[0], -1))


def mix(key, batch):
    """Each picture with a little of the next, and its tags with a little of the next one's."""
    share = jax.random.uniform(key, (), maxval=0.2)

    def mixed(array):
        array = array.astype(jnp.float32)
        return (1 - share) * array + share * jnp.roll(array, 1, axis=0)

    return batch | {name: mixed(batch[name]) for name in ("image", "tags") if name in batch}


def scaled(batch):
    return batch | {"image": batch["image"].astype(jnp.float32) / 255}


def run(folder, source, task):
    training = Training(epochs=5.0, batch_size=16, optimizer=Optimizer("adam", 2e-2), folder=Folder(folder))
    options = {"prepare": scaled, "augment": mix, "console": Console(file=io.StringIO())}
    return fit(Net(), task, source, TEST, training, **options)


def test_it_learns_and_logs_what_scikit_learn_finds(tmp_path):
    result = run(tmp_path / "run", TRAIN, Tagging(TAGS, positive_weights=positive_weights(TRAIN.arrays["tags"])))
    summary, tags = result.evaluation.summary, result.evaluation.examples["tags"]
    np.testing.assert_array_equal(tags, TEST.arrays["tags"])
    # Two batches, two of whose 32 entries are padding.
    predictions = result.evaluation.predictions
    expected = average_precision_score(tags, predictions["probabilities"])
    assert summary["mean_average_precision"] == pytest.approx(expected)
    assert summary["macro_f1"] == pytest.approx(f1_score(tags, predictions["tags"], average="macro"))
    assert summary["mean_average_precision"] > 0.8 > 2 * tags.mean()  # chance: the share of positives

    rows = read_rows(result.run_dir)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    scores = [row["test"]["mean_average_precision"] for row in rows]
    assert rows[-1]["test"] == summary
    assert scores[-1] > scores[0]
    assert rows[-1]["train"]["loss"] < rows[0]["train"]["loss"]
    assert result.best_score == max(scores)
    assert {row["step"]: row["test"]["mean_average_precision"] for row in rows}[result.best_step] == max(scores)


def test_a_source_without_tags_is_refused_before_anything_is_written(tmp_path):
    labelled = ArraySource({"image": TRAIN.arrays["image"], "label": TRAIN.arrays["tags"].argmax(-1)})
    with pytest.raises(ValueError, match=r"the batch holds .*'label'.* and no \"tags\""):
        run(tmp_path / "run", labelled, Tagging(TAGS))
    assert not (tmp_path / "run").exists()
