"""The metrics of a trained network on a split of its data, or on other data with the same classes."""

import json
from dataclasses import replace

import jax.numpy as jnp
import optax
from rich.console import Console

from cnnjax.data.augment import unchanged
from cnnjax.data.batches.loader import Fault
from cnnjax.data.proposals import SearchedProposals
from cnnjax.data.sources.source import Source
from cnnjax.experiment.trained import Trained
from cnnjax.train.evaluation import Evaluation, Evaluator
from cnnjax.train.feed import open_feed
from cnnjax.train.parallel import Parallel, make_mesh, replicate
from cnnjax.train.recipe import Recipe
from cnnjax.train.state import TrainState


def evaluate(
    trained: Trained, source: Source, *, batch_size: int | None = None, console: Console | None = None
) -> Evaluation:
    """The numbers of a trained network on all examples of a source, as its run would give them.

    Args:
        trained: the network, as `load_run` gives it.
        source: the examples, such as `trained.open_split("test")`.
        batch_size: examples that are computed at once; those of the run where None.
        console: shows the progress of reading.

    Raises:
        ValueError: the examples are not like those of the run, or cannot be read.
    """
    training = trained.experiment.training
    training = replace(training, batch_size=batch_size or training.batch_size)
    parallel = Parallel(make_mesh(1))
    recipe = Recipe(trained.model, trained.task, optax.identity(), unchanged, trained.prepare_batch)
    if not getattr(trained.model, "proposes", True):
        source = SearchedProposals(source, trained.experiment.pictures.proposals)
    faults: list[Fault] = []
    feed = open_feed(source, training, parallel, read=trained.read, on_fault=faults.append, console=console)
    model_state = {name: tree for name, tree in trained.variables.items() if name != "params"}
    state = TrainState(
        step=jnp.int32(trained.step),
        params=trained.variables["params"],
        model_state=model_state,
        opt_state=(),
        key=(),
        guard=(),
        averages={},
    )
    found = Evaluator(recipe, parallel, feed)(replicate(parallel.mesh, state), keep=False, asked=lambda: None)
    if found is None:
        raise ValueError("the evaluation was interrupted")
    if not faults:
        return found
    return replace(found, summary={**found.summary, "unreadable": float(len(faults))})


def as_json(found: Evaluation) -> str:
    """The numbers of an evaluation as JSON, with split and step."""
    return json.dumps({"split": found.split, "step": found.step, **found.summary}, indent=2) + "\n"
