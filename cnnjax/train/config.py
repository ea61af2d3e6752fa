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
    """What happens to training pictures, each by its own draw."""

    shift: int = 0
    """Most pixels a picture moves along each axis, zeros coming in."""
    flip: bool = False
    """Mirror half of the pictures left to right."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A training run, whole: the same settings and seed give the same run on the same machine."""

    model: tyro.conf.Positional[str] = "lenet5"
    """Name of a registered model; `cnnjax models` lists them."""
    data: str = "digits"
    """Source of the examples: digits, tfds:NAME, or idx:FOLDER."""
    data_dir: Path | None = None
    """Folder that holds prepared TFDS data sets."""
    train_split: str = "train"
    """Examples to train on, as a split with an optional slice: train, train[:90%], all[:8000]."""
    test_split: str = "test"
    """Examples to test on after every epoch."""
    image_size: int | None = None
    """Side that all pictures are brought to; as they come where None."""
    fit: Literal["resize", "pad", "crop"] = "resize"
    """How pictures are brought to the image size."""
    epochs: float = 20.0
    """Passes over the training examples."""
    steps: int | None = None
    """Training steps; counts instead of epochs where given."""
    batch_size: int = 64
    """Examples per step, over all devices."""
    label_smoothing: float = 0.0
    """Share of every label that is spread evenly over the classes."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    augmentation: Augmentation = Augmentation()
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
        for part in (self, self.optimizer, self.schedule, self.augmentation):
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
            ("augmentation.shift", self.augmentation.shift, math.inf),
        ]:
            if not 0 <= value < end:
                raise ValueError(f"{name}={value}; expected at least 0 and below {end}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}; expected 0 to {2**32 - 1}")
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
    """The settings that make the run what it is, as plain values: all but where it lies and whether it resumes."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in dataclasses.asdict(experiment).items()
        if name not in ("run_dir", "resume")
    }


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
