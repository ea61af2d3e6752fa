"""What a run is made of before its first step: devices, data, and what a step computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from rich.console import Console

from cnnjax.data.augment import unchanged
from cnnjax.data.batches.loader import Fault
from cnnjax.data.batches.resident import gather
from cnnjax.data.pictures.read import Read, decode_example
from cnnjax.data.sources.class_names import compare_sources
from cnnjax.data.sources.source import Source
from cnnjax.models import Model
from cnnjax.settings import Precision, Training
from cnnjax.tasks import Task
from cnnjax.train.feed import Feed, open_feed
from cnnjax.train.optimizer import by_path, make_optimizer, make_schedule
from cnnjax.train.parallel import Parallel, check_batch_size, make_mesh
from cnnjax.train.plan import Plan
from cnnjax.train.progress import print_text
from cnnjax.train.recipe import Recipe
from cnnjax.train.state import TrainState
from cnnjax.train.step import StepMetrics, eval_step, train_step

# Points of a schedule that is given from Python at which its rates are recorded, as shares of the run.
_SAMPLED_AT = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a run is given besides its settings.

    Attributes:
        model: a Flax module, called as `model(inputs, train=...)`.
        task: what its output means.
        train_source: examples to train on.
        test_source: examples to test on.
        validation_source: examples that are tested after every epoch; None where the test examples are.
        variables: to start from; drawn where None.
        optimizer: a rule of one's own; that of the settings where None.
        schedule: learning rate by step, of one's own; that of the settings where None.
        read: how examples are read.
        read_training: how training examples are read, by draws of their own; as `read` where None.
        prepare: changes every batch on the device, after `augment`.
        augment: changes training batches on the device, by a key.
    """

    model: Model
    task: Task
    train_source: Source
    test_source: Source
    validation_source: Source | None = None
    variables: Mapping[str, Any] | None = None
    optimizer: optax.GradientTransformation | None = None
    schedule: optax.Schedule | None = None
    read: Read = decode_example
    read_training: Read | None = None
    prepare: Callable[[Any], Any] = lambda batch: batch
    augment: Callable[[jax.Array, Any], Any] = unchanged

    @property
    def sources(self) -> tuple[Source, ...]:
        """All sources."""
        others = () if self.validation_source is None else (self.validation_source,)
        return (self.train_source, *others, self.test_source)


@dataclass(frozen=True, eq=False)
class Setup:
    """What a run is made of before its first step.

    Attributes:
        training: its settings, the precision being chosen.
        parallel: the devices.
        recipe: what a step computes.
        plan: what happens after which step.
        schedule: the learning rate by step; None where it is not known.
        train_feed: batches to train on.
        epoch_feed: batches that are tested after every epoch.
        test_feed: batches that are tested at the end; the same where there are no validation examples.
        faults: examples that could not be read, since they were last logged.
    """

    training: Training
    parallel: Parallel
    recipe: Recipe
    plan: Plan
    schedule: Callable[[Any], Any] | None
    train_feed: Feed
    epoch_feed: Feed
    test_feed: Feed
    faults: list[Fault]

    @property
    def validates(self) -> bool:
        """Whether validation examples are tested after every epoch, and the test examples once, at the end."""
        return self.epoch_feed is not self.test_feed

    def rate(self, step: int) -> float | None:
        """The learning rate of a step, counted from 1; None where it is not known."""
        return None if self.schedule is None else float(np.asarray(self.schedule(step - 1)))

    def training_batch(self, sample: Any) -> Any:
        """A whole training batch as shapes, for a part of it that names or holds examples."""
        return jax.eval_shape(gather, self.train_feed.examples, sample)

    def first_state(self, sample: Any, variables: Mapping[str, Any] | None) -> tuple[TrainState, StepMetrics]:
        """The state before the first step, and types of what a step reports.

        Raises:
            ValueError: the data does not fit the model, or the variables are not those of the model.
        """
        batch = self.training_batch(sample)
        state = self.recipe.first_state(batch, seed=self.training.seed, variables=variables)
        _, metrics = jax.eval_shape(partial(train_step, recipe=self.recipe), state, batch)
        for feed in dict.fromkeys((self.epoch_feed, self.test_feed)):
            _check_fits(self.recipe, state, batch, jax.eval_shape(gather, feed.examples, feed.sample()))
        return state, metrics

    def compile(self, state: Any, sample: Any) -> dict[int, Any]:
        """The compiled calls of a run by the number of their steps."""
        calls = {}
        for steps in sorted({1, self.training.steps_per_call}):
            batch = self.parallel.shapes(sample, steps=steps)
            calls[steps] = self.parallel.compile_training(
                self.recipe, state, batch, self.train_feed.on_device, steps=steps
            )
        return calls


