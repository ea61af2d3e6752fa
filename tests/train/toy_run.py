"""A tiny run that every test of training shares: stripes across or down, read by a small net with all its parts."""

import hashlib
import io
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cnnjax import layers
from cnnjax.data import ArraySource, Info
from cnnjax.settings import Devices, Folder, Optimizer, Training
from cnnjax.tasks import Classification
from cnnjax.train import fit

generator = np.random.default_rng(0)


def striped(count):
    """Pictures of two classes: stripes across, stripes down, under noise."""
    labels = generator.integers(0, 2, count)
    lines = np.tile([0, 200], 4)
    pictures = np.where(labels[:, None, None] == 0, lines[:, None], lines[None, :])[..., None]
    noisy = pictures + generator.integers(0, 50, (count, 8, 8, 1))
    arrays = {"image": noisy.astype(np.uint8), "label": labels.astype(np.int32)}
    return ArraySource(arrays, Info("stripes", "train", {}, ("across", "down")))


TRAIN, TEST = striped(100), striped(30)
TASK = Classification(("across", "down"))


class Net(nn.Module):
    outputs: int = 2

    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.Conv(4, (3, 3), strides=2, use_bias=False, name="conv")(images)
        x = nn.relu(layers.BatchNorm(name="norm")(x, train=train))
        x = nn.Dropout(0.2, deterministic=not train, name="dropout")(x)
        return layers.Dense(self.outputs, name="dense")(x.reshape(x.shape[0], -1))


def scaled(batch):
    return batch | {"image": batch["image"].astype(jnp.float32) / 255}


def jitter(key, batch):
    return batch | {"image": batch["image"] ^ jax.random.bernoulli(key, 0.1, batch["image"].shape).astype(jnp.uint8)}


def settings(folder, *, resume=False, restartable=False, **changes):
    """Of a run on one device."""
    basic = {"epochs": 4.0, "batch_size": 16, "optimizer": Optimizer("adamw", 3e-3), "devices": Devices(count=1)}
    return Training(**(basic | changes), folder=Folder(folder, resume=resume, restartable=restartable))


def run(training, **changes):
    parts = {"model": Net(), "task": TASK, "train_source": TRAIN, "test_source": TEST}
    options = {"prepare": scaled, "augment": jitter, "console": Console(file=io.StringIO())}
    return fit(training=training, **(parts | options | changes))


def fingerprint(state):
    """SHA-256 of everything that a state holds."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


class SignalAfter(io.StringIO):
    """A screen that sends this process a signal once a line holds a text."""

    def __init__(self, text, *numbers):
        super().__init__()
        self.text, self.numbers = text, list(numbers)

    def write(self, text):
        if self.text in text and self.numbers:
            # To this thread: one to the process may come by another, some time later.
            signal.raise_signal(self.numbers.pop(0))
        return super().write(text)
