"""Faster R-CNN's training in four steps: proposals and detector in turns, until they share their trunk.

1. Proposals are learned, from the weights that the settings name.
2. A detector of its own trunk, Fast R-CNN, is learned on the proposals of the first step, from the same weights.
3. Proposals are learned anew on the trunk of the second step, which stays.
4. The detector is learned on; trunk and proposals stay.

Each step is a run of its own, those before the last in a folder beside the run's.

Reference: Ren, He, Girshick and Sun (2015), "Faster R-CNN", section 3.2, 4-Step Alternating Training.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from rich.console import Console

from cnnjax.data.batches.progress import progress
from cnnjax.data.pictures.place import place
from cnnjax.data.proposals import KeptProposals
from cnnjax.data.sources.source import Source, read_example
from cnnjax.experiment.settings import Experiment, Net
from cnnjax.experiment.trained import Trained, load_run
from cnnjax.models import FasterRCNN, FastRCNN, create, inference_options
from cnnjax.tasks import DetectionSettings
from cnnjax.train.loop import RESULT

# What is learned of proposals, and what of the detector; and the layers of each.
_PROPOSALS, _DETECTOR = ("objectness", "proposal"), ("class", "box")
_TRUNK, _PROPOSING, _DETECTING = ("backbone/*",), ("rpn/*",), ("box_head/*", "predictor/*")


def run_alternating(
    run_on: Callable[..., Any],
    train_source: Source,
    test_source: Source,
    experiment: Experiment,
    *,
    validation_source: Source | None = None,
    console: Console | None = None,
    **own: Any,
) -> Any:
    """The outcome of the last step, which is a run like any other.

    Args:
        run_on: trains one step.
        train_source: pictures to train on.
        test_source: pictures to test on.
        experiment: the settings; each step has all of its epochs.
        validation_source: pictures to test on after every epoch.
        console: to print to.
        **own: as `run_on` takes them.

    Raises:
        ValueError: the net is not the paper's, its folder has no name, or as `run_on`.
    """
    model = create(experiment.net.name, **experiment.net.options)
    if not isinstance(model, FasterRCNN):
        raise ValueError(
            f"alternate is for the Faster R-CNN of the paper, and the net is {experiment.net.name!r}; take"
            " faster_rcnn_vgg16, or train all at once"
        )
    folder = experiment.training.folder.run_dir
    if folder is None:
        raise ValueError("alternate takes four runs, the first ones beside the last; name its folder (--run-dir)")
    sources = {"training": train_source, "validation": validation_source, "test": test_source}
    step = partial(_step, run_on, experiment, folder, console=console, **own)
    first = step(1, sources, parts=_PROPOSALS)
    given = {role: source and _proposed(first, source, folder, role, console) for role, source in sources.items()}
    options = {name: getattr(model, name) for name in _shared()} | {"num_classes": first.model.num_classes}
    second = step(2, given, net=replace(experiment.net, name="fast_rcnn", options=options))
    shared = _joined(first.variables, second.variables)
    third = step(3, sources, parts=_PROPOSALS, frozen=_TRUNK + _DETECTING, variables=shared)
    return run_on(
        train_source,
        test_source,
        _with_parts(experiment, _DETECTOR, _TRUNK + _PROPOSING),
        validation_source=validation_source,
        variables=third.variables,
        console=console,
        **own,
    )


def _step(
    run_on: Callable[..., Any],
    experiment: Experiment,
    folder: Path,
    number: int,
    sources: Mapping[str, Source | None],
    *,
    parts: tuple[str, ...] = (),
    frozen: tuple[str, ...] = (),
    net: Net | None = None,
    variables: Any = None,
    console: Console | None = None,
    **own: Any,
) -> Trained:
    """The net of one of the first three steps, trained where it is not there yet."""
    own_folder = _beside(folder) / str(number)
    if not (own_folder / RESULT).exists():
        (console or Console()).print(f"step {number} of 4, in {own_folder}", highlight=False)
        changed = _with_parts(experiment, parts, frozen)
        placed = replace(changed.training.folder, run_dir=own_folder, resume=False, restartable=True)
        run_on(
            sources["training"],
            sources["test"],
            replace(changed.with_training(folder=placed), net=net or experiment.net),
            validation_source=sources["validation"],
            variables=variables,
            console=console,
            **own,
        )
    return load_run(own_folder)


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-steps")


def _with_parts(experiment: Experiment, parts: tuple[str, ...], frozen: tuple[str, ...]) -> Experiment:
    """The experiment with a part of its loss and of its layers."""
    optimizer = experiment.training.optimizer
    return replace(
        experiment.with_training(optimizer=replace(optimizer, frozen=(*optimizer.frozen, *frozen))),
        task=replace(cast(DetectionSettings, experiment.task), parts=parts),
    )


def _shared() -> list[str]:
    """Options that Fast R-CNN has too."""
    ours, theirs = ({field.name for field in fields(net)} for net in (FasterRCNN, FastRCNN))
    return sorted((ours & theirs) - {"parent", "name", "dtype", "param_dtype", "num_classes"})


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The layers of the second step, and those of the first one that the second lacks."""
    return {name: {**tree, **second.get(name, {})} for name, tree in first.items()}


def _proposed(trained: Trained, source: Source, folder: Path, role: str, console: Console | None) -> KeptProposals:
    """A source with the proposals of a net, as many as it looks at while it trains; kept in a file."""
    file = _beside(folder) / f"proposals of {role}.npy"
    if not file.exists():
        found = _propose(trained, source, console)
        unfinished = file.with_suffix(".unfinished.npy")
        np.save(unfinished, found)
        unfinished.replace(file)
    return KeptProposals(source, np.load(file))


def _propose(trained: Trained, source: Source, console: Console | None) -> np.ndarray:
    model = trained.model
    asked = model.clone(test_before=model.train_before, test_after=model.train_after)
    size, how = trained.image_shape[:2], trained.experiment.pictures.resize_by

    @jax.jit
    def regions(variables: Any, images: Any) -> Any:
        output: Any = asked.apply(variables, images, **inference_options(asked))
        return output.regions

    kept = np.zeros((len(source), model.train_after, 4), np.float32)
    with progress(f"proposals for pictures of {source.info.name}", len(source), console=console) as advance:
        for index in range(len(source)):
            example = read_example(source, index)
            sides = example["image"].shape[:2]
            # The corners of the picture move as its boxes would, and tell the way back.
            whole = np.array([[0, 0, sides[1], sides[0]]], np.float32)
            placed = place({"image": example["image"], "boxes": whole}, size, how)
            found = jax.tree.map(np.asarray, regions(trained.variables, trained.prepare(placed["image"][None])))
            back = np.linalg.inv(placed["matrix"].astype(np.float64))
            corners = found.boxes[0].reshape(-1, 2) @ back[:2, :2].T + back[:2, 2]
            boxes = np.clip(corners, 0, [sides[1], sides[0]]).reshape(-1, 4)
            slots = min(len(boxes), len(kept[index]))
            kept[index, :slots] = np.where(found.present[0][:, None], boxes, 0)[:slots]
            advance(1)
    return kept
