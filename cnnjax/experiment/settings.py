"""An experiment on pictures as settings: frozen dataclasses, whose texts are the help of the command line."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import tyro

from cnnjax.image_size import ImageSize, height_and_width
from cnnjax.settings import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    UNRECORDED,
    Checked,
    Objects,
    Proposals,
    Training,
    from_plain,
    to_plain,
)
from cnnjax.tasks.settings import (
    ClassificationSettings,
    DetectionSettings,
    InstanceSettings,
    LocalizationSettings,
    SegmentationSettings,
    TaggingSettings,
)

Task: TypeAlias = (
    ClassificationSettings
    | TaggingSettings
    | SegmentationSettings
    | DetectionSettings
    | InstanceSettings
    | LocalizationSettings
)

# The parts of an experiment that its record holds, each under its name.
_PARTS = ("net", "pictures", "task", "training")


@dataclasses.dataclass(frozen=True)
class Net(Checked):
    """Which model, and the weights that it starts from."""

    cures: ClassVar[Mapping[str, str]] = {
        "name": ", the name of a registered model: register your class by models.register(name, class, (height, width,"
        " channels)), or train a module itself by cnnjax.fit(module, ...)"
    }

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "lenet5"
    """Name of a registered model; `cnnjax models` lists them."""
    options: Annotated[Mapping[str, Any], tyro.conf.Suppress] = dataclasses.field(default_factory=dict)
    """Options of the model, as `models.create` takes them."""
    weights: str | None = None
    """Weights to start from: a .safetensors file in public names, the folder of a run, or a repository of the Hugging
    Face Hub. Where the classes differ, the head starts anew."""
    weights_revision: str | None = None
    """Commit of the Hub repository, all 40 digits of it."""
    weights_sha256: str | None = None
    """Checksum of the weights file, which is compared; needed for the Hub."""


@dataclasses.dataclass(frozen=True)
class Augmentation(Checked):
    """What happens to training pictures, each by its own draw, in this order; see `cnnjax.data.augment`."""

    prefix: ClassVar[str] = "augmentation."

    random_crop: bool = False
    """Take a random part of every picture (at least --augmentation.smallest-crop of its area) at the image size."""
    smallest_crop: Annotated[float, SHARE] = 0.08
    """Least share of the area that a random crop takes."""
    shift: Annotated[int, NOT_NEGATIVE] = 0
    """Most pixels a picture moves along each axis, zeros coming in."""
    flip: bool = False
    """Mirror half of the pictures left to right."""
    rotation: Annotated[float, NOT_NEGATIVE] = 0.0
    """Most degrees a picture turns, either way."""
    scale: Annotated[float, SHARE] = 0.0
    """Most that a picture grows or shrinks, as a share of its size."""
    elastic: Annotated[float, NOT_NEGATIVE] = 0.0
    """Strength (alpha) of elastic deformation; pixels move by about 0.04 of it, which is 34 in the paper."""
    photometric: bool = False
    """Random brightness, contrast, saturation and hue, each for half of the pictures, as SSD does."""
    expand: Annotated[float, NOT_NEGATIVE] = 0.0
    """Lay half of the pictures on a canvas up to so many times as high and wide, for small objects: 4 in SSD."""
    iou_crop: bool = False
    """Take a part of the picture that overlaps an object by a drawn IoU, as SSD does; needs boxes."""
    colour_jitter: Annotated[float, NOT_NEGATIVE] = 0.0
    """Strength of random brightness, contrast and saturation; a quarter of it for hue."""
    policy: Literal["none", "rand_augment", "trivial_augment"] = "none"
    """Published policies: RandAugment (2 changes of magnitude 9) or TrivialAugment."""
    erasing: Annotated[float, SHARE] = 0.0
    """Probability of erasing a random rectangle."""
    cutout: Annotated[int, NOT_NEGATIVE] = 0
    """Side of a square that is blanked at a random place, in pixels."""
    mixup: Annotated[float, NOT_NEGATIVE] = 0.0
    """Alpha of mixup, which blends pairs of pictures and their labels."""
    cutmix: Annotated[float, NOT_NEGATIVE] = 0.0
    """Alpha of CutMix, which pastes a part of another picture, and mixes the labels."""


@dataclasses.dataclass(frozen=True)
class PictureData(Checked):
    """Which pictures, and how they reach the model."""

    cures: ClassVar[Mapping[str, str]] = {
        "data": ", such as npz:FILE; train on arrays by run_on(ArraySource(...), ...)"
    }

    data: str = "digits"
    """Source of the examples: digits, tfds:NAME, folder:PATH, csv:FILE, idx:PATH, cifar:PATH or npz:FILE; with objects,
    voc:PATH, coco:IMAGES:FILE, masks:PATH or scenes:COUNT."""
    data_dir: Annotated[Path | None, UNRECORDED] = None
    """Folder that holds prepared TFDS data sets, and that other relative paths start from."""
    train_split: str = "train"
    """Examples to train on, as a split with an optional slice: train, train[:90%], all[:8000]."""
    validation_split: str | None = None
    """Examples to test on after every epoch, which choose the best checkpoint. Where None, the validation split of the
    data, if it has one, else the test split, as when the same split is named for both."""
    test_split: str = "test"
    """Examples to test on at the end; after every epoch where there are no others for that."""
    image_size: ImageSize = None
    """Size that all pictures are brought to: one number, or height x width; as they come where None."""
    resize_by: Literal["resize", "cover", "letterbox", "pad", "crop"] = "resize"
    """How pictures are brought to the image size. resize: stretched; cover: scaled until they cover it, and cut;
    letterbox: scaled until they fit into it, and padded with zeros; pad, crop: padded or cut as they are."""
    mean: tuple[float, ...] | None = None
    """Subtracted from the pixels of each channel, on the scale from 0 to 1 for bytes; that of the training pictures
    where None. Weights that were trained on other pictures want theirs."""
    deviation: Annotated[tuple[float, ...] | None, POSITIVE] = None
    """What each channel is divided by after that; that of the training pictures where None."""
    objects: Objects = dataclasses.field(default_factory=Objects)
    proposals: Proposals = dataclasses.field(default_factory=Proposals)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        """Refuses crops without a size."""
        super().__post_init__()
        if (size := height_and_width(self.image_size)) is not None:
            object.__setattr__(self, "image_size", size[0] if size[0] == size[1] else size)
        if self.augmentation.random_crop and self.image_size is None:
            raise ValueError("augmentation.random_crop needs the size of the crops: pass image_size (--image-size N)")


@dataclasses.dataclass(frozen=True)
class Experiment(Checked):
    """A net, trained on pictures for a task: the same settings give the same run on the same machine."""

    net: Annotated[Net, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Net)
    pictures: Annotated[PictureData, tyro.conf.arg(name="")] = dataclasses.field(default_factory=PictureData)
    task: Annotated[Task, tyro.conf.Suppress] = dataclasses.field(default_factory=ClassificationSettings)
    training: Annotated[Training, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Training)

    def with_training(self, **changes: Any) -> "Experiment":
        """The same experiment with other settings of training, such as `seed=1`; `run_dir` is the folder's.

        Raises:
            ValueError: a setting cannot have such a value.
        """
        training = self.training
        if "run_dir" in changes:
            changes["folder"] = dataclasses.replace(training.folder, run_dir=changes.pop("run_dir"))
        return dataclasses.replace(self, training=dataclasses.replace(training, **changes))


def experiment_of(record: Mapping[str, Any], *, where: str = "the record") -> Experiment:
    """The experiment that the record of a run holds; where it and its data lie is not recorded, and has the defaults.

    Raises:
        ValueError: the record is not that of an experiment, or of another version.
    """
    if missing := [name for name in _PARTS if name not in record]:
        raise ValueError(f"{where} says nothing of {', '.join(missing)}; it is not the record of an experiment")
    return from_plain(Experiment, {name: record[name] for name in _PARTS}, where=where)


def read_experiment(path: Path) -> Experiment:
    """The experiment of a `config.json`, or of the folder of a run.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read.
        ValueError: it is no such file.
    """
    path = path / "config.json" if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}; expected the folder of a run, or its config.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); expected the config.json of a run") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds {type(record).__name__}; expected the config.json of a run")
    return experiment_of(record, where=str(path))


def record_of(experiment: Experiment) -> dict[str, Any]:
    """What the record of a run holds of its experiment besides its training, as plain values."""
    return {name: value for name, value in to_plain(experiment).items() if name != "training"}
