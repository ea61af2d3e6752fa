"""An experiment on pictures from its settings to its page: where data, model, task, training and report meet."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rich.console import Console

from cnnjax import models
from cnnjax.analysis.counting import multiply_accumulates
from cnnjax.analysis.tracing import trace
from cnnjax.data import RandomCrop, ReadPictures, Source, augment, open_source, shared_examples
from cnnjax.data.batches.loader import Loader
from cnnjax.data.pictures.pixels import Pixels, kind_of
from cnnjax.data.pictures.statistics import channel_statistics
from cnnjax.data.proposals import SearchedProposals
from cnnjax.data.sources.class_names import compare_sources
from cnnjax.data.sources.opening import validation_split
from cnnjax.experiment.alternating import run_alternating
from cnnjax.experiment.augmentation import check_augmentation, make_augment
from cnnjax.experiment.compiled import keep_compiled
from cnnjax.experiment.rcnn import LastStages
from cnnjax.experiment.settings import Experiment, PictureData, record_of
from cnnjax.experiment.start import starting_variables
from cnnjax.experiment.trained import Trained, load_run
from cnnjax.models import Model
from cnnjax.report.run_report import PAGE, write_run
from cnnjax.settings import Loading, Training, to_plain
from cnnjax.tasks import TASKS, Task
from cnnjax.train import TrainResult
from cnnjax.train import fit as train
from cnnjax.train.hosts import connect
from cnnjax.train.progress import print_text
from cnnjax.train.run_folder import goes_on
from cnnjax.train.setup import choose_precision
from cnnjax.view.text import escape_unencodable

# What the logits are of that tasks of objects need, and a net that has them.
_DETECTORS = {"detection": ("boxes", "ssd_small"), "instances": ("instances", "mask_rcnn_small")}


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished experiment.

    Attributes:
        experiment: its settings, with those that were chosen for it.
        task: that was built from them and the data.
        training: what the run left.
        report: its page.
    """

    experiment: Experiment
    task: Task
    training: TrainResult
    report: Path


def run(experiment: Experiment, *, console: Console | None = None, **own: Any) -> Outcome:
    """Opens the data, trains and evaluates the model, analyses it and writes the page.

    Args:
        experiment: the settings.
        console: to print to.
        **own: `optimizer` and `schedule` of your own, as `run_on` takes them.

    Raises:
        ValueError, OSError, FloatingPointError: a setting or the data is wrong; the message names what, and the cure.
    """
    models.create(experiment.net.name, **experiment.net.options)  # what is wrong here is said before data is opened
    pictures, training = experiment.pictures, experiment.training
    options: dict[str, Any] = {"data_dir": pictures.data_dir, "follow_links": training.loading.follow_links}
    options["objects"] = pictures.objects
    opened = partial(open_source, pictures.data, **options)
    validation = pictures.validation_split
    if validation is None:
        validation = validation_split(pictures.data, besides=pictures.test_split, **options)
    alternates = getattr(experiment.task, "alternate", False)
    return (partial(run_alternating, run_on) if alternates else run_on)(
        opened(pictures.train_split),
        opened(pictures.test_split),
        experiment,
        validation_source=None if validation is None or validation == pictures.test_split else opened(validation),
        console=console,
        **own,
    )


