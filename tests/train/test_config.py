"""Settings: what is refused, what is saved, what differs."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from cnnjax.train import Augmentation, Experiment, Loading, Optimizer, Saving, Schedule
from cnnjax.train.config import differences, to_json


def unchecked(kind, **settings):
    """Settings past the test run's type checker, which would speak before the class's own checks."""
    made = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(made, field.name, settings.get(field.name, field.default))
    return made


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0.0}, "epochs=0.0; expected a number above 0"),
        ({"steps": -3}, "steps=-3"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"devices": 0}, "devices=0"),
        ({"optimizer": Optimizer(learning_rate=float("nan"))}, "optimizer.learning_rate=nan"),
        ({"optimizer": Optimizer(momentum=1.0)}, "optimizer.momentum=1.0; expected at least 0 and below 1"),
        ({"optimizer": Optimizer(weight_decay=-0.1)}, "optimizer.weight_decay=-0.1"),
        ({"schedule": Schedule(warmup=1.5)}, "schedule.warmup=1.5"),
        ({"epochs": float("inf")}, "epochs=inf; expected a number above 0"),
        (
            {"optimizer": Optimizer(learning_rate=1e300)},
            "optimizer.learning_rate=1e+300; expected a number that float32",
        ),
        ({"optimizer": Optimizer(learning_rate=1e-300)}, "learning_rate=1e-300; expected a number that float32 holds"),
        ({"optimizer": Optimizer(clip_norm=1e300)}, "clip_norm=1e+300; expected at least 0 and below 3.403e+38"),
        ({"augmentation": Augmentation(rotation=1e300)}, "augmentation.rotation=1e+300; expected at least 0 and below"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"augmentation": Augmentation(shift=-1)}, "augmentation.shift=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**64}, "seed=18446744073709551616; expected 0 to 4294967295"),
        ({"precision": "float15"}, "experiment precision='float15' is unknown; did you mean 'float16'"),
        ({"bn": "local"}, "experiment bn='local' is unknown; did you mean 'global'?"),
        ({"accumulate": 0}, "accumulate=0; expected a number above 0"),
        ({"saving": Saving(keep_last=0)}, "saving.keep_last=0; expected a number above 0"),
        ({"restartable": True}, "restartable needs the folder of the run: pass run_dir"),
        ({"loading": Loading(workers=-1)}, "loading.workers=-1; expected at least 0"),
        ({"augmentation": Augmentation(random_crop=True)}, "random_crop needs the size of the crops: pass image_size"),
        ({"task": "tagging", "label_smoothing": 0.1}, "label_smoothing is for classes, not for tags"),
        (
            {"resize_by": "stretch"},
            "experiment resize_by='stretch' is unknown; expected one of resize, cover, letterbox, pad, crop",
        ),
        ({"image_size": (40, 0)}, "image_size=(40, 0); expected a number of pixels above 0, or height and width"),
        ({"image_size": "40x64"}, "experiment image_size='40x64'; expected a number of pixels, or height and width"),
        ({"optimizer": unchecked(Optimizer, name="adamm")}, "optimizer name='adamm' is unknown; did you mean 'adam'"),
        ({"schedule": unchecked(Schedule, name="cosin")}, "schedule name='cosin' is unknown; did you mean 'cosine'"),
        ({"steps": 2.5}, "experiment steps=2.5; expected a whole number"),
        ({"epochs": "3"}, "experiment epochs='3'; expected a number"),
        ({"resume": True}, "resume needs the folder of the run"),
        (
            {"model": list},
            "experiment model=<type>; expected text, the name of a registered model: register your class",
        ),
        ({"model": object()}, "experiment model=<object>; expected text, the name of a registered model: register"),
        ({"data": [1, 2]}, "experiment data=<list>; expected text, such as npz:FILE; train on arrays by run_on("),
        ({"train_split": 0.9}, "experiment train_split=0.9; expected text"),
        ({"resume": "no"}, "experiment resume='no'; expected True or False"),
        ({"run_dir": 5}, "experiment run_dir=5; expected a path"),
        ({"allow_drift": "seed"}, "experiment allow_drift='seed'; expected a tuple of names"),
        ({"optimizer": "sgd"}, "experiment optimizer='sgd'; expected train.Optimizer(...)"),
        ({"coordinator": True}, "experiment coordinator=True; expected text"),
        ({"seed": True}, "experiment seed=True; expected a whole number"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        unchecked(Experiment, **settings).__post_init__()


def test_total_steps_are_the_epochs_rounded_up():
    assert Experiment(epochs=2.0, batch_size=64).total_steps(100) == 4  # 200 / 64 = 3.125
    assert Experiment(epochs=0.01, batch_size=64).total_steps(100) == 1
    assert Experiment(steps=7).total_steps(100) == 7
    assert Experiment(epochs=1.1, batch_size=10).total_steps(100) == 11  # 1.1 * 100 is 110.00000000000001


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 1e300}, "epochs=1e+300 of 100 examples; expected at most 2,147,483,647 steps of batch_size=64"),
        ({"epochs": 1.7e308}, "epochs=1.7e+308 of 100 examples; expected at most"),
        ({"steps": 2**31}, "steps=2147483648; expected at most 2,147,483,647 steps"),
    ],
)
def test_steps_that_cannot_be_counted_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Experiment(**settings).total_steps(100)
    assert Experiment(steps=2**31 - 1).total_steps(100) == 2**31 - 1


def test_folders_may_be_strings():
    make = unchecked(Experiment, run_dir="runs/x")
    make.__post_init__()
    assert make.run_dir == Path("runs/x")


def test_saved_settings_are_plain_and_leave_out_where_things_lie_and_who_reads():
    experiment = Experiment(run_dir=Path("somewhere"), data_dir=Path("data"), optimizer=Optimizer(name="sgd"))
    saved = json.loads(json.dumps(to_json(experiment)))
    assert saved["optimizer"]["name"] == "sgd"
    assert saved["loading"] == {"unreadable": "raise", "most_unreadable": 100, "follow_links": False}
    assert not {"run_dir", "resume", "data_dir"} & saved.keys()
    elsewhere = {"run_dir": None, "data_dir": Path("moved"), "loading": Loading(threads=1, workers=2, resident_mib=0)}
    assert to_json(dataclasses.replace(experiment, **elsewhere)) == saved


def test_a_size_is_saved_as_it_is_read_back():
    """One number for a square, however it was given; a list elsewhere, as JSON has it."""
    for given, saved in (((40, 64), [40, 64]), ([40, 64], [40, 64]), ((48, 48), 48), (48, 48), (None, None)):
        experiment = unchecked(Experiment, image_size=given)
        experiment.__post_init__()
        assert to_json(experiment)["image_size"] == saved
        assert differences(json.loads(json.dumps(to_json(experiment))), to_json(experiment)) == []
    assert unchecked(Experiment, image_size=(40, 64)) == Experiment(image_size=(40, 64))


def test_differences_name_the_setting():
    old = to_json(Experiment())
    new = to_json(Experiment(seed=3, optimizer=Optimizer(learning_rate=0.1)))
    assert differences(old, new) == ["optimizer.learning_rate: 0.001 there, 0.1 here", "seed: 0 there, 3 here"]
    assert differences(old, old) == []
