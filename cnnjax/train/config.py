"""The settings of a training run: frozen dataclasses, saved as JSON with the run. Importing this imports no JAX."""

import dataclasses
import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import tyro

from cnnjax.image_size import ImageSize, Size, height_and_width
from cnnjax.train.settings import Augmentation, Loading, Optimizer, Saving, Schedule

# Settings that say where a run and its data lie, who reads, who computes together and who watches.
_NOT_THE_RUN = (
    "run_dir",
    "resume",
    "restartable",
    "data_dir",
    "saving",
    "profile",
    "allow_drift",
    "coordinator",
    "num_processes",
    "process_id",
)

Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]

# The largest number that the device can hold, and the smallest above zero that keeps all its digits.
_LARGEST, _LEAST = 3.4028234663852886e38, 1.1754943508222875e-38

# Steps are counted in 32 bits.
_MOST_STEPS = 2**31 - 1

_POSITIVE = (
    "epochs",
    "steps",
    "batch_size",
    "devices",
    "log_every",
    "accumulate",
    "steps_per_call",
    "most_refused",
)

# What the settings of a type may be, and what is said of others.
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    int | None: (int, "a whole number"),
    int | Size | None: ((int, tuple, list), "a number of pixels, or height and width: (40, 64)"),
    float: ((int, float), "a number"),
    bool: (bool, "True or False"),
    str: (str, "text"),
    str | None: (str, "text"),
    Path | None: ((str, Path), "a path"),
    tuple[str, ...]: ((tuple, list), "a tuple of names"),
}

