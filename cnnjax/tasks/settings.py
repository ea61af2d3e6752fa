"""Settings of the tasks, which build them from the data; importing this imports no JAX."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from cnnjax.settings import NOT_NEGATIVE, POSITIVE, SHARE, Checked, from_plain

if TYPE_CHECKING:
    from cnnjax.data import Source
    from cnnjax.tasks.classification import Classification
    from cnnjax.tasks.detection import Detection
    from cnnjax.tasks.instances import Instances
    from cnnjax.tasks.localization import Localization
    from cnnjax.tasks.segmentation import Segmentation
    from cnnjax.tasks.tagging import Tagging
    from cnnjax.tasks.task import Task


@runtime_checkable
class TaskSettings(Protocol):
    """What an experiment says of its task: a dataclass of settings, with these.

    It may have `examples(source)`, which gives the training examples with what the task adds to them.
    """

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


@dataclasses.dataclass(frozen=True)
class SegmentationSettings(Checked):
    """One class for every pixel."""

    kind: ClassVar[str] = "segmentation"

    loss: Literal["cross_entropy", "dice", "cross_entropy_and_dice"] = "cross_entropy"
    """Loss of a picture: weighted mean over its pixels, the soft overlap of each class, or the sum of both."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes count for more, by their number of pixels in the training set."""
    separation: Annotated[float, NOT_NEGATIVE] = 0.0
    """Weight of the gaps between objects that nearly touch, beside 1 elsewhere: 10 in U-Net's paper. Where objects
    touch, a gap is made. Needs masks of instances."""
    separation_width: Annotated[float, POSITIVE] = 5.0
    """Pixels over which that weight falls off."""

    def build(self, source: "Source") -> "Segmentation":
        """Segmentation with the classes of the training data.

        Raises:
            ValueError: the data has no label maps, or a class that is to be weighed has no pixels.
        """
        from cnnjax.tasks.segmentation import Segmentation

        info = source.info
        if "masks" not in info.shapes:
            raise ValueError(
                f"{info.name} has no masks for segmentation; open label maps by masks:PATH, or take a net and a task"
                f" for what it has: {', '.join(info.shapes)}"
            )
        classes = info.classes or ("background", "object")
        if info.labels == "instances" and len(classes) != 2:
            raise ValueError(
                f"the masks of {info.name} number objects of {len(classes)} classes; segmentation takes label maps with"
                " a class for each pixel, or objects of one class"
            )
        weights = None
        if self.class_weights == "balanced":
            weights = self._balanced(source, len(classes))
        return Segmentation(
            classes,
            instances=info.labels == "instances",
            ignored=info.ignored,
            loss_name=self.loss,
            class_weights=weights,
        )

    def examples(self, source: "Source") -> "Source":
        """The training examples, with a weight for each pixel in a second plane of their masks where that is asked for.

        Raises:
            ValueError: the masks are not of instances.
        """
        if not self.separation:
            return source
        from cnnjax.data.sources.separated import Separated

        return Separated(source, weight=self.separation, width=self.separation_width)

    def rebuild(self, plain: Mapping[str, Any]) -> "Segmentation":
        """The task of a run's record."""
        from cnnjax.tasks.segmentation import Segmentation

        return from_plain(Segmentation, plain, where="the record's task")

    def model_options(self, source: "Source") -> dict[str, Any]:
        """One output for each class."""
        return {"num_classes": len(source.info.classes or ("background", "object"))}

    def _balanced(self, source: "Source", classes: int) -> tuple[float, ...]:
        """Weights that make all classes weigh the same, from the pixels of all examples."""
        import numpy as np

        from cnnjax.data.sources.source import read_example

        counts = np.zeros(classes, np.int64)
        for index in range(len(source)):
            masks = np.asarray(read_example(source, index)["masks"])
            labels = (masks > 0).astype(np.int64) if source.info.labels == "instances" else masks
            counts += np.bincount(labels[(labels >= 0) & (labels < classes)].ravel(), minlength=classes)
        if not counts.all():
            missing = ", ".join(source.info.classes[place] for place in np.flatnonzero(counts == 0)[:5])
            raise ValueError(f"{missing}: no pixels in the training set; leave out class_weights, or the class")
        return tuple((counts.sum() / (classes * counts)).tolist())


@dataclasses.dataclass(frozen=True)
class DetectionSettings(Checked):
    """Boxes of things, each with its class."""

    kind: ClassVar[str] = "detection"

    divided: Literal["picture", "batch"] = "picture"
    """What the sums of the loss are divided for: each picture by itself, so that a batch may be cut into parts, or all
    pictures of a batch together, as in torchvision."""
    parts: tuple[str, ...] = ()
    """Parts of the loss that are learned, such as objectness and proposal; all of them where none is named."""
    alternate: bool = False
    """Train proposals and detector in turns, in four runs, as the paper of Faster R-CNN does; for faster_rcnn_vgg16."""

    def build(self, source: "Source") -> "Detection":
        """Detection of the classes of the training data.

        Raises:
            ValueError: the data has no boxes, no object at all, or a box with a NaN.
        """
        from cnnjax.tasks.detection import Detection

        return Detection(_things(source, self.kind), divided=self.divided, parts=self.parts)

    def rebuild(self, plain: Mapping[str, Any]) -> "Detection":
        """The task of a run's record."""
        from cnnjax.tasks.detection import Detection

        return from_plain(Detection, plain, where="the record's task")

    def model_options(self, source: "Source") -> dict[str, Any]:
        """As many classes as there are kinds of things; detectors add the background themselves."""
        return {"num_classes": len(source.info.classes or ("object",))}