def run_on(
    train_source: Source,
    test_source: Source,
    experiment: Experiment,
    *,
    validation_source: Source | None = None,
    optimizer: optax.GradientTransformation | None = None,
    schedule: optax.Schedule | None = None,
    variables: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Outcome:
    """`run` on sources of your own, for instance `ArraySource({"image": pictures, "label": labels}, info)`.

    Args:
        train_source: pictures to train on.
        test_source: pictures to test on.
        experiment: the settings; those of the data's place do not count.
        validation_source: pictures to test on after every epoch, which choose the best checkpoint.
        optimizer: an Optax rule of your own.
        schedule: learning rate by step, of your own.
        variables: to start from, all collections of the model, in the place of the weights that the settings name.
        console: to print to.

    Raises:
        ValueError, OSError, FloatingPointError: as `run`.
    """
    escape_unencodable()
    console = console or Console()
    given = {"training": train_source, "validation": validation_source, "test": test_source}
    sources = {role: source for role, source in given.items() if source is not None}
    tested = {role: source for role, source in sources.items() if role != "training"}
    for source in tested.values():
        compare_sources(train_source, source)  # before the pictures are measured
    training, pictures, net = experiment.training, experiment.pictures, experiment.net
    if found := connect(training.devices):
        print_text(console, f"process {jax.process_index()} of {jax.process_count()}, found by {found}")
    keep_compiled()
    training = dataclasses.replace(training, precision=choose_precision(training.precision))
    experiment = dataclasses.replace(experiment, training=training)
    check_task(net.name, experiment.task.kind)
    task = experiment.task.build(train_source)
    # Settings of one's own need not have it.
    train_source = getattr(experiment.task, "examples", lambda source: source)(train_source)
    options = {**experiment.task.model_options(train_source), "dtype": jnp.dtype(training.precision)}
    model = models.create(net.name, **{**net.options, **options})
    for role, source in tested.items():
        if shared := shared_examples(train_source, source):
            print_text(console, f"warning: {shared} of the {len(source)} {role} examples are also trained on")
    pixels = channel_statistics(train_source, skip_unreadable=training.loading.unreadable != "raise")
    pixels = standardised_by(pixels, pictures)
    check_augmentation(pictures.augmentation, pixels)
    prepare = partial(augment.standardize, mean=pixels.mean, deviation=pixels.deviation)
    read, read_training = readers(pictures, training.seed)
    shape = check_pictures(train_source, list(tested.values()), pixels, read, training.loading)
    say = partial(print_text, console)
    given = with_proposals(model, {**sources, "training": train_source}, experiment, console=console)
    conclude = None
    if isinstance(model, models.RCNN):
        loader = Loader(given["training"], read, training.loading.unreadable)
        conclude = LastStages(model, loader, prepare, train_source.info.classes, console)
    if variables is None and not goes_on(training.folder):
        variables = starting_variables(net, model, (1, *shape), train_source.info.classes, training.seed, say=say)
    result = fit(
        model,
        task,
        given["training"],
        given["test"],
        training,
        validation_source=given.get("validation"),
        variables=variables,
        optimizer=optimizer,
        schedule=schedule,
        read=read,
        read_training=read_training,
        name=net.name,
        prepare=prepare,
        augment=make_augment(pictures.augmentation, num_classes=len(train_source.info.classes)),
        record=record_of(experiment)
        | {
            "built task": to_plain(task),
            "data": {
                "classes": list(train_source.info.classes),
                "shape": list(shape),
                "pixels": {"dtype": pixels.dtype, "low": pixels.low, "high": pixels.high},
                "mean": list(pixels.mean),
                "deviation": list(pixels.deviation),
                "examples": {role: len(source) for role, source in sources.items()},
                "fingerprints": {role: source.info.fingerprint for role, source in sources.items()},
            },
        },
        conclude=conclude,
        console=console,
    )
    return Outcome(experiment, task, result, result.run_dir / PAGE)


def with_proposals(
    model: Model, sources: Mapping[str, Source], experiment: Experiment, *, console: Console
) -> dict[str, Source]:
    """The sources, with proposals where the model finds none by itself and they have none; new ones are found now.

    Args:
        model: that is trained.
        sources: by their role.
        experiment: its settings.
        console: shows the progress.

    Raises:
        ValueError: a picture cannot be read, or is not of bytes.
    """
    if getattr(model, "proposes", True):
        return dict(sources)
    skip = experiment.training.loading.unreadable != "raise"
    given = dict(sources)
    for role, source in sources.items():
        if "proposals" not in source.info.shapes:
            given[role] = found = SearchedProposals(source, experiment.pictures.proposals)
            found.find_all(skip_unreadable=skip, console=console)
    return given


def check_task(name: str, kind: str) -> None:
    """Does nothing if a task takes what the logits of a registered model are of, or is one's own.

    Raises:
        ValueError: a detector came with a task of labels, or the reverse, or one with masks for a task without.
    """
    given = models.logits_of(name)
    needed, other = _DETECTORS.get(kind, (None, "resnet18"))
    detects = given in {of for of, _ in _DETECTORS.values()}
    if kind not in {task.kind for task in TASKS} or given == needed or (needed is None and not detects):
        return
    raise ValueError(
        f"the net {name!r} has logits of {given}, and the task {kind} takes those of {needed or 'a picture or pixels'};"
        f" take another net, such as {other}, or another task (--task). A detector of your own says so by"
        ' models.register(..., logits_of="boxes")'
    )


def fit(
    model: Model,
    task: Task,
    train_source: Source,
    test_source: Source,
    training: Training,
    *,
    prepare: Callable[[Any], Any] = lambda batch: batch,
    **options: Any,
) -> TrainResult:
    """`train.fit`, and then the page `report.html` in the run's folder: for any model, task and data.

    Args:
        model: a Flax module, called as `model(inputs, train=...)`.
        task: loss, metrics, predictions and drawings.
        train_source: examples to train on.
        test_source: examples to test on.
        training: the settings.
        prepare: changes every batch on the device.
        **options: all others of `train.fit`, such as `validation_source`, `variables` and `optimizer`.

    Raises:
        ValueError, OSError, FloatingPointError: as `train.fit`.
    """

    def count_macs(shape: Any) -> int | None:
        is_picture = isinstance(shape, tuple) and len(shape) > 2 and all(isinstance(size, int) for size in shape)
        return sum(multiply_accumulates(trace(model, shape))) if is_picture else None

    def finish(result: TrainResult) -> None:
        write_run(result, task, model=model, prepare=prepare)

    options = {"count_macs": count_macs, "finish": finish, **options}
    return train(model, task, train_source, test_source, training, prepare=prepare, **options)


def readers(pictures: PictureData, seed: int) -> tuple[ReadPictures, ReadPictures | None]:
    """What reads pictures to be tested; and to be trained on, where that is another, because crops are drawn."""
    read = ReadPictures(pictures.image_size, pictures.resize_by)
    changes = pictures.augmentation
    if not changes.random_crop:
        return read, None
    return read, dataclasses.replace(read, random_crop=RandomCrop(area=(changes.smallest_crop, 1.0)), seed=seed)


def standardised_by(pixels: Pixels, pictures: PictureData) -> Pixels:
    """The pixels of the training pictures, with the mean and the deviation that the settings give, if any.

    Raises:
        ValueError: there are not as many numbers as channels.
    """
    for name in ("mean", "deviation"):
        given, measured = getattr(pictures, name), getattr(pixels, name)
        if given is not None:
            if len(given) != len(measured):
                raise ValueError(
                    f"{name}={given}, but the pictures have {len(measured)} channels; give as many numbers (--{name}"
                    f" {' '.join('0.5' for _ in measured)})"
                )
            changed: dict[str, Any] = {name: tuple(map(float, given))}
            pixels = dataclasses.replace(pixels, **changed)
    return pixels


def check_pictures(
    train: Source, tested: list[Source], pixels: Pixels, read: ReadPictures, loading: Loading
) -> tuple[int, ...]:
    """Height, width and channels that a run sees, if the first readable tested pictures are like those of training.

    Args:
        train: the training examples.
        tested: all sources that are tested on.
        pixels: of the training pictures.
        read: how pictures are read.
        loading: what is done about unreadable ones.

    Returns:
        The shape of one picture.

    Raises:
        ValueError: none can be read, or a tested picture has another type, or floats on another scale.
    """

    def first_picture(source: Source) -> Any:
        loader = Loader(source, read, loading.unreadable)
        return (loader.model(loading.most_unreadable).example or {})["image"]

    for test in tested:
        where, other = f"{test.info.name} ({test.info.split})", first_picture(test)
        kind = kind_of(f"the pictures of {where}", other)
        low, high = float(other.min()), float(other.max())
        if kind != pixels.dtype or (kind == "float32" and pixels.differ(low, high)):
            raise ValueError(
                f"{train.info.name} ({train.info.split}) holds {pixels.dtype} from {pixels.low:g} to {pixels.high:g},"
                f" and the first picture of {where} {kind} from {low:g} to {high:g}; bring both to one type and scale"
            )
    return first_picture(train).shape


def trained_network(run_dir: Path | None, default: Experiment, *, console: Console | None = None) -> Trained:
    """The network of a run; where none is given, `default` is trained first, in a folder that is thrown away.

    Args:
        run_dir: the folder of the run; None trains.
        default: the experiment that is trained then.
        console: to print to.

    Raises:
        ValueError, OSError, FloatingPointError: as `run` and `load_run`.
    """
    if run_dir is not None:
        return load_run(run_dir)
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(default.with_training(run_dir=Path(folder) / "run"), console=console)
        return load_run(outcome.training.run_dir)