_CURES = {
    "model": ", the name of a registered model: register your class by models.register(name, class, (height, width,"
    " channels)), or train a module itself by train.fit(module, ...)",
    "data": ", such as npz:FILE; train on arrays by run_on(ArraySource(...), ...)",
}


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
    image_size: ImageSize = None
    """Size that all pictures are brought to: one number, or height x width; as they come where None."""
    resize_by: Literal["resize", "cover", "letterbox", "pad", "crop"] = "resize"
    """How pictures are brought to the image size. resize: stretched; cover: scaled until they cover it, and cut;
    letterbox: scaled until they fit into it, and padded with zeros; pad, crop: padded or cut as they are."""
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
    saving: Saving = Saving()
    precision: Precision = "auto"
    """Type of the computation; parameters, statistics and losses are float32 always. auto: bfloat16 on accelerators,
    float32 on CPUs; float16 scales its loss."""
    accumulate: int = 1
    """Parts that every batch is cut into, one computed after the other: for batches that memory does not hold."""
    average: float = 0.0
    """Share of the old in running averages of the parameters, with which the run is then tested; 0 for none."""
    stochastic_depth: float = 0.0
    """Probability that the last residual branch is skipped; it rises to it from the first. Residual models only."""
    remat: bool = False
    """Compute residual blocks anew in the backward pass: less memory, a third more work."""
    steps_per_call: int = 1
    """Steps that the device takes without hearing of the host: faster for small models on accelerators."""
    parallel: Literal["jit", "shard_map", "pmap"] = "jit"
    """jit: one program over the whole batch. shard_map, pmap: a copy of the step on each device, one reduction."""
    bn: Literal["global", "replica"] | None = None
    """Batch normalisation over the whole batch, as jit has it, or each device's part, the default elsewhere."""
    devices: int | None = None
    """How many devices share the batch; all of them where None."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where several processes train together and nothing else says so."""
    num_processes: int | None = None
    """How many processes train together."""
    process_id: int | None = None
    """Which of them this one is, from 0."""
    most_refused: int = 10
    """Steps in a row that may be refused, for numbers that are not finite, before the run stops."""
    seed: int = 0
    """Decides initial parameters, order of the examples, dropout and augmentation."""
    log_every: int | None = None
    """Steps between two lines of training metrics; an epoch where None."""
    run_dir: Path | None = None
    """Folder of the run; runs/MODEL-DATA-TIME where None."""
    resume: bool = False
    """Continue the run in --run-dir from its latest checkpoint."""
    restartable: bool = False
    """Continue the run in --run-dir if there is one, else start it: one command for the first time and all others."""
    allow_drift: tuple[str, ...] = ()
    """Names of settings in which a resumed run may differ, such as batch_size or optimizer.learning_rate."""
    profile: bool = False
    """Write a trace of a few steps to the run's folder, for TensorBoard or Perfetto."""

    def __post_init__(self) -> None:
        """Refuses settings that no run can have."""
        for part in (self, self.optimizer, self.schedule, self.augmentation, self.loading, self.saving):
            _check_types(part)
        if (size := height_and_width(self.image_size)) is not None:
            object.__setattr__(self, "image_size", size[0] if size[0] == size[1] else size)
        for name in ("run_dir", "data_dir"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Path(value))
        for name, value in [
            *((name, getattr(self, name)) for name in _POSITIVE),
            ("optimizer.learning_rate", self.optimizer.learning_rate),
            *((f"saving.{name}", getattr(self.saving, name)) for name in ("every", "keep_last", "keep_every")),
        ]:
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value}; expected a number above 0")
        if not _LEAST <= self.optimizer.learning_rate <= _LARGEST:
            raise ValueError(
                f"optimizer.learning_rate={self.optimizer.learning_rate}; expected a number that float32 holds,"
                f" {_LEAST:.3g} to {_LARGEST:.3g}"
            )
        for name, value, end in [
            ("optimizer.momentum", self.optimizer.momentum, 1),
            ("optimizer.weight_decay", self.optimizer.weight_decay, _LARGEST),
            ("optimizer.clip_norm", self.optimizer.clip_norm, _LARGEST),
            ("schedule.warmup", self.schedule.warmup, 1),
            ("label_smoothing", self.label_smoothing, 1),
            ("average", self.average, 1),
            ("stochastic_depth", self.stochastic_depth, 1),
            ("saving.keep_best", self.saving.keep_best, _LARGEST),
            ("augmentation.smallest_crop", self.augmentation.smallest_crop, 1),
            ("augmentation.erasing", self.augmentation.erasing, 1),
            ("augmentation.scale", self.augmentation.scale, 1),
            *(
                (f"augmentation.{name}", getattr(self.augmentation, name), _LARGEST)
                for name in ("shift", "rotation", "elastic", "colour_jitter", "cutout", "mixup", "cutmix")
            ),
            *(
                (f"loading.{name}", getattr(self.loading, name), _LARGEST)
                for name in ("threads", "workers", "resident_mib", "most_unreadable")
            ),
        ]:
            if not 0 <= value < end:
                raise ValueError(f"{name}={value}; expected at least 0 and below {end:.4g}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}; expected 0 to {2**32 - 1}")
        if self.augmentation.random_crop and self.image_size is None:
            raise ValueError("augmentation.random_crop needs the size of the crops: pass image_size (--image-size N)")
        if self.task == "tagging" and self.label_smoothing:
            raise ValueError("label_smoothing is for classes, not for tags; leave it out")
        for name in ("resume", "restartable"):
            if getattr(self, name) and self.run_dir is None:
                raise ValueError(f"{name} needs the folder of the run: pass run_dir (--run-dir) too")

    def total_steps(self, examples: int) -> int:
        """Steps of the whole run over a training set of `examples`; the last, broken batch of the run counts.

        Raises:
            ValueError: they are more than can be counted.
        """
        # Rounded first: 1.1 epochs of 100 examples are 110, not a little more.
        steps = self.steps or max(1.0, round(self.epochs * examples, 6) / self.batch_size)
        if steps > _MOST_STEPS:
            said = f"steps={self.steps}" if self.steps else f"epochs={self.epochs} of {examples:,} examples"
            raise ValueError(f"{said}; expected at most {_MOST_STEPS:,} steps of batch_size={self.batch_size}")
        return math.ceil(steps)


def _check_types(settings: Any) -> None:
    """Raises ValueError for a name that is not on offer, and for a value of another type, of one settings class."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if value is None and type(None) in get_args(kind):
            continue
        kind = next((one for one in get_args(kind) if get_origin(one) is Literal), kind)
        if get_origin(kind) is Literal and value not in get_args(kind):
            near = get_close_matches(str(value), get_args(kind), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(get_args(kind))}"
            raise ValueError(f"{type(settings).__name__.lower()} {name}={value!r} is unknown; {hint}")
        group = (kind, f"train.{kind.__name__}(...)") if dataclasses.is_dataclass(kind) else None
        wanted, said = _KINDS.get(kind, group or (object, ""))
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            came = repr(value) if isinstance(value, str | int | float | None) else f"<{type(value).__name__}>"
            cure = _CURES.get(name, "")
            raise ValueError(f"{type(settings).__name__.lower()} {name}={came}; expected {said}{cure}")


def to_json(experiment: Experiment) -> dict[str, Any]:
    """The settings that make the run what it is, as plain values: not where it and its data lie, nor who reads it."""
    settings = dataclasses.asdict(experiment)
    for name in _NOT_THE_RUN:
        del settings[name]
    for name in ("threads", "workers", "resident_mib"):
        del settings["loading"][name]
    if isinstance(settings["image_size"], tuple):
        settings["image_size"] = list(settings["image_size"])
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
