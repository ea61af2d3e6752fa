"""From arguments to an experiment: settings, options of models, tasks, and the settings of an earlier run."""

import dataclasses
import json
from pathlib import Path

import pytest
import tyro

from cnnjax.cli import main
from cnnjax.cli.parsing import Parser
from cnnjax.experiment import Augmentation, Experiment, Net, PictureData
from cnnjax.experiment.settings import record_of
from cnnjax.settings import Devices, Folder, Objects, Optimizer, Saving, Schedule, Training, to_plain
from cnnjax.tasks import ClassificationSettings, TaggingSettings

pytestmark = pytest.mark.usefixtures("unchecked_types")


def parsed(text, default=None):
    """The experiment of a command line."""
    taken, arguments = [], text.split()

    def note(experiment):
        """Takes it."""
        taken.append(experiment)

    command = Parser.of(arguments, default or Experiment()).command(note)
    tyro.cli(command, args=arguments)
    return taken[0]


def test_a_command_line_that_says_nothing_is_the_default():
    assert parsed("") == Experiment()
    assert parsed("lenet5") == Experiment()
    default = Experiment(Net("vgg11", {"batch_norm": True}), training=Training(steps=3), task=TaggingSettings("focal"))
    assert parsed("", default) == default


def test_settings_of_every_part():
    found = parsed(
        "resnet20 --weights w.safetensors --data folder:pets --image-size 40 --mean 0.5 0.25 0.125 --augmentation.flip"
        " --objects.slots 7 --objects.invalid drop"
        " --label-smoothing 0.1 --epochs 3 --batch-size 8 --patience 2 --seed 5 --precision bfloat16 --optimizer.name"
        " sgd --optimizer.frozen stem stage1/* --optimizer.rates stage2 0.1 stage3 0.5 --schedule.warmup 0.1"
        " --devices.count 2 --devices.strategy shard_map --saving.keep-last 5 --run-dir here --resume"
        " --allow-drift batch_size"
    )
    assert found == Experiment(
        Net("resnet20", weights="w.safetensors"),
        PictureData(
            "folder:pets",
            image_size=40,
            mean=(0.5, 0.25, 0.125),
            objects=Objects(7, "drop"),
            augmentation=Augmentation(flip=True),
        ),
        ClassificationSettings(0.1),
        Training(
            epochs=3.0,
            batch_size=8,
            patience=2,
            seed=5,
            precision="bfloat16",
            optimizer=Optimizer("sgd", frozen=("stem", "stage1/*"), rates={"stage2": 0.1, "stage3": 0.5}),
            schedule=Schedule(warmup=0.1),
            devices=Devices(2, "shard_map"),
            saving=Saving(keep_last=5),
            folder=Folder(Path("here"), resume=True, allow_drift=("batch_size",)),
        ),
    )


@pytest.mark.parametrize(
    ("text", "net"),
    [
        ("resnet20 --net.stochastic-depth 0.1 --net.remat", Net("resnet20", {"stochastic_depth": 0.1, "remat": True})),
        ("vgg11 --net.batch-norm", Net("vgg11", {"batch_norm": True})),
        ("--epochs 3 vgg11 --net.dropout 0.25", Net("vgg11", {"dropout": 0.25})),
        # What is said to be as it is anyway is no option.
        ("vgg11 --net.no-batch-norm", Net("vgg11")),
        ("lenet5", Net("lenet5")),
    ],
)
def test_options_of_a_model(text, net):
    assert parsed(text).net == net


NORMED = Experiment(Net("vgg11", {"batch_norm": True, "dropout": 0.1}))


def test_options_of_the_default_stay_with_its_model():
    assert parsed("vgg11 --net.dropout 0.2", NORMED).net == Net("vgg11", {"batch_norm": True, "dropout": 0.2})
    assert parsed("--net.no-batch-norm", NORMED).net == Net("vgg11", {"batch_norm": False, "dropout": 0.1})
    assert parsed("--net.dropout 0.2", NORMED).net.options == {"batch_norm": True, "dropout": 0.2}
    assert parsed("lenet5", NORMED).net == Net("lenet5")


def test_tasks_have_their_own_settings():
    assert parsed("lenet5 --task tagging --loss focal --class-weights balanced").task == TaggingSettings(
        "focal", "balanced"
    )
    assert parsed("lenet5 --task=tagging").task == TaggingSettings()
    assert parsed("lenet5 --task classification --label-smoothing 0.2").task == ClassificationSettings(0.2)
    tagging = Experiment(task=TaggingSettings("focal"))
    assert parsed("--task tagging", tagging).task == TaggingSettings("focal")
    assert parsed("--task classification", tagging).task == ClassificationSettings()


@pytest.fixture
def config(tmp_path):
    """The record of a run, and its experiment."""
    experiment = Experiment(
        Net("vgg11", {"batch_norm": True}),
        PictureData("digits", image_size=32),
        TaggingSettings("focal"),
        Training(steps=5),
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(record_of(experiment) | {"training": to_plain(experiment.training), "name": "vgg11"}))
    return path, experiment


def test_the_settings_of_an_earlier_run(config):
    path, experiment = config
    assert parsed(f"--config {path}") == parsed(f"--config={path}") == experiment
    changed = parsed(f"--config {path} --steps 7 --loss binary_cross_entropy --net.dropout 0.1 --image-size 48")
    assert changed == dataclasses.replace(
        experiment,
        net=Net("vgg11", {"batch_norm": True, "dropout": 0.1}),
        pictures=PictureData("digits", image_size=48),
        task=TaggingSettings("binary_cross_entropy"),
        training=Training(steps=7),
    )
    other = parsed(f"lenet5 --config {path} --task classification")
    assert (other.net, other.task, other.training) == (Net("lenet5"), ClassificationSettings(), experiment.training)


def test_files_that_are_no_settings(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        parsed(f"--config {tmp_path}/nothing.json")
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(ValueError, match=r"mine\.json says nothing of net, pictures, task, training"):
        parsed(f"--config {tmp_path}/mine.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lenet5 --task taging", "taging"),
        ("lenet5 --task tagging --label-smoothing 0.1", "--label-smoothing"),
        ("lenet5 --net.stochastic-depth 0.1", "--net.stochastic-depth"),
        ("resnet20 --net.num-classes 3", "--net.num-classes"),
        ("resnet20 --net.stochastic-depth many", "many"),
        ("lenet5 --optimizer.rates stage1", "--optimizer.rates"),
    ],
)
def test_what_is_not_on_offer_is_refused(capsys, text, said):
    with pytest.raises(SystemExit) as left:
        parsed(text)
    assert left.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_help_of_a_model_says_what_its_options_are(capsys):
    with pytest.raises(SystemExit):
        main(["train", "resnet20", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--net.stochastic-depth FLOAT" in text
    assert "--net.remat" in text
    # As the class's own docstring has it.
    assert "probability" in text.partition("--net.stochastic-depth")[2][:300]
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "--net." not in capsys.readouterr().out.replace("as --net.OPTION", "")
