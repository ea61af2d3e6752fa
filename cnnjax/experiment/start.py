"""The variables that a run starts from, where its settings name some weights."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from cnnjax.experiment.settings import Net
from cnnjax.experiment.trained import load_run
from cnnjax.models import Model
from cnnjax.models.weights import from_torch, head_names, load_torch_weights, to_torch


def starting_variables(
    net: Net,
    model: Model,
    shape: tuple[int, ...],
    classes: Sequence[str],
    seed: int,
    *,
    say: Callable[[str], Any],
) -> Any | None:
    """The variables of the weights that `net` names; None where it names none.

    The head starts anew where its classes are others: where their number differs, and, of a run, their names.

    Args:
        net: the settings.
        model: that is to be trained.
        shape: of a batch of pictures.
        classes: names, in the order of the model's outputs.
        seed: of a head that starts anew.
        say: is told what starts anew or is left out.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: they are damaged, or not those of the model.
        ImportError: the extra `weights` is not installed.
    """
    if net.weights is None:
        if given := [name for name in ("weights_revision", "weights_sha256") if getattr(net, name) is not None]:
            raise ValueError(f"{given[0]} is given, and weights are not; pass weights (--weights FILE) too")
        return None
    source, key = Path(net.weights).expanduser(), jax.random.key(seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if source.is_dir():
            found = _of_run(key, source, model, shape, classes)
        else:
            given = source if source.exists() else net.weights
            checks = {"revision": net.weights_revision, "sha256": net.weights_sha256}
            found = load_torch_weights(model, given, fresh_head=key, shape=shape, **checks)
    say(f"starting from the weights of {net.weights}")
    for warning in told:
        say(f"note: {warning.message}")
    return found


def _of_run(key: jax.Array, folder: Path, model: Model, shape: tuple[int, ...], classes: Sequence[str]) -> Any:
    trained = load_run(folder)
    of_batch = (1, *trained.image_shape)
    tensors = to_torch(trained.model, trained.variables, shape=of_batch)
    if trained.classes != tuple(classes):
        head = head_names(trained.model, shape=of_batch)
        tensors = {name: array for name, array in tensors.items() if name not in head}
    return from_torch(model, tensors, source=str(folder), fresh_head=key, shape=shape)
