"""A classification experiment from its settings to its page: where data, model, task, training and report meet."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax.numpy as jnp
from rich.console import Console

from cnnjax import models
from cnnjax.data import augment, open_source, shared_examples
from cnnjax.data.statistics import channel_statistics
from cnnjax.report.results import mean_and_deviation, write_results
from cnnjax.report.run_report import write_report
from cnnjax.tasks import Classification
from cnnjax.train import Experiment, Fit, fit
from cnnjax.train.config import to_json


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
    train_source = open_source(experiment.data, experiment.train_split, data_dir=experiment.data_dir)
    test_source = open_source(experiment.data, experiment.test_split, data_dir=experiment.data_dir)
    classes = train_source.info.classes
    if len(classes) < 2:
        raise ValueError(f"{experiment.data} names {len(classes)} classes; classification needs at least two")
    task = Classification(classes, label_smoothing=experiment.label_smoothing)
    dtype = jnp.bfloat16 if experiment.precision == "bfloat16" else jnp.float32
    model = models.create(experiment.model, num_classes=len(classes), dtype=dtype)
    console = console or Console()
    if shared := shared_examples(train_source, test_source):
        console.print(f"warning: {shared} of the {len(test_source)} test examples are also trained on", highlight=False)
    mean, deviation = channel_statistics(train_source)
    prepare = partial(augment.standardize, mean=mean, deviation=deviation)
    changes = []
    if experiment.augmentation.shift:
        changes.append(partial(augment.shift, pixels=experiment.augmentation.shift))
    if experiment.augmentation.flip:
        changes.append(augment.flip)
    result = fit(
        model,
        task,
        train_source,
        test_source,
        experiment,
        prepare=prepare,
        augment=augment.on_images(*changes),
        record={
            "classes": list(classes),
            "mean": list(mean),
            "deviation": list(deviation),
            "train_examples": len(train_source),
            "test_examples": len(test_source),
        },
        console=console,
    )
    return Outcome(experiment, result, write_report(result, model, task, experiment, prepare=prepare))


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
    accuracy = mean_and_deviation([outcome.fit.evaluation.summary["accuracy"] for outcome in outcomes])
    write_results(path, {"settings": to_json(outcomes[0].experiment), "test_accuracy": accuracy, "runs": runs})
    picture = path.with_name(f"{path.stem}_receptive_fields.png")
    shutil.copy(outcomes[0].fit.run_dir / "analysis" / "receptive_fields.png", picture)
    return (
        f"test accuracy {accuracy['mean']:.2%} +- {accuracy['deviation']:.2%} over {len(runs)} seeds,"
        f" {f'at most {max(whole):.1f} s each' if whole else 'all resumed'}; written to {path} and {picture.name}"
    )
