"""Settings as plain values: what is recorded, and what comes back from a record."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest

from cnnjax.settings import (
    UNRECORDED,
    Checked,
    Devices,
    Folder,
    Loading,
    Optimizer,
    Saving,
    Training,
    differences,
    from_plain,
    to_plain,
)

pytestmark = pytest.mark.usefixtures("unchecked_types")


@dataclasses.dataclass(frozen=True)
class Circle(Checked):
    kind: ClassVar[str] = "circle"
    radius: float = 1.0


@dataclasses.dataclass(frozen=True)
class Square(Checked):
    kind: ClassVar[str] = "square"
    side: float = 1.0


@dataclasses.dataclass(frozen=True)
class Drawing(Checked):
    shape: Circle | Square = dataclasses.field(default_factory=Circle)
    colours: tuple[str, ...] = ()
    file: Path | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    printer: Annotated[str, UNRECORDED] = "here"


def there_and_back(settings):
    return from_plain(type(settings), json.loads(json.dumps(to_plain(settings))))


@pytest.mark.parametrize(
    "settings",
    [
        Drawing(),
        Drawing(Square(2.0), ("red", "blue"), Path("a/b"), {"depth": 3, "names": ["a"]}),
        Training(),
        Training(
            steps=5,
            optimizer=Optimizer("sgd", frozen=("stage1",), rates={"stage*": 0.1}),
            devices=Devices(2, "shard_map", "global"),
            loading=Loading(unreadable="skip"),
        ),
    ],
    ids=["defaults", "drawing", "training", "changed training"],
)
def test_settings_come_back_from_json(settings):
    assert there_and_back(settings) == settings


def test_saved_settings_are_plain_and_leave_out_where_things_lie_and_who_reads():
    training = Training(folder=Folder(Path("somewhere")), optimizer=Optimizer(name="sgd"))
    saved = json.loads(json.dumps(to_plain(training)))
    assert saved["optimizer"]["name"] == "sgd"
    assert saved["loading"] == {"unreadable": "raise", "most_unreadable": 100, "follow_links": False}
    assert saved["devices"] == {"count": None, "strategy": "jit", "batch_norm_statistics": None}
    assert not {"folder", "saving", "profile"} & saved.keys()
    elsewhere = {
        "folder": Folder(),
        "loading": Loading(threads=1, workers=2, resident_mib=0),
        "saving": Saving(keep_last=9),
        "devices": Devices(coordinator="host:1", num_processes=2, process_id=1),
        "profile": True,
    }
    assert to_plain(dataclasses.replace(training, **elsewhere)) == saved


def test_kinds_are_told_and_chosen_by():
    plain = to_plain(Drawing(Square(2.0)))
    assert plain["shape"] == {"kind": "square", "side": 2.0}
    assert "printer" not in plain
    assert from_plain(Drawing, {"shape": {"kind": "circle", "radius": 3.0}}).shape == Circle(3.0)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"colurs": []}, "the record holds 'colurs', which Drawing has not; did you mean 'colours'?"),
        ({"xyz": 1}, "the record holds 'xyz', which Drawing has not; it may be of another version"),
        ({"shape": {"kind": "triangle"}}, "the record, shape: 'triangle' is not one of circle, square"),
        ({"file": {"kind": "x"}}, "file=<dict>; expected a path"),
        ({"shape": {"side": 1.0}}, "the record, shape: None is not one of circle, square"),
        ({"shape": {"kind": "square", "radius": 1.0}}, "the record, shape holds 'radius', which Square has not; it"),
        ({"shape": "circle"}, r"shape='circle'; expected Circle\(...\)"),
        ({"colours": "red"}, "colours='red'; expected a tuple of names"),
        ({"colours": [1]}, "colours=<tuple>; expected a tuple of names"),
        ([1], "the record holds list in the place of Drawing; expected settings"),
    ],
)
def test_what_no_settings_can_be(plain, message):
    with pytest.raises(ValueError, match=message):
        from_plain(Drawing, plain)


def test_a_kind_where_there_is_one_only():
    with pytest.raises(ValueError, match="the record, optimizer: 'sgd' is not one of Optimizer"):
        from_plain(Training, {"optimizer": {"kind": "sgd"}})


def test_a_record_is_called_what_its_reader_calls_it():
    with pytest.raises(ValueError, match=r"^runs/a/config\.json, optimizer holds 'lr', which Optimizer has not"):
        from_plain(Training, {"optimizer": {"lr": 1.0}}, where="runs/a/config.json")


def test_differences_name_the_setting():
    old = to_plain(Training())
    new = to_plain(Training(seed=3, optimizer=Optimizer(learning_rate=0.1)))
    assert differences(old, new) == ["seed: 0 there, 3 here", "optimizer.learning_rate: 0.001 there, 0.1 here"]
    assert differences(old, old) == []
    assert differences({"a": 1}, {"b": {"c": 2}}) == ["a: 1 there, None here", "b: None there, {'c': 2} here"]
