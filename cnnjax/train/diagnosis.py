"""Where a number first went wrong: a step is replayed, and everything it computes is looked at in order."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.data.batches.resident import gather
from cnnjax.models import unstack
from cnnjax.train.gradient import forward
from cnnjax.train.hosts import from_all_processes
from cnnjax.train.recipe import Recipe
from cnnjax.train.setup import Setup
from cnnjax.train.state import TrainState

DUMP = "not_finite.json"


@dataclass(frozen=True)
class Finding:
    """What a replay found.

    Attributes:
        step: the number of the step.
        first: the first value that is not finite, such as "layer conv1"; None if the replay had none.
        ids: the examples whose inputs are not finite; all of the batch where all inputs are.
    """

    step: int
    first: str | None
    ids: tuple[int, ...]

    def __str__(self) -> str:
        few = ", ".join(map(str, self.ids[:8])) + (", ..." if len(self.ids) > 8 else "")
        where = "its replay, on the whole batch at once, was finite" if self.first is None else f"first in {self.first}"
        return f"step {self.step}: {where}; examples {few}"


def diagnose(state: TrainState, batch: Any, examples: Any, *, recipe: Recipe) -> Finding:
    """Replays the step of a state on a batch, and finds the first value that is not finite.

    Looked at are, in this order, the parameters and the model's state, the augmented and prepared batch, the outputs of
    the model's layers, its own output, the loss, the gradients and the model's new state. The batch is taken whole,
    even where it is cut into microbatches. Of scanned blocks the first that has a bad value is named, and in it the
    first such layer by name, not by place.
    """
    names: list[str] = []
    flags, rows = jax.jit(partial(_replay, names=names, recipe=recipe))(state, batch, examples)
    wrong = np.flatnonzero(~np.asarray(flags))
    ids, rows = from_all_processes((batch["id"], rows))
    chosen = ids if rows.all() else ids[~rows]
    first = names[wrong[0]] if wrong.size else None
    return Finding(int(state.step) + 1, first, tuple(int(number) for number in chosen))


def divergence_error(setup: Setup, state: Any, step: int, skipped: int, folder: Path) -> FloatingPointError:
    """The error that ends a run whose last steps were all skipped; what a replay finds is written to its folder.

    Args:
        setup: of the run.
        state: as the run has it; steps after `step` were skipped as well.
        step: the last one that is known to be skipped.
        skipped: how many were, in a row.
        folder: of the run.

    Returns:
        The error, to be raised.
    """
    parallel, feed, rate = setup.parallel, setup.train_feed, setup.rate(step)
    state = replace(parallel.unreplicate(state), step=jnp.asarray(step - 1, jnp.int32))
    with closing(feed.shuffled(seed=setup.training.seed, start=(step - 1) * feed.batch_size)) as batches:
        (batch,) = parallel.to_devices([next(batches)])
    finding = diagnose(state, batch, parallel.unreplicate(feed.on_device), recipe=setup.recipe)
    if jax.process_index() == 0:
        found = {**asdict(finding), "skipped_in_a_row": skipped, "learning_rate": rate}
        (folder / DUMP).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    cure = "try a lower learning rate" if rate is None else f"with learning rate {rate:.3g}, try a lower one"
    return FloatingPointError(
        f"{skipped} steps in a row were skipped, because a number was not finite ({finding}); nothing of them was kept,"
        f" and {folder / DUMP} tells more; {cure}; look for NaN in the data and for labels that name no class"
    )


def _replay(
    state: TrainState, batch: Any, examples: Any, *, names: list[str], recipe: Recipe
) -> tuple[jax.Array, jax.Array]:
    """Whether each value is finite, whose names are put into `names`; and whether each example's inputs are."""
    names.clear()
    augment_key, model_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    batch = recipe.prepare(recipe.augment(augment_key, gather(examples, batch)))
    before = [
        *_looked_at("parameter", state.params, names),
        *_looked_at("the state's", state.model_state, names),
        *_looked_at("the batch's", batch, names),
    ]

    def loss_of(params: Any) -> tuple[jax.Array, tuple[list[jax.Array], Any]]:
        output, new_state = forward(model_key, params, state.model_state, batch, recipe=recipe, capture=True)
        captured = new_state.pop("intermediates")
        loss, _ = recipe.task.loss(output, batch)
        flags = [
            *_looked_at("layer", captured, names),
            *_looked_at("the model's output", output, names),
            *_looked_at("the loss", loss.value, names),
        ]
        return loss.value, (flags, new_state)

    gradients, (during, model_state) = jax.grad(loss_of, has_aux=True)(state.params)
    after = [
        *_looked_at("the gradient of", gradients, names),
        *_looked_at("the new state's", model_state, names),
    ]
    inputs = [leaf for leaf in jax.tree.leaves(batch) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    rows = [jnp.all(jnp.isfinite(leaf.reshape(leaf.shape[0], -1)), axis=1) for leaf in inputs]
    finite = jnp.all(jnp.stack(rows), axis=0) if rows else jnp.ones_like(batch["valid"])
    return jnp.stack([*before, *during, *after]), finite


def _looked_at(kind: str, tree: Any, names: list[str]) -> list[jax.Array]:
    """Whether each array is finite; each is named by its kind and its place."""
    flags = []
    for path, leaf in _leaves(unstack(tree)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            names.append(f"{kind} {path}".strip())
            flags.append(jnp.all(jnp.isfinite(leaf)))
    return flags


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays with their paths, in the order in which dictionaries were filled: a model's is that of its layers."""
    if isinstance(tree, Mapping):
        # What a module returned itself comes after what its parts returned.
        for name in sorted(tree, key=lambda name: name == "__call__"):
            yield from _leaves(tree[name], path if name == "__call__" else f"{path}/{name}".lstrip("/"))
    else:
        for leaf in jax.tree.leaves(tree):
            yield path, leaf
