"""The stages of R-CNN's training that follow its fine-tuning: features of regions, SVMs, and box regression.

Each leaves its files in the run's folder, so an interrupted one goes on where it was. Of n regions with features of
size d, a picture takes 2 n d bytes: 16 MB in the paper's setting.

Reference: Girshick, Donahue, Darrell and Malik (2014), "Rich Feature Hierarchies for Accurate Object Detection and
Semantic Segmentation", section 2.3 and appendix C.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from rich.console import Console

from cnnjax.data.batches.loader import Loader
from cnnjax.data.batches.progress import progress
from cnnjax.data.sources.fingerprint import fingerprint
from cnnjax.experiment.rcnn_heads import Miner, fit_boxes
from cnnjax.functional.boxes import pairwise_iou
from cnnjax.models import RCNN, PicturesWithProposals
from cnnjax.models.rcnn import FITTED
from cnnjax.tasks.detection import objects_in

# Of appendix C and section 2.3: what a region overlaps that teaches the box, and below which it is background.
_NEAR, _FAR = 0.6, 0.3


class Regions(NamedTuple):
    """What is kept of the regions of a picture, the true boxes being the last ones.

    Attributes:
        hidden: features by which classes are told.
        boxes: in pixels of the picture as the net got it.
        overlaps: of each region with the objects; difficult ones and crowds too.
        objects: their boxes.
        classes: of the objects; -1 of those that are neither learned nor background.
        near: regions that overlap an object by more than 0.6, and teach the box.
        pooled: of these, what boxes are regressed from.
    """

    hidden: Float[np.ndarray, "regions features"]
    boxes: Float[np.ndarray, "regions 4"]
    overlaps: Float[np.ndarray, "regions objects"]
    objects: Float[np.ndarray, "objects 4"]
    classes: Int[np.ndarray, "objects"]
    near: Int[np.ndarray, "near"]
    pooled: Float[np.ndarray, "near pixels"]

    def overlap_of(self, kind: int) -> Float[np.ndarray, "regions"]:
        """Each region's largest overlap with an object of a class, or with one that is of no class; 0 without any."""
        some = self.overlaps[:, (self.classes == kind) | (self.classes < 0)]
        return some.max(axis=1, initial=0.0)

    def true(self, kind: int) -> Float[np.ndarray, "objects features"]:
        """The features of the objects of a class."""
        first = len(self.boxes) - len(self.objects)
        return self.hidden[first:][self.classes == kind].astype(np.float32)

    def background(self, kind: int) -> Float[np.ndarray, "regions features"]:
        """The features of the regions that hardly overlap any object of a class."""
        return self.hidden[self.overlap_of(kind) < _FAR].astype(np.float32)


