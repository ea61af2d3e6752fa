"""The settings of training: what is refused, and how many steps they make."""

import re
from pathlib import Path

import pytest

from cnnjax.settings import Devices, Folder, Loading, Optimizer, Saving, Schedule, Training

pytestmark = pytest.mark.usefixtures("unchecked_types")


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (Training, {"epochs": 0.0}, "epochs=0.0; expected a number above 0"),
        (Training, {"epochs": float("inf")}, "epochs=inf; expected a number above 0"),
        (Training, {"epochs": "3"}, "epochs='3'; expected a number"),
        (Training, {"steps": -3}, "steps=-3; expected a number above 0"),
        (Training, {"steps": 2.5}, "steps=2.5; expected a whole number"),
        (Training, {"patience": 0}, "patience=0; expected a number above 0"),
        (
            Training,
            {"patience": 3, "saving": Saving(keep_best=0)},
            "patience=3 needs the best checkpoint; pass saving.",
        ),
        (Training, {"batch_size": 0}, "batch_size=0; expected a number above 0"),
        (Training, {"seed": -1}, "seed=-1; expected 0 to 4294967295"),
        (Training, {"seed": 2**64}, "seed=18446744073709551616; expected 0 to 4294967295"),
        (Training, {"seed": True}, "seed=True; expected a whole number"),
        (Training, {"precision": "float15"}, "precision='float15'; did you mean 'float16'?"),
        (Training, {"accumulate": 0}, "accumulate=0; expected a number above 0"),
        (Training, {"average": 1.0}, "average=1.0; expected at least 0 and below 1"),
        (Training, {"most_skipped": 0}, "most_skipped=0; expected a number above 0"),
        (Training, {"optimizer": "sgd"}, "optimizer='sgd'; expected Optimizer(...)"),
        (Training, {"profile": "no"}, "profile='no'; expected True or False"),
        (Devices, {"count": 0}, "devices.count=0; expected a number above 0"),
        (Devices, {"strategy": "pmapp"}, "devices.strategy='pmapp'; did you mean 'pmap'?"),
        (Devices, {"batch_norm_statistics": "local"}, "devices.batch_norm_statistics='local'; did you mean 'global'?"),
        (Devices, {"coordinator": True}, "devices.coordinator=True; expected text"),
        (Optimizer, {"name": "adamm"}, "optimizer.name='adamm'; did you mean 'adam'?"),
        (
            Optimizer,
            {"learning_rate": float("nan")},
            "optimizer.learning_rate=nan; expected a number that float32 holds, 1.18e-38 to 3.4e+38",
        ),
        (
            Optimizer,
            {"learning_rate": 1e300},
            "optimizer.learning_rate=1e+300; expected a number that float32 holds, 1.18e-38 to 3.4e+38",
        ),
        (
            Optimizer,
            {"learning_rate": 1e-300},
            "optimizer.learning_rate=1e-300; expected a number that float32 holds, 1.18e-38 to 3.4e+38",
        ),
        (Optimizer, {"momentum": 1.0}, "optimizer.momentum=1.0; expected at least 0 and below 1"),
        (Optimizer, {"b2": 1.0}, "optimizer.b2=1.0; expected at least 0 and below 1"),
        (Optimizer, {"weight_decay": -0.1}, "optimizer.weight_decay=-0.1; expected at least 0 and below 3.403e+38"),
        (Optimizer, {"clip_norm": 1e300}, "optimizer.clip_norm=1e+300; expected at least 0 and below 3.403e+38"),
        (Optimizer, {"frozen": "stage1"}, "optimizer.frozen='stage1'; expected a tuple of names"),
        (Optimizer, {"rates": {"stage1": -1.0}}, "optimizer.rates=<dict>; expected at least 0 and below 3.403e+38"),
        (Schedule, {"name": "cosin"}, "schedule.name='cosin'; did you mean 'cosine'?"),
        (Schedule, {"warmup": 1.5}, "schedule.warmup=1.5; expected at least 0 and below 1"),
        (Saving, {"keep_last": 0}, "saving.keep_last=0; expected a number above 0"),
        (Loading, {"workers": -1}, "loading.workers=-1; expected at least 0"),
        (Folder, {"restartable": True}, "restartable needs the folder of the run: pass run_dir"),
        (Folder, {"resume": True}, "resume needs the folder of the run: pass run_dir"),
        (Folder, {"resume": "no"}, "resume='no'; expected True or False"),
        (Folder, {"run_dir": 5}, "run_dir=5; expected a path"),
        (Folder, {"allow_drift": "seed"}, "allow_drift='seed'; expected a tuple of names"),
    ],
)
def test_impossible_settings(make, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**settings)


def test_total_steps_are_the_epochs_rounded_up():
    assert Training(epochs=2.0, batch_size=64).total_steps(100) == 4  # 200 / 64 = 3.125
    assert Training(epochs=0.01, batch_size=64).total_steps(100) == 1
    assert Training(steps=7).total_steps(100) == 7
    assert Training(epochs=1.1, batch_size=10).total_steps(100) == 11  # 1.1 * 100 is 110.00000000000001


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
        Training(**settings).total_steps(100)
    assert Training(steps=2**31 - 1).total_steps(100) == 2**31 - 1


def test_folders_may_be_strings():
    assert Folder("runs/x").run_dir == Path("runs/x")
