"""What training reads: frozen dataclasses, whose texts are the help of the command line."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

import tyro

from cnnjax.settings.checked import LARGEST, LEAST, NOT_NEGATIVE, POSITIVE, SHARE, UNRECORDED, Checked, Range

Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]
Strategy: TypeAlias = Literal["jit", "shard_map", "pmap"]
BatchNormStatistics: TypeAlias = Literal["global", "replica"]

# Steps are counted in 32 bits.
_MOST_STEPS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Optimizer(Checked):
    """How gradients become updates."""

    prefix: ClassVar[str] = "optimizer."

    name: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "lars", "lamb", "muon"] = "adamw"
    """Update rule, as in Optax."""
    learning_rate: Annotated[float, Range(least=LEAST, most=LARGEST)] = 1e-3
    """Peak learning rate; the schedule scales it."""
    momentum: Annotated[float, SHARE] = 0.9
    """Decay of the running gradient (momentum, nesterov, rmsprop, lars, muon) or first moment (adam, adamw, lamb)."""
    b2: Annotated[float | None, SHARE] = None
    """Decay of the running squared gradient; 0.999 where None, and 0.9 in rmsprop."""
    eps: Annotated[float | None, NOT_NEGATIVE] = None
    """Added to the root of the squared gradient; 1e-8 where None, and 1e-6 in lamb."""
    momentum_dtype: Literal["float32", "bfloat16"] | None = None
    """Type that the running gradient is kept in; that of the parameters where None."""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.0
    """Decay of the kernels; biases and scales of norms are spared. Decoupled in adamw, lamb and muon, else L2."""
    clip_norm: Annotated[float, NOT_NEGATIVE] = 0.0
    """Largest norm of the whole gradient; longer ones are shortened to it. 0 for none."""
    frozen: tuple[str, ...] = ()
    """Patterns of parameter paths that stay as they start, such as 'stage1' or 'stage*/conv*'; batch normalisation in
    such modules keeps its running statistics, and normalises by them."""
    rates: Mapping[str, Annotated[float, NOT_NEGATIVE]] = dataclasses.field(default_factory=dict)
    """Factors of the learning rate by patterns of parameter paths, such as 'stage*' 0.1; the first that fits counts."""


@dataclasses.dataclass(frozen=True)
class Schedule(Checked):
    """How the learning rate moves over the run."""

    prefix: ClassVar[str] = "schedule."

    name: Literal["constant", "step", "cosine", "linear", "exponential", "trapezoid", "one_cycle"] = "cosine"
    """step: a tenth at one half and at three quarters; cosine, linear: down to zero; exponential: down to a hundredth;
    trapezoid: constant, then down to zero over the last fifth; one_cycle: up, then down to zero."""
    warmup: Annotated[float, SHARE] = 0.0
    """Share of the run in which the rate first rises in equal steps to its peak, the first step being above zero; in
    one_cycle from a 25th, over 0.3 where this is 0."""


@dataclasses.dataclass(frozen=True)
class Loading(Checked):
    """How examples are read: a run computes the same whoever reads, and can be resumed with other numbers of them."""

    prefix: ClassVar[str] = "loading."

    threads: Annotated[int, NOT_NEGATIVE, UNRECORDED] = 4
    """Threads that read ahead, in every worker; 0 reads in the loop."""
    workers: Annotated[int, NOT_NEGATIVE, UNRECORDED] = 0
    """Processes that read ahead; 0 for threads alone."""
    resident_mib: Annotated[int, NOT_NEGATIVE, UNRECORDED] = 512
    """Data sets of up to this size (MiB) are read once and live on the device; 0 reads all batch by batch."""
    unreadable: Literal["raise", "skip", "substitute"] = "raise"
    """Examples that cannot be read stop the run, are left out, or are replaced by the next."""
    most_unreadable: Annotated[int, NOT_NEGATIVE] = 100
    """Unreadable examples that are an error after all where they are more."""
    follow_links: bool = False
    """Follow symbolic links that lead out of the folder of the pictures; else they are refused."""


@dataclasses.dataclass(frozen=True)
class Saving(Checked):
    """When states are saved, and which of them are kept."""

    prefix: ClassVar[str] = "saving."

    every: Annotated[int | None, POSITIVE] = None
    """Steps between two checkpoints, besides the one at the end of each epoch."""
    keep_last: Annotated[int, POSITIVE] = 2
    """Newest checkpoints that are kept: where the last one is damaged, the one before is used."""
    keep_best: Annotated[int, NOT_NEGATIVE] = 1
    """Checkpoints of the highest score on the validation examples, or on the test examples without any, that are
    kept."""
    keep_every: Annotated[int | None, POSITIVE] = None
    """Checkpoints of steps that are multiples of this are kept for good."""


@dataclasses.dataclass(frozen=True)
class Devices(Checked):
    """Who computes: how the batch is shared among devices and processes."""

    prefix: ClassVar[str] = "devices."

    count: Annotated[int | None, POSITIVE] = None
    """How many devices share the batch; all of them where None."""
    strategy: Strategy = "jit"
    """jit: one program over the whole batch. shard_map, pmap: a copy of the step on each device, one all-reduce."""
    batch_norm_statistics: BatchNormStatistics | None = None
    """Over the whole batch (global), as jit has it, or over each device's part (replica), the default elsewhere."""
    coordinator: Annotated[str | None, UNRECORDED] = None
    """HOST:PORT of process 0, where several processes train together and nothing else says so."""
    num_processes: Annotated[int | None, UNRECORDED] = None
    """How many processes train together."""
    process_id: Annotated[int | None, UNRECORDED] = None
    """Which of them this one is, from 0."""