@dataclasses.dataclass(frozen=True)
class InstanceSettings(DetectionSettings):
    """Boxes of things, each with its class and its mask."""

    kind: ClassVar[str] = "instances"

    def build(self, source: "Source") -> "Instances":
        """Instance segmentation of the classes of the training data.

        Raises:
            ValueError: as `DetectionSettings.build`, or the data has no masks.
        """
        from cnnjax.tasks.instances import Instances

        if "masks" not in source.info.shapes:
            raise ValueError(
                f"{source.info.name} gives no masks for {self.kind}, only {', '.join(source.info.shapes)}; read them"
                " with --objects.masks map, or train a detector without masks, such as faster_rcnn_small"
            )
        return Instances(_things(source, self.kind), divided=self.divided, parts=self.parts)

    def rebuild(self, plain: Mapping[str, Any]) -> "Instances":
        """The task of a run's record."""
        from cnnjax.tasks.instances import Instances

        return from_plain(Instances, plain, where="the record's task")


@dataclasses.dataclass(frozen=True)
class LocalizationSettings(Checked):
    """One class and one box per picture, of its largest object."""

    kind: ClassVar[str] = "localization"

    box_loss: Literal["smooth_l1", "giou"] = "smooth_l1"
    """Loss of the box: smooth L1 of its centre and the logarithms of its sides, or 1 - GIoU."""
    box_weight: Annotated[float, POSITIVE] = 1.0
    """Weight of the box's loss beside the cross-entropy of the class."""

    def build(self, source: "Source") -> "Localization":
        """Localisation with the classes of the training data.

        Raises:
            ValueError: the data has no boxes, no object at all, or a box with a NaN.
        """
        from cnnjax.tasks.localization import Localization

        return Localization(_things(source, self.kind), box_loss=self.box_loss, box_weight=self.box_weight)

    def rebuild(self, plain: Mapping[str, Any]) -> "Localization":
        """The task of a run's record."""
        from cnnjax.tasks.localization import Localization

        return from_plain(Localization, plain, where="the record's task")

    def model_options(self, source: "Source") -> dict[str, Any]:
        """One output for each class, and four for the box."""
        return {"num_classes": len(source.info.classes or ("object",)) + 4}


# Every class of settings, the one that is meant where none is named first.
TASKS = (
    ClassificationSettings,
    TaggingSettings,
    SegmentationSettings,
    DetectionSettings,
    InstanceSettings,
    LocalizationSettings,
)


def _check_column(source: "Source", wanted: str, task: str, *, other: str) -> None:
    shapes = source.info.shapes
    if wanted not in shapes and {"boxes", "masks"} & shapes.keys():
        raise ValueError(
            f"{source.info.name} has no {wanted!r} for {task}: of its pictures it tells"
            f" {', '.join(name for name in shapes if name != 'image')}; choose a task for these (--task), or"
            " data with one class for each picture, such as folder:PATH"
        )
    if wanted not in shapes and {"label", "tags"} & shapes.keys():
        raise ValueError(f"{source.info.name} has no {wanted!r} for {task}; choose the task {other!r} (--task {other})")


def _things(source: "Source", task: str) -> tuple[str, ...]:
    """The classes of data with objects, which a task names that needs some."""
    import numpy as np

    info = source.info
    missing = [name for name in ("boxes", "classes", "present") if name not in info.shapes]
    if missing:
        raise ValueError(
            f"{info.name} has no {missing[0]!r} for {task}, only {', '.join(info.shapes)}; open data with"
            " objects, such as voc:PATH, coco:IMAGES:FILE, masks:PATH or scenes:COUNT"
        )
    present, boxes = source.column("present"), source.column("boxes")
    if present is not None and not np.asarray(present).any():
        raise ValueError(
            f"{info.name} ({info.split}) has no object in any of its {len(source):,} pictures, so there is nothing"
            " to learn; check its annotations, or take another split"
        )
    if present is not None and boxes is not None:
        wrong = ~np.isfinite(np.asarray(boxes)).all(axis=-1) & np.asarray(present)
        if wrong.any():
            where = int(np.argmax(wrong.any(axis=1)))
            raise ValueError(f"{info.name}: a box of example {where} is not finite; correct it, or leave it out")
    return tuple(info.classes) or ("object",)


def _known(column: Any, source: "Source", name: str) -> Any:
    if column is None:
        raise ValueError(f"{source.info.name} does not tell its {name} before training; leave out class_weights")
    return column
