"""An experiment on pictures from its settings to its page: where data, model, task, training and report meet."""

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from cnnjax import models
from cnnjax.analysis.counting import multiply_accumulates
from cnnjax.analysis.tracing import trace
from cnnjax.data import ReadPictures, Source, augment, open_source, shared_examples
from cnnjax.data.batches.loader import Loader
from cnnjax.data.pictures.pixels import Pixels, kind_of
from cnnjax.data.pictures.statistics import channel_statistics
from cnnjax.data.sources.class_names import compare_sources
from cnnjax.data.sources.source import labels_of
from cnnjax.image_size import Size
from cnnjax.models.export import export
from cnnjax.report.results import mean_and_deviation, write_results
from cnnjax.report.run_report import PAGE, write_report
from cnnjax.tasks import Classification, Tagging, class_weights, positive_weights
from cnnjax.train import Augmentation, Experiment, Fit, Trained, fit, load_run
from cnnjax.train.config import to_json
from cnnjax.train.hosts import connect
from cnnjax.train.log import print_text
from cnnjax.train.preflight import choose_precision, keep_compiled
from cnnjax.view.text import escape_unencodable

# Augmentations that compute with the values of pixels, or put in some of their own.
_ON_COLOURS = ("colour_jitter", "policy", "erasing", "cutout", "mixup")
_POLICIES = {"rand_augment": augment.rand_augment, "trivial_augment": augment.trivial_augment}


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished experiment: its settings, the fit, and its page."""

    experiment: Experiment
    fit: Fit
    report: Path


def run(experiment: Experiment, *, console: Console | None = None) -> Outcome:
    """Opens the data, trains and evaluates the model, analyses it and writes the page.

    Raises:
        ValueError, OSError, FloatingPointError: a setting or the data is wrong; the message names what, and the cure.
    """
    models.create(experiment.model)  # an unknown name is said before the data is opened
    options = {"data_dir": experiment.data_dir, "follow_links": experiment.loading.follow_links}
    train_source = open_source(experiment.data, experiment.train_split, **options)
    test_source = open_source(experiment.data, experiment.test_split, **options)
    return run_on(train_source, test_source, experiment, console=console)


def run_on(
    train_source: Source, test_source: Source, experiment: Experiment, *, console: Console | None = None
) -> Outcome:
    """`run` on sources of your own, for instance `ArraySource({"image": pictures, "label": labels}, info)`.

    Raises:
        ValueError, OSError, FloatingPointError: as `run`.
    """
    escape_unencodable()
    console = console or Console()
    compare_sources(train_source, test_source)  # before the pictures are measured
    if found := connect(experiment):
        print_text(console, f"process {jax.process_index()} of {jax.process_count()}, found by {found}")
    keep_compiled()
    experiment = dataclasses.replace(experiment, precision=choose_precision(experiment.precision))
    task = make_task(train_source, experiment)
    model = make_model(experiment, num_classes=len(train_source.info.classes))
    if shared := shared_examples(train_source, test_source):
        print_text(console, f"warning: {shared} of the {len(test_source)} test examples are also trained on")
    pixels = channel_statistics(train_source, skip_unreadable=experiment.loading.unreadable != "raise")
    check_augmentation(experiment.augmentation, pixels)
    shape = check_pictures(train_source, test_source, pixels, experiment)
    prepare = partial(augment.standardize, mean=pixels.mean, deviation=pixels.deviation)
    result = fit(
        model,
        task,
        train_source,
        test_source,
        experiment,
        name=experiment.model,
        prepare=prepare,
        augment=make_augment(experiment.augmentation, num_classes=len(train_source.info.classes)),
        record={
            "classes": list(train_source.info.classes),
            "shape": list(shape),
            "pixels": {"dtype": pixels.dtype, "low": pixels.low, "high": pixels.high},
            "mean": list(pixels.mean),
            "deviation": list(pixels.deviation),
            "train_examples": len(train_source),
            "test_examples": len(test_source),
            "fingerprint of the training data": train_source.info.fingerprint,
            "fingerprint of the test data": test_source.info.fingerprint,
        },
        count_macs=lambda shape: sum(multiply_accumulates(trace(model, shape))),
        finish=lambda result: write_report(result, model, task, prepare=prepare),
        console=console,
    )
    return Outcome(experiment, result, result.run_dir / PAGE)


def check_pictures(train: Source, test: Source, pixels: Pixels, experiment: Experiment) -> tuple[int, ...]:
    """Height, width and channels that a run sees, if the first readable test picture is like the training pictures.

    Raises:
        ValueError: none can be read, or the test picture has another type, or floats on another scale.
    """
    loading, read = experiment.loading, ReadPictures(experiment.image_size, experiment.resize_by)
    loaders = [Loader(source, read, loading.unreadable) for source in (train, test)]
    examples = [loader.model(loading.most_unreadable).example for loader in loaders]
    first, other = (example["image"] for example in examples if example is not None)
    kind = kind_of(f"the pictures of {test.info.name} ({test.info.split})", other)
    low, high = float(other.min()), float(other.max())
    if kind != pixels.dtype or (kind == "float32" and pixels.differ(low, high)):
        raise ValueError(
            f"{train.info.name} ({train.info.split}) holds {pixels.dtype} from {pixels.low:g} to {pixels.high:g}, and"
            f" the first picture of {test.info.name} ({test.info.split}) {kind} from {low:g} to {high:g}; bring both"
            " to one type and scale"
        )
    return first.shape


def check_augmentation(settings: Augmentation, pixels: Pixels) -> None:
    """Does nothing if what changes colours is used on bytes or floats from 0 to 1 only, which is what it knows.

    Raises:
        ValueError: it is used on floats of another scale.
    """
    chosen = [name for name in _ON_COLOURS if getattr(settings, name) not in (0, "none")]
    if chosen and not pixels.from_zero_to_one:
        raise ValueError(
            f"augmentation {', '.join(chosen)} takes bytes, or floats from 0 to 1, and the pictures have values from"
            f" {pixels.low:g} to {pixels.high:g}; bring them to one of these, or leave it out"
        )


def make_model(experiment: Experiment, *, num_classes: int) -> models.Model:
    """The model that an experiment asks for.

    Raises:
        ValueError: there is none of this name, or it has no residual blocks for an option of theirs.
    """
    options: dict[str, Any] = {"num_classes": num_classes, "dtype": jnp.dtype(experiment.precision)}
    for name in ("stochastic_depth", "remat"):
        if value := getattr(experiment, name):
            if name not in models.options_of(experiment.model):
                raise ValueError(f"{name}={value}, but {experiment.model} has no residual blocks; leave it out")
            options[name] = value
    return models.create(experiment.model, **options)


def trained_network(run_dir: Path | None, default: Experiment, *, console: Console | None = None) -> Trained:
    """The network of a run; where none is given, `default` is trained first, in a folder that is thrown away.

    Raises:
        ValueError, OSError, FloatingPointError: as `run` and `load_run`.
    """
    if run_dir is not None:
        return load_run(run_dir)
    with tempfile.TemporaryDirectory() as folder:
        return load_run(run(dataclasses.replace(default, run_dir=Path(folder) / "run"), console=console).fit.run_dir)


def export_run(run_dir: Path, *, step: int | None = None, image_size: int | Size | None = None) -> bytes:
    """The bytes of an exported file (see `models.export`) with the network of a run, which takes pictures as it did.

    Its inputs are of the type that the run's pictures had: bytes (uint8), or floats on their scale, which `about.json`
    tells as "pixels". They have the run's size, and come in any number; the run's standardisation is in the program. It
    computes in the run's type and gives logits, of the classes that `about.json` lists.

    Args:
        run_dir: the folder of the run.
        step: of the checkpoint; the latest where None.
        image_size: one number, or height and width, of the pictures; that of the run's where None.

    Raises:
        FileNotFoundError: the folder holds no checkpoint, or none of that step.
        ValueError: as `load_run`.
        ImportError: the extra `export` is not installed.
    """
    trained = load_run(run_dir, step=step, image_size=image_size)
    return export(
        trained.model,
        trained.variables,
        trained.image_shape,
        dtype=jnp.dtype(trained.pixels.dtype),
        prepare=trained.prepare,
        record={"classes": list(trained.classes), "pixels": trained.record["pixels"]},
    )


def make_task(source: Source, experiment: Experiment) -> Classification | Tagging:
    """The task that an experiment asks for, with the classes or tags of its training data.

    Raises:
        ValueError: the data has tags where a class is asked for, or the other way; it names too few; a class or tag
            that is to be weighed has no examples.
    """
    info, weighted = source.info, experiment.class_weights == "balanced"
    wanted, other = ("label", "tagging") if experiment.task == "classification" else ("tags", "classification")
    if wanted not in info.shapes and {"label", "tags"} & info.shapes.keys():
        raise ValueError(f"{info.name} has no {wanted!r} for {experiment.task}; pass task={other!r} (--task {other})")
    if len(info.classes) < 2 and experiment.task == "classification":
        raise ValueError(f"{info.name} names {len(info.classes)} classes; classification needs at least two")
    known = None
    if weighted:
        known = labels_of(source) if wanted == "label" else source.column("tags")
        if known is None:
            raise ValueError(f"{info.name} does not tell its {wanted} before training; leave out class_weights")
    if experiment.task == "tagging":
        weights = None if known is None else positive_weights(known)
        return Tagging(info.classes, loss_name=experiment.tag_loss, positive_weights=weights)
    weights = None if known is None else class_weights(known, len(info.classes))
    return Classification(info.classes, label_smoothing=experiment.label_smoothing, class_weights=weights)


def make_augment(settings: Augmentation, *, num_classes: int) -> augment.Augment:
    """What the settings say happens to a training batch on the device; random crops are made before it gets there."""
    strength = settings.colour_jitter
    transforms = {
        "shift": partial(augment.pad_and_crop, pixels=settings.shift),
        "flip": augment.flip,
        "rotation": partial(augment.rotation, degrees=settings.rotation),
        "scale": partial(augment.scale, factors=settings.scale),
        "elastic": partial(augment.elastic, alpha=settings.elastic),
        "colour_jitter": partial(
            augment.colour_jitter, brightness=strength, contrast=strength, saturation=strength, hue=strength / 4
        ),
        "policy": _POLICIES.get(settings.policy),
        "erasing": partial(augment.random_erasing, probability=settings.erasing),
        "cutout": partial(augment.cutout, side=settings.cutout),
    }
    chosen = [transform for name, transform in transforms.items() if transform and getattr(settings, name)]
    mixes = {"mixup": augment.mixup, "cutmix": augment.cutmix}
    mixing = [
        partial(mix, alpha=getattr(settings, name), num_classes=num_classes)
        for name, mix in mixes.items()
        if getattr(settings, name)
    ]
    return augment.in_turn(*([augment.on_batch(augment.compose(*chosen))] if chosen else []), *mixing)


def write_seeds(path: Path, outcomes: Sequence[Outcome]) -> str:
    """Writes what several seeds reached as JSON, beside the first run's receptive fields; says it in a line.

    The seconds of a run that was resumed are not known, and are null.
    """
    runs = [
        {
            "seed": outcome.experiment.seed,
            **outcome.fit.evaluation.summary,
            "seconds": None if outcome.fit.first_step else round(outcome.fit.seconds, 1),
        }
        for outcome in outcomes
    ]
    whole = [outcome.fit.seconds for outcome in outcomes if not outcome.fit.first_step]
    scored = "mean_average_precision" if outcomes[0].experiment.task == "tagging" else "accuracy"
    score = mean_and_deviation([outcome.fit.evaluation.summary[scored] for outcome in outcomes])
    write_results(path, {"settings": to_json(outcomes[0].experiment), f"test_{scored}": score, "runs": runs})
    picture = path.with_name(f"{path.stem}_receptive_fields.png")
    shutil.copy(outcomes[0].fit.run_dir / "analysis" / "receptive_fields.png", picture)
    return (
        f"test {scored.replace('_', ' ')} {score['mean']:.2%} +- {score['deviation']:.2%} over {len(runs)} seeds,"
        f" {f'at most {max(whole):.1f} s each' if whole else 'all resumed'}; written to {path} and {picture.name}"
    )
