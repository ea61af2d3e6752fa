"""Settings of the tasks, which build them from the data; importing this imports no JAX."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from cnnjax.settings import SHARE, Checked, from_plain

if TYPE_CHECKING:
    from cnnjax.data import Source
    from cnnjax.tasks.classification import Classification
    from cnnjax.tasks.tagging import Tagging
    from cnnjax.tasks.task import Task


@runtime_checkable
class TaskSettings(Protocol):
    """What an experiment says of its task: a dataclass of settings, with these."""

    kind: ClassVar[str]

    def build(self, source: "Source") -> "Task":
        """The task, with all that it takes from the training data, such as the names of its classes."""
        ...

    def rebuild(self, plain: Mapping[str, Any]) -> "Task":
        """The task that was built once, from its own fields as plain values."""
        ...

    def model_options(self, source: "Source") -> dict[str, Any]:
        """Options that a model needs for the task, such as its number of classes."""
        ...


@dataclasses.dataclass(frozen=True)
class ClassificationSettings(Checked):
    """One class per picture."""

    kind: ClassVar[str] = "classification"

    label_smoothing: Annotated[float, SHARE] = 0.0
    """Share of every label that is spread evenly over the classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes count for more, by their number in the training set."""

    def build(self, source: "Source") -> "Classification":
        """Classification with the classes of the training data.

        Raises:
            ValueError: the data has tags and no classes, or names too few; a class that is to be weighed has no
                examples.
        """
        from cnnjax.data.sources.source import labels_of
        from cnnjax.tasks.classification import Classification
        from cnnjax.tasks.imbalance import class_weights

        _check_column(source, "label", self.kind, other=TaggingSettings.kind)
        classes = source.info.classes
        if len(classes) < 2:
            raise ValueError(f"{source.info.name} names {len(classes)} classes; classification needs at least two")
        weights = None
        if self.class_weights == "balanced":
            weights = class_weights(_known(labels_of(source), source, "label"), len(classes))
        return Classification(classes, label_smoothing=self.label_smoothing, class_weights=weights)

    def rebuild(self, plain: Mapping[str, Any]) -> "Classification":
        """The task of a run's record."""
        from cnnjax.tasks.classification import Classification

        return from_plain(Classification, plain, where="the record's task")

    def model_options(self, source: "Source") -> dict[str, Any]:
        """One output per class."""
        return {"num_classes": len(source.info.classes)}


@dataclasses.dataclass(frozen=True)
class TaggingSettings(Checked):
    """Any number of tags per picture."""

    kind: ClassVar[str] = "tagging"

    loss: Literal["binary_cross_entropy", "focal"] = "binary_cross_entropy"
    """Loss of each tag."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare tags count for more, by their number in the training set."""

    def build(self, source: "Source") -> "Tagging":
        """Tagging with the tags of the training data.

        Raises:
            ValueError: the data has classes and no tags; a tag that is to be weighed has no examples.
        """
        from cnnjax.tasks.imbalance import positive_weights
        from cnnjax.tasks.tagging import Tagging

        _check_column(source, "tags", self.kind, other=ClassificationSettings.kind)
        weights = None
        if self.class_weights == "balanced":
            weights = positive_weights(_known(source.column("tags"), source, "tags"))
        return Tagging(source.info.classes, loss_name=self.loss, positive_weights=weights)

    def rebuild(self, plain: Mapping[str, Any]) -> "Tagging":
        """The task of a run's record."""
        from cnnjax.tasks.tagging import Tagging

        return from_plain(Tagging, plain, where="the record's task")

    def model_options(self, source: "Source") -> dict[str, Any]:
        """One output per tag."""
        return {"num_classes": len(source.info.classes)}


# Every class of settings, the one that is meant where none is named first.
TASKS = (ClassificationSettings, TaggingSettings)


def _check_column(source: "Source", wanted: str, task: str, *, other: str) -> None:
    shapes = source.info.shapes
    if wanted not in shapes and {"label", "tags"} & shapes.keys():
        raise ValueError(f"{source.info.name} has no {wanted!r} for {task}; choose the task {other!r} (--task {other})")


def _known(column: Any, source: "Source", name: str) -> Any:
    if column is None:
        raise ValueError(f"{source.info.name} does not tell its {name} before training; leave out class_weights")
    return column
