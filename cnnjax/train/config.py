"""The settings of a training run: frozen dataclasses, saved as JSON with the run. Importing this imports no JAX."""

import dataclasses
import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import tyro


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How gradients become updates."""

    name: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"] = "adamw"
    """Update rule, as in Optax."""
    learning_rate: float = 1e-3
    """Peak learning rate; the schedule scales it."""
    momentum: float = 0.9
    """Decay of the running gradient (momentum, nesterov, rmsprop) or of the first moment (adam, adamw)."""
    weight_decay: float = 0.0
    """Decay of the kernels; biases and the scales of norms are spared. Decoupled in adamw, an L2 term elsewhere."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over the run."""

    name: Literal["constant", "step", "cosine", "one_cycle"] = "cosine"
    """step: a tenth at one half and at three quarters; cosine: down to zero; one_cycle: up, then down to zero."""
    warmup: float = 0.0
    """Share of the run in which the rate first rises, from zero; in one_cycle from a 25th, over 0.3 where this is 0."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What happens to training pictures, each by its own draw, in this order; see `cnnjax.data.augment`."""

    random_crop: bool = False
    """Take a random part of every picture (at least --augmentation.smallest-crop of its area) at the image size."""
    smallest_crop: float = 0.08
    """Least share of the area that a random crop takes."""
    shift: int = 0
    """Most pixels a picture moves along each axis, zeros coming in."""
    flip: bool = False
    """Mirror half of the pictures left to right."""
    rotation: float = 0.0
    """Most degrees a picture turns, either way."""
    scale: float = 0.0
    """Most that a picture grows or shrinks, as a share of its size."""
    elastic: float = 0.0
    """Strength (alpha) of elastic deformation; pixels move by about 0.04 of it, which is 34 in the paper."""
    colour_jitter: float = 0.0
    """Strength of random brightness, contrast and saturation; a quarter of it for hue."""
    policy: Literal["none", "rand_augment", "trivial_augment"] = "none"
    """Published policies: RandAugment (2 changes of magnitude 9) or TrivialAugment."""
    erasing: float = 0.0
    """Probability of erasing a random rectangle."""
    cutout: int = 0
    """Side of a square that is blanked at a random place, in pixels."""
    mixup: float = 0.0
    """Alpha of mixup, which blends pairs of pictures and their labels."""
    cutmix: float = 0.0
    """Alpha of CutMix, which pastes a part of another picture, and mixes the labels."""


