"""The settings of an experiment: what is refused, what its record holds, and how it comes back."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from cnnjax.experiment import Augmentation, Experiment, Net, PictureData, read_experiment
from cnnjax.experiment.settings import experiment_of, record_of
from cnnjax.settings import Folder, Optimizer, Training, to_plain
from cnnjax.tasks import ClassificationSettings, TaggingSettings

pytestmark = pytest.mark.usefixtures("unchecked_types")


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (Net, {"name": list}, "name=<type>; expected text, the name of a registered model: register your class"),
        (Net, {"name": object()}, "name=<object>; expected text, the name of a registered model: register"),
        (Net, {"options": ["batch_norm"]}, "options=<list>; expected a dictionary"),
        (PictureData, {"data": [1, 2]}, "data=<list>; expected text, such as npz:FILE; train on arrays by run_on("),
        (PictureData, {"train_split": 0.9}, "train_split=0.9; expected text"),
        (
            PictureData,
            {"resize_by": "stretch"},
            "resize_by='stretch'; expected one of resize, cover, letterbox, pad, crop",
        ),
        (PictureData, {"deviation": (0.5, 0.0)}, "deviation=<tuple>; expected a number above 0"),
        (
            PictureData,
            {"augmentation": Augmentation(random_crop=True)},
            "augmentation.random_crop needs the size of the crops: pass image_size",
        ),
        (Augmentation, {"rotation": 1e300}, "augmentation.rotation=1e+300; expected at least 0 and below 3.403e+38"),
        (Augmentation, {"shift": -1}, "augmentation.shift=-1; expected at least 0"),
        (Augmentation, {"policy": "randaugment"}, "augmentation.policy='randaugment'; did you mean 'rand_augment'?"),
        (Experiment, {"net": "lenet5"}, "net='lenet5'; expected Net(...)"),
        (Experiment, {"training": Optimizer()}, "training=<Optimizer>; expected Training(...)"),
        (
            Experiment,
            {"task": "tagging"},
            "task='tagging'; expected ClassificationSettings(...) or expected TaggingSettings(...)",
        ),
    ],
)
def test_impossible_settings(make, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**settings)


CHANGED = Experiment(
    Net("vgg11", {"batch_norm": True, "dropout": 0.1}, weights="vgg.safetensors"),
    PictureData("folder:pets", image_size=64, mean=(0.5, 0.5, 0.5), augmentation=Augmentation(flip=True)),
    TaggingSettings("focal"),
    Training(steps=5, optimizer=Optimizer(frozen=("block1",), rates={"block*": 0.1})),
)


@pytest.mark.parametrize("experiment", [Experiment(), CHANGED], ids=["defaults", "changed"])
def test_an_experiment_comes_back_from_its_record(tmp_path, experiment):
    record = record_of(experiment) | {"training": to_plain(experiment.training), "versions": {"jax": "1"}, "data": {}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(record))
    assert read_experiment(path) == experiment
    assert read_experiment(path.parent) == experiment
    assert experiment_of(json.loads(path.read_text())) == experiment


def test_where_a_run_and_its_data_lie_is_not_recorded():
    moved = dataclasses.replace(
        CHANGED,
        pictures=dataclasses.replace(CHANGED.pictures, data_dir=Path("moved")),
        training=dataclasses.replace(CHANGED.training, folder=Folder(Path("runs/x"))),
    )
    assert to_plain(moved) == to_plain(CHANGED)
    assert set(record_of(moved)) == {"net", "pictures", "task"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json is no JSON \(.*\); expected the config.json of a run"),
        ("[1]", r"config\.json holds list; expected the config.json of a run"),
        ("{}", r"config\.json says nothing of net, pictures, task, training; it is not the record of an experiment"),
        ('{"net": 1, "pictures": {}, "task": {"kind": "tagging"}, "training": {}}', r"^net=1; expected Net\(\.\.\.\)"),
        (
            '{"net": {"nam": "x"}, "pictures": {}, "task": {"kind": "tagging"}, "training": {}}',
            r"config\.json, net holds 'nam', which Net has not; did you mean 'name'\?",
        ),
        (
            '{"net": {}, "pictures": {}, "task": {"kind": "captions"}, "training": {}}',
            r"config\.json, task: 'captions' is not one of classification, tagging",
        ),
    ],
)
def test_files_that_are_no_record(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_experiment(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_experiment(tmp_path / "nothing.json")


def test_other_settings_of_training():
    changed = CHANGED.with_training(seed=1, run_dir=Path("runs/x"))
    assert changed == dataclasses.replace(
        CHANGED, training=dataclasses.replace(CHANGED.training, seed=1, folder=Folder(Path("runs/x")))
    )
    assert CHANGED.with_training() == CHANGED
    with pytest.raises(ValueError, match="seed=-1; expected 0 to 4294967295"):
        CHANGED.with_training(seed=-1)


def test_the_first_kind_of_task_is_meant_where_none_is_named():
    assert Experiment().task == ClassificationSettings()