def set_up(inputs: Inputs, training: Training, console: Console) -> Setup:
    """Lays out the devices, opens the data, and puts together what a step computes; small data is read now.

    Raises:
        ValueError: the batch cannot be split over the devices, or the sources do not fit each other.
    """
    training = replace(training, precision=choose_precision(training.precision))
    _say_remarks(inputs, console)
    devices = training.devices
    parallel = Parallel(make_mesh(devices.count), devices.strategy, devices.batch_norm_statistics)
    check_batch_size(training.batch_size, parallel.mesh, accumulate=training.accumulate)
    _check_processes(*inputs.sources)
    plan = Plan(training, len(inputs.train_source))
    schedule, optimizer = inputs.schedule, inputs.optimizer
    if optimizer is None:
        rate = training.optimizer.learning_rate
        schedule = schedule or make_schedule(training.schedule, learning_rate=rate, steps=plan.total)
        optimizer = make_optimizer(training.optimizer, schedule)
    frozen = training.optimizer.frozen
    recipe = Recipe(
        inputs.model,
        inputs.task,
        by_path(optimizer, frozen=frozen, rates=training.optimizer.rates),
        inputs.augment,
        inputs.prepare,
        frozen=frozen,
        accumulate=training.accumulate,
        average=training.average,
        loss_scaling=training.precision == "float16",
    )
    faults: list[Fault] = []
    opened = partial(open_feed, training=training, parallel=parallel, on_fault=faults.append, console=console)
    train_feed = opened(
        inputs.train_source,
        read=inputs.read_training or inputs.read,
        shuffled=True,
        anew=inputs.read_training is not None,
    )
    test_feed = epoch_feed = opened(inputs.test_source, read=inputs.read)
    if inputs.validation_source is not None:
        epoch_feed = opened(inputs.validation_source, read=inputs.read)
    return Setup(training, parallel, recipe, plan, schedule, train_feed, epoch_feed, test_feed, faults)


def identity_of(inputs: Inputs, setup: Setup, state: TrainState) -> dict[str, Any]:
    """What can be told of the parts that are given from Python, as plain values, to be compared when a run resumes.

    Of an optimizer that is the kinds of its states, and of a schedule some of its rates.
    """
    told: dict[str, Any] = {}
    if inputs.optimizer is not None:
        told["optimizer from Python"] = str(jax.tree.structure(state.opt_state))
    if inputs.schedule is not None:
        last = max(setup.plan.total - 1, 0)
        steps = dict.fromkeys(round(share * last) for share in _SAMPLED_AT)
        told["schedule from Python"] = {f"step {step + 1}": setup.rate(step + 1) for step in steps}
    return told


def choose_precision(precision: Precision) -> Precision:
    """The type to compute in: for "auto" bfloat16 on accelerators and float32 on CPUs, which are slower in bfloat16."""
    if precision != "auto":
        return precision
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _say_remarks(inputs: Inputs, console: Console) -> None:
    train = inputs.train_source.info.name
    told = [(source.info.name, remark) for source in inputs.sources for remark in source.info.remarks]
    told += [(train, remark) for one in inputs.sources[1:] for remark in compare_sources(inputs.train_source, one)]
    for name, remark in dict.fromkeys(told):
        print_text(console, f"note: {name}: {remark}")


def _check_processes(*sources: Source) -> None:
    for source in sources:
        if jax.process_count() > len(source):
            raise ValueError(
                f"{jax.process_count()} processes came, and {source.info.name} ({source.info.split}) has {len(source)}"
                " examples; start fewer"
            )


def _check_fits(recipe: Recipe, state: TrainState, train_batch: Any, test_batch: Any) -> None:
    """Traces an evaluation of a test batch, which must be like the training batch where the model needs that."""
    try:
        jax.eval_shape(partial(eval_step, recipe=recipe), state, test_batch)
    except Exception as error:
        shapes = [jax.tree.map(lambda array: array.shape[1:], batch) for batch in (test_batch, train_batch)]
        differing = [f"{name} {shapes[0].get(name)} and {shapes[1].get(name)}" for name in shapes[1]]
        if shapes[0] == shapes[1]:
            raise
        raise ValueError(
            f"the model does not take the test examples; they and the training examples have the shapes"
            f" {', '.join(differing)}: bring pictures to one size (--image-size N)"
        ) from error