@dataclasses.dataclass(frozen=True)
class Loading:
    """How examples are read: a run computes the same whoever reads, and can be resumed with other numbers of them."""

    threads: int = 4
    """Threads that read ahead, in every worker; 0 reads in the loop."""
    workers: int = 0
    """Processes that read ahead; 0 for threads alone."""
    resident_mib: int = 512
    """Data sets of up to this size (MiB) are read once and live on the device; 0 reads all batch by batch."""
    unreadable: Literal["raise", "skip", "substitute"] = "raise"
    """Examples that cannot be read stop the run, are left out, or are replaced by the next."""
    most_unreadable: int = 100
    """Unreadable examples that are an error after all where they are more."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A training run, whole: the same settings and seed give the same run on the same machine."""

    model: tyro.conf.Positional[str] = "lenet5"
    """Name of a registered model; `cnnjax models` lists them."""
    data: str = "digits"
    """Source of the examples: digits, tfds:NAME, folder:PATH, csv:FILE, idx:PATH, cifar:PATH or npz:FILE."""
    data_dir: Path | None = None
    """Folder that holds prepared TFDS data sets, and that other relative paths start from."""
    task: Literal["classification", "tagging"] = "classification"
    """One class per picture, or any number of tags."""
    train_split: str = "train"
    """Examples to train on, as a split with an optional slice: train, train[:90%], all[:8000]."""
    test_split: str = "test"
    """Examples to test on after every epoch."""
    image_size: int | None = None
    """Side that all pictures are brought to; as they come where None."""
    fit: Literal["resize", "cover", "pad", "crop"] = "resize"
    """How pictures are brought to the image size: stretched, scaled to cover it, padded, or cropped."""
    epochs: float = 20.0
    """Passes over the training examples."""
    steps: int | None = None
    """Training steps; counts instead of epochs where given."""
    batch_size: int = 64
    """Examples per step, over all devices."""
    label_smoothing: float = 0.0
    """Share of every label that is spread evenly over the classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rare classes (or tags) count for more, by their number in the training set."""
    tag_loss: Literal["binary_cross_entropy", "focal"] = "binary_cross_entropy"
    """Loss of tagging."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
    loading: Loading = Loading()
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; parameters, statistics and losses are float32 always."""
    devices: int | None = None
    """How many devices share the batch; all of them where None."""
    seed: int = 0
    """Decides initial parameters, order of the examples, dropout and augmentation."""
    log_every: int | None = None
    """Steps between two lines of training metrics; an epoch where None."""
    run_dir: Path | None = None
    """Folder of the run; runs/MODEL-DATA-TIME where None."""
    resume: bool = False
    """Continue the run in --run-dir from its latest checkpoint."""

    def __post_init__(self) -> None:
        """Refuses settings that no run can have."""
        for part in (self, self.optimizer, self.schedule, self.augmentation, self.loading):
            _check_types(part)
        for name in ("run_dir", "data_dir"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Path(value))
        positive = ("epochs", "steps", "batch_size", "devices", "image_size", "log_every")
        for name, value in [
            *((name, getattr(self, name)) for name in positive),
            ("optimizer.learning_rate", self.optimizer.learning_rate),
        ]:
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value}; expected a number above 0")
        for name, value, end in [
            ("optimizer.momentum", self.optimizer.momentum, 1),
            ("optimizer.weight_decay", self.optimizer.weight_decay, math.inf),
            ("schedule.warmup", self.schedule.warmup, 1),
            ("label_smoothing", self.label_smoothing, 1),
            ("augmentation.smallest_crop", self.augmentation.smallest_crop, 1),
            ("augmentation.erasing", self.augmentation.erasing, 1),
            ("augmentation.scale", self.augmentation.scale, 1),
            *(
                (f"augmentation.{name}", getattr(self.augmentation, name), math.inf)
                for name in ("shift", "rotation", "elastic", "colour_jitter", "cutout", "mixup", "cutmix")
            ),
            *(
                (f"loading.{name}", getattr(self.loading, name), math.inf)
                for name in ("threads", "workers", "resident_mib", "most_unreadable")
            ),
        ]:
            if not 0 <= value < end:
                raise ValueError(f"{name}={value}; expected at least 0 and below {end}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}; expected 0 to {2**32 - 1}")
        if self.augmentation.random_crop and self.image_size is None:
            raise ValueError("augmentation.random_crop needs the size of the crops: pass image_size (--image-size N)")
        if self.task == "tagging" and self.label_smoothing:
            raise ValueError("label_smoothing is for classes, not for tags; leave it out")
        if self.resume and self.run_dir is None:
            raise ValueError("resume needs the folder of the run: pass run_dir (--run-dir) too")

    def total_steps(self, examples: int) -> int:
        """Steps of the whole run over a training set of `examples`; the last, broken batch of the run counts."""
        # Rounded first: 1.1 epochs of 100 examples are 110, not a little more.
        return self.steps or max(1, math.ceil(round(self.epochs * examples, 6) / self.batch_size))


def _check_types(settings: Any) -> None:
    """Raises ValueError for a name that is not on offer, and for a number of another kind, of one settings class."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            near = get_close_matches(str(value), get_args(kind), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(get_args(kind))}"
            raise ValueError(f"{type(settings).__name__.lower()} {name}={value!r} is unknown; {hint}")
        numbers = {int: (int,), int | None: (int, type(None)), float: (int, float)}.get(kind)
        if numbers and (not isinstance(value, numbers) or isinstance(value, bool)):
            whole = "a number" if kind is float else "a whole number"
            raise ValueError(f"{type(settings).__name__.lower()} {name}={value!r}; expected {whole}")


def to_json(experiment: Experiment) -> dict[str, Any]:
    """The settings that make the run what it is, as plain values: not where it and its data lie, nor who reads it."""
    settings = dataclasses.asdict(experiment)
    for name in ("run_dir", "resume", "data_dir"):
        del settings[name]
    for name in ("threads", "workers", "resident_mib"):
        del settings["loading"][name]
    return settings


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, one line each: "optimizer.learning_rate: 0.001 there, 0.01 here"."""
    lines = []
    for name in dict.fromkeys([*old, *new]):
        there, here = old.get(name), new.get(name)
        if isinstance(there, Mapping) and isinstance(here, Mapping):
            lines += differences(there, here, f"{prefix}{name}.")
        elif there != here:
            lines.append(f"{prefix}{name}: {there} there, {here} here")
    return lines
