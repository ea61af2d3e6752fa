"""The weights that a run starts from: a file, another run, and what is said of heads that start anew."""

import io

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from cnnjax import models
from cnnjax.experiment import Experiment, Net, load_run, run
from cnnjax.experiment.start import starting_variables
from cnnjax.models import registry
from cnnjax.models.weights import save_weights
from cnnjax.settings import Devices, Folder, Training

SHAPE = (1, 32, 32, 1)
LETTERS = ("a", "b", "c")


def lenet(num_classes=10, seed=0):
    model = models.create("lenet5", num_classes=num_classes)
    return model, models.initialize(jax.random.key(seed), model, jax.ShapeDtypeStruct(SHAPE, np.float32))


@pytest.fixture
def file(tmp_path):
    """Weights of ten classes, and the variables that they are."""
    model, variables = lenet()
    save_weights(model, variables, tmp_path / "lenet5.safetensors")
    return tmp_path / "lenet5.safetensors", variables


def started(net, model, classes, shape=SHAPE, seed=0):
    said = []
    return starting_variables(net, model, shape, classes, seed, say=said.append), said


def test_nothing_is_read_where_no_weights_are_named():
    assert started(Net("lenet5"), lenet()[0], LETTERS) == (None, [])


def test_a_file_of_the_same_classes_is_taken_whole(file):
    path, variables = file
    found, said = started(Net("lenet5", weights=str(path)), lenet(seed=1)[0], tuple("0123456789"))
    jax.tree.map(np.testing.assert_array_equal, found, dict(variables))
    assert said == [f"starting from the weights of {path}"]


def test_a_file_of_other_classes_gives_all_but_the_head(file):
    path, variables = file
    found, said = started(Net("lenet5", weights=str(path)), lenet(3)[0], LETTERS)
    other, _ = started(Net("lenet5", weights=str(path)), lenet(3)[0], LETTERS, seed=1)
    assert said == [f"starting from the weights of {path}", f"note: {path}: output starts anew"]
    for name, old in variables["params"].items():
        if name != "output":
            jax.tree.map(np.testing.assert_array_equal, found["params"][name], old)
    kernels = [tree["params"]["output"]["kernel"] for tree in (found, other)]
    assert kernels[0].shape == (84, 3)
    # Its head is drawn by the seed of the run.
    assert np.abs(np.asarray(kernels[0] - kernels[1])).max() > 0


def convnet(classes):
    return models.create("convnet", num_classes=classes)


@pytest.mark.parametrize("same", [True, False], ids=["the same classes", "as many others"])
def test_a_run_gives_its_head_to_the_same_classes_alone(run_dir, same):
    classes = tuple("0123456789") if same else tuple("abcdefghij")
    found, said = started(Net("convnet", weights=str(run_dir)), convnet(10), classes, (1, 16, 24, 1))
    expected = load_run(run_dir).variables
    for collection, tree in expected.items():
        for name, old in tree.items():
            if name != "output" or same:
                jax.tree.map(np.testing.assert_array_equal, found[collection][name], old)
    told = [] if same else [f"note: {run_dir}: output starts anew"]
    assert said == [f"starting from the weights of {run_dir}", *told]
    if not same:
        old, new = (np.asarray(tree["params"]["output"]["kernel"]) for tree in (expected, found))
        assert np.abs(old - new).max() > 0


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("nothing.safetensors", FileNotFoundError, "there is no weights file nothing.safetensors"),
        ("empty", FileNotFoundError, "empty holds no checkpoints; pass the folder of a run"),
        ("broken.safetensors", ValueError, "broken.safetensors is no safetensors file, or is damaged"),
        ("weights.pth", ValueError, "weights.pth is a pickle, which can run any code"),
        ("timm/resnet50", ValueError, "from the Hub, weights need revision=, a commit of 40 hexadecimal digits"),
    ],
)
def test_weights_that_are_none(tmp_path, monkeypatch, weights, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("broken.safetensors", "weights.pth"):
        (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(error, match=message):
        started(Net("lenet5", weights=weights), lenet()[0], LETTERS)


def test_weights_of_another_model_and_another_checksum_are_refused(file):
    path, _ = file
    with pytest.raises(ValueError, match="does not hold the weights of ConvNet: missing "):
        started(Net("convnet", weights=str(path)), convnet(10), tuple("0123456789"), (1, 16, 16, 1))
    with pytest.raises(ValueError, match=r"has the sha256 [0-9a-f]{64}; expected 00"):
        started(Net("lenet5", weights=str(path), weights_sha256="00"), lenet()[0], tuple("0123456789"))


@pytest.mark.parametrize("given", ["weights_revision", "weights_sha256"])
def test_a_revision_or_a_checksum_of_nothing(given):
    with pytest.raises(ValueError, match=f"{given} is given, and weights are not; pass weights"):
        started(Net("lenet5", **{given: "0" * 40}), lenet()[0], LETTERS)


class Linear(nn.Module):
    """A net that is soon compiled."""

    num_classes: int = 10
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(self.num_classes, name="output")(images.mean((1, 2)))


@pytest.mark.usefixtures("unchecked_types")
def test_a_run_begins_with_its_weights_and_records_them(tmp_path, monkeypatch):
    """With a rule that moves nothing, what it ends with is what it began with."""
    monkeypatch.setitem(registry._ENTRIES, "linear", registry.Entry(Linear, {}, (32, 32, 1)))
    variables = models.initialize(jax.random.key(3), Linear(), jax.ShapeDtypeStruct(SHAPE, np.float32))
    file, screen = tmp_path / "linear.safetensors", io.StringIO()
    save_weights(Linear(), variables, file)

    def trained(screen, *, resume=False):
        training = Training(steps=1, devices=Devices(count=1), folder=Folder(tmp_path / "run", resume))
        experiment = Experiment(Net("linear", weights=str(file)), training=training)
        return run(experiment, optimizer=optax.set_to_zero(), console=Console(file=screen, width=300))

    outcome = trained(screen)
    jax.tree.map(np.testing.assert_array_equal, outcome.training.state.params, variables["params"])
    assert f"starting from the weights of {file}" in screen.getvalue()
    assert load_run(tmp_path / "run").experiment.net.weights == str(file)
    # A run that goes on needs them no more.
    file.unlink()
    again = trained(screen := io.StringIO(), resume=True)
    assert again.training.evaluation.summary == outcome.training.evaluation.summary
    assert "starting from" not in screen.getvalue()