@dataclass(frozen=True, eq=False)
class LastStages:
    """What `train.fit` calls after the fine-tuning, as its `conclude`.

    Attributes:
        model: the net.
        loader: of the training pictures with their proposals, as they are tested.
        prepare: standardises a batch.
        classes: names of things.
        console: shows the progress.
    """

    model: RCNN
    loader: Loader
    prepare: Callable[[Any], Any]
    classes: tuple[str, ...]
    console: Console | None = None

    def __post_init__(self) -> None:
        if jax.process_count() > 1:
            raise ValueError(
                f"R-CNN's SVMs are fitted by one process, and there are {jax.process_count()}; train it by one, with"
                " all of its devices"
            )

    def __call__(
        self, variables: Mapping[str, Any], folder: Path, asked: Callable[[], int | None]
    ) -> Mapping[str, Any] | None:
        """The collection of what is fitted; None where the run was asked to end before.

        Raises:
            ValueError: a picture cannot be read, or there is no object at all.
            OSError: a file cannot be written.
        """
        # Features of other weights, such as those of another best epoch, are none of ours.
        mark = fingerprint(*(np.asarray(leaf) for leaf in jax.tree.leaves(variables["params"])))
        kept = folder / "regions" / mark[:12]
        kept.mkdir(parents=True, exist_ok=True)
        files = self._describe(variables, kept, asked)
        if files is None:
            return None
        found: dict[str, Any] = {}
        for name, stage in (("svms", self._svms), ("boxes", self._boxes)):
            part = _stored(kept / f"{name}.npz", lambda stage=stage: stage(files, asked))
            if part is None:
                return None
            found |= part
        return {FITTED: {"svms": {**jax.tree.map(jnp.asarray, found), "ready": jnp.ones((), jnp.float32)}}}

    def _describe(self, variables: Any, kept: Path, asked: Callable[[], int | None]) -> list[Path] | None:
        """The files of all pictures that can be read."""
        files, count = [], len(self.loader.source)
        with progress("features of regions", count, console=self.console) as advance:
            for index in range(count):
                if asked() is not None:
                    return None
                file = kept / f"{index:06}.npz"
                if not file.exists():
                    example = self.loader.load(index, index).example
                    if example is not None:
                        _save(file, self._regions(variables, example)._asdict())
                if file.exists():
                    files.append(file)
                advance(1)
        return files

    def _regions(self, variables: Any, example: Mapping[str, Any]) -> Regions:
        batch = jax.tree.map(lambda leaf: np.asarray(leaf)[None], dict(example))
        learned = np.asarray(objects_in(batch).present[0])
        present = np.asarray(batch["present"][0])
        objects = np.asarray(batch["boxes"][0], np.float32)
        given = np.asarray(batch["proposals"][0], np.float32)
        hidden, pooled = self._described(variables, batch["image"], np.concatenate([given, objects])[None])
        real = np.concatenate([(given[:, 2:] > given[:, :2]).all(axis=1), present])
        boxes, hidden, pooled = (array[real] for array in (np.concatenate([given, objects]), hidden, pooled))
        overlaps = np.asarray(pairwise_iou(jnp.asarray(boxes), jnp.asarray(objects[present])))
        classes = np.where(learned, batch["classes"][0], -1)[present]
        near = np.flatnonzero(overlaps[:, classes >= 0].max(axis=1, initial=0.0) > _NEAR)
        # Half precision is far finer than what the features tell.
        return Regions(
            hidden.astype(np.float16), boxes, overlaps, objects[present], classes, near, pooled[near].astype(np.float32)
        )

    def _described(self, variables: Any, image: Any, boxes: Any) -> tuple[np.ndarray, np.ndarray]:
        described = self._compiled(variables, image, boxes)
        return np.asarray(described.hidden[0]), np.asarray(described.pooled[0])

    @cached_property
    def _compiled(self) -> Any:
        def described(variables: Any, image: Any, boxes: Any) -> Any:
            images = self.prepare({"image": image})["image"]
            _, noted = self.model.apply(variables, PicturesWithProposals(images, boxes), mutable=["intermediates"])
            return noted["intermediates"]["described"][0]

        return jax.jit(described)

    def _svms(self, files: list[Path], asked: Callable[[], int | None]) -> dict[str, np.ndarray] | None:
        """Of each class an SVM, with the hard negatives of one pass over the pictures."""
        count = len(self.classes)
        true: list[list[np.ndarray]] = [[] for _ in range(count)]
        norms: list[np.ndarray] = []
        for regions in _read(files):
            norms.append(np.linalg.norm(regions.hidden.astype(np.float32), axis=1))
            for kind in range(count):
                true[kind].append(regions.true(kind))
        if not sum(len(some) for kind in true for some in kind):
            raise ValueError(
                "the training pictures hold no object that is learned; R-CNN's SVMs need some of each class"
            )
        length = max(float(np.mean(np.concatenate(norms))), 1e-6)
        miners = [Miner(np.concatenate(some), length=length, cost=self.model.svm_cost) for some in true]
        with progress("hard negatives of the SVMs", len(files), console=self.console) as advance:
            for regions in _read(files):
                if asked() is not None:
                    return None
                for kind, miner in enumerate(miners):
                    miner.see(regions.background(kind))
                advance(1)
        svms = [miner.svm() for miner in miners]
        return {
            "svm_kernel": np.stack([svm.kernel for svm in svms], axis=1).astype(np.float32),
            "svm_bias": np.array([svm.bias for svm in svms], np.float32),
        }

    def _boxes(self, files: list[Path], asked: Callable[[], int | None]) -> dict[str, np.ndarray] | None:
        """Of each class the regression from a region to the object that it overlaps most."""
        found = []
        for kind in range(len(self.classes)):
            if asked() is not None:
                return None
            pairs = [_pairs(regions, kind) for regions in _read(files)]
            pooled, boxes, objects = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
            found.append(fit_boxes(pooled, boxes, objects, penalty=self.model.ridge))
        return {
            "box_kernel": np.concatenate([kernel for kernel, _ in found], axis=1).astype(np.float32),
            "box_bias": np.concatenate([bias for _, bias in found]).astype(np.float32),
        }


def _pairs(regions: Regions, kind: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of regions near an object of a class: what describes them, their boxes, and the object's."""
    some = regions.classes == kind
    overlaps = regions.overlaps[regions.near][:, some]
    chosen = overlaps.max(axis=1, initial=0.0) > _NEAR
    mine = overlaps[chosen].argmax(axis=1) if some.any() else np.zeros(0, int)
    return regions.pooled[chosen], regions.boxes[regions.near][chosen], regions.objects[some][mine]


def _read(files: list[Path]) -> Iterator[Regions]:
    for file in files:
        with np.load(file) as stored:
            yield Regions(**stored)


def _stored(file: Path, make: Callable[[], dict[str, np.ndarray] | None]) -> dict[str, np.ndarray] | None:
    """What a file holds; made and written where there is none."""
    if file.exists():
        with np.load(file) as stored:
            return dict(stored)
    made = make()
    if made is not None:
        _save(file, made)
    return made


def _save(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Whole or not at all."""
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, allow_pickle=False, **arrays)
    os.replace(unfinished, file)