@dataclasses.dataclass(frozen=True)
class Folder(Checked):
    """Where a run is kept, and whether it goes on there."""

    run_dir: Path | None = None
    """Folder of the run; runs/MODEL-DATA-TIME where None."""
    resume: bool = False
    """Continue the run in --run-dir from its latest checkpoint."""
    restartable: bool = False
    """Continue the run in --run-dir if there is one, else start it: one command for the first time and all others."""
    allow_drift: tuple[str, ...] = ()
    """Names of settings in which a resumed run may differ, such as batch_size or optimizer.learning_rate."""

    def __post_init__(self) -> None:
        """Refuses to resume where no folder is named."""
        super().__post_init__()
        for name in ("resume", "restartable"):
            if getattr(self, name) and self.run_dir is None:
                raise ValueError(f"{name} needs the folder of the run: pass run_dir (--run-dir) too")


@dataclasses.dataclass(frozen=True)
class Training(Checked):
    """How a model is trained: the same settings, data and seed give the same run on the same machine."""

    epochs: Annotated[float, POSITIVE] = 20.0
    """Passes over the training examples."""
    steps: Annotated[int | None, POSITIVE] = None
    """Training steps; counts instead of epochs where given."""
    patience: Annotated[int | None, POSITIVE] = None
    """Epochs without a better score after which the run ends early; it runs to its end where None."""
    batch_size: Annotated[int, POSITIVE] = 64
    """Examples per step, over all devices."""
    seed: Annotated[int, Range(least=0, most=2**32 - 1)] = 0
    """Decides initial parameters, order of the examples, dropout and augmentation."""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    precision: Precision = "auto"
    """Type of the computation; parameters, statistics and losses are float32 always. auto: bfloat16 on accelerators,
    float32 on CPUs; float16 scales its loss."""
    accumulate: Annotated[int, POSITIVE] = 1
    """Microbatches that every batch is cut into, one computed after the other: for batches that memory does not
    hold."""
    average: Annotated[float, SHARE] = 0.0
    """Share of the old in running averages of the parameters, with which the run is then tested; 0 for none."""
    steps_per_call: Annotated[int, POSITIVE] = 1
    """Steps that the device takes without hearing of the host: faster for small models on accelerators."""
    most_skipped: Annotated[int, POSITIVE] = 10
    """Steps in a row that may be skipped, for numbers that are not finite, before the run stops."""
    log_every: Annotated[int | None, POSITIVE] = None
    """Steps between two lines of training metrics; an epoch where None."""
    loading: Loading = dataclasses.field(default_factory=Loading)
    saving: Annotated[Saving, UNRECORDED] = dataclasses.field(default_factory=Saving)
    devices: Devices = dataclasses.field(default_factory=Devices)
    folder: Annotated[Folder, UNRECORDED, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Folder)
    profile: Annotated[bool, UNRECORDED] = False
    """Write a trace of a few steps to the run's folder, for TensorBoard or Perfetto."""

    def __post_init__(self) -> None:
        """Refuses settings that no run can have."""
        super().__post_init__()
        if self.patience is not None and not self.saving.keep_best:
            raise ValueError(f"patience={self.patience} needs the best checkpoint; pass saving.keep_best=1 or more")

    def total_steps(self, examples: int) -> int:
        """Steps of the whole run over a training set of `examples`; the last, broken batch of the run counts.

        Raises:
            ValueError: they are more than can be counted.
        """
        # Rounded first: 1.1 epochs of 100 examples are 110, not a little more.
        steps = self.steps or max(1.0, round(self.epochs * examples, 6) / self.batch_size)
        if steps > _MOST_STEPS:
            wanted = f"steps={self.steps}" if self.steps else f"epochs={self.epochs} of {examples:,} examples"
            raise ValueError(f"{wanted}; expected at most {_MOST_STEPS:,} steps of batch_size={self.batch_size}")
        return math.ceil(steps)
