"""What every task has."""

import pytest

from cnnjax.tasks import Classification, PixelTask, Tagging, Task
from cnnjax.tasks import Segmentation as Semantic
from tests.train.toy_tasks import Boxes, Segmentation

PARTS = ["headline", "inputs", "loss", "predict", "metrics", "summarize", "score", "rows", "draw"]


@pytest.mark.parametrize("task", [Classification(("a", "b")), Tagging(("a",)), Segmentation(), Boxes()], ids=repr)
def test_these_are_tasks(task):
    assert isinstance(task, Task)


def test_tasks_of_pixels_number_objects():
    assert isinstance(Semantic(("a", "b")), PixelTask)
    assert not isinstance(Classification(("a", "b")), PixelTask)


def test_other_things_are_not():
    assert not isinstance(object(), Task)
    assert sorted(name for name in {*dir(Task), *Task.__annotations__} if not name.startswith("_")) == sorted(PARTS)


@pytest.mark.parametrize("missing", PARTS)
def test_a_task_has_every_part(missing):
    parts = {name: lambda self: None for name in PARTS if name != missing}
    assert not isinstance(type("Partial", (), parts)(), Task)
