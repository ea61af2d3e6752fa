"""What a detector says of pictures of any size, and the files that hold it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image
from rich.console import Console

from cnnjax.data.batches.progress import progress
from cnnjax.data.pictures.place import Placement, choose_placement, place
from cnnjax.data.proposals import proposals_of
from cnnjax.experiment.predictions import stems
from cnnjax.functional.masks import encode_rle
from cnnjax.image_size import Size
from cnnjax.models import inference_options
from cnnjax.tasks.instances import pasted
from cnnjax.tasks.task import ObjectTask
from cnnjax.view.boxes import Mark, class_colour, draw_boxes
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import as_csv
from cnnjax.view.visible import visible

if TYPE_CHECKING:
    from cnnjax.experiment.trained import Trained

# Pictures that `draw` shows.
_MOST_DRAWN = 8


@dataclass(frozen=True, eq=False)
class FoundObjects(Result):
    """Objects that a detector found, picture by picture, by falling score.

    Attributes:
        names: of the pictures: their files, or their numbers in an array.
        pictures: their pixels, (height, width, channels).
        boxes: x_min, y_min, x_max, y_max in pixels of the picture as it came.
        scores: from 0 to 1.
        labels: the class of each, a place in `classes`.
        classes: names of things.
        masks: the pixels of each object, (objects, height, width); empty of detectors without masks.
        least_score: objects below it are not drawn; tables and files have all.
    """

    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    boxes: tuple[Float[np.ndarray, "_ 4"], ...]
    scores: tuple[Float[np.ndarray, "_"], ...]
    labels: tuple[Int[np.ndarray, "_"], ...]
    classes: tuple[str, ...]
    masks: tuple[Bool[np.ndarray, "_ _ _"], ...] = field(default=())
    least_score: float = 0.3

    def rows(self) -> list[dict[str, Any]]:
        """A row for each object."""
        rows = []
        for name, boxes, scores, labels in zip(self.names, self.boxes, self.scores, self.labels, strict=True):
            for box, score, label in zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True):
                corners = dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))
                rows.append({"picture": name, "class": self.classes[label], "score": score, **corners})
        return rows

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """A line for each picture: how many objects have the score to be drawn, and the one of highest score."""
        lines: list[Sequence[str]] = []
        for name, scores, labels in zip(self.names, self.scores, self.labels, strict=True):
            counts = np.bincount(labels[scores >= self.least_score], minlength=len(self.classes))
            told = ", ".join(f"{number} {each}" for each, number in zip(self.classes, counts, strict=True) if number)
            best = f"{self.classes[labels[0]]} {scores[0]:.3f}" if len(scores) else "nothing"
            lines.append((name, told or "nothing", best))
        return ("picture", f"found, with a score of {self.least_score:g} or more", "highest score"), lines

    def coco(self) -> dict[str, Any]:
        """All objects as COCO's data set: pictures and classes are numbered from 1, boxes are x, y, width, height."""
        annotations = []
        for number, (boxes, scores, labels) in enumerate(zip(self.boxes, self.scores, self.labels, strict=True)):
            for place_, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
                x_min, y_min, x_max, y_max = (float(value) for value in box)
                entry = {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": int(label) + 1,
                    "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                    "area": (x_max - x_min) * (y_max - y_min),
                    "iscrowd": 0,
                    "score": float(score),
                }
                if self.masks:
                    mask = self.masks[number][place_]
                    entry |= {"segmentation": encode_rle(mask), "area": int(mask.sum())}
                annotations.append(entry)
        images = [
            {"id": number + 1, "file_name": Path(name).name, "height": picture.shape[0], "width": picture.shape[1]}
            for number, (name, picture) in enumerate(zip(self.names, self.pictures, strict=True))
        ]
        categories = [{"id": number + 1, "name": name} for number, name in enumerate(self.classes)]
        return {"images": images, "annotations": annotations, "categories": categories}

    def write(self, path: Path) -> None:
        """Writes a folder: each picture with its objects as PNG, all objects as COCO JSON and as CSV.

        A path that ends in .json or .csv gets that file alone.
        """
        if path.suffix == ".json":
            path.write_text(json.dumps(self.coco()), encoding="utf-8")
            return
        if path.suffix == ".csv":
            path.write_text(as_csv(self.rows()), encoding="utf-8", newline="")
            return
        path.mkdir(parents=True, exist_ok=True)
        for stem, drawn in zip(stems(self.names), map(self.drawn, range(len(self.names))), strict=True):
            Image.fromarray(drawn).save(path / f"{stem}_objects.png")
        (path / "objects.json").write_text(json.dumps(self.coco()), encoding="utf-8")
        (path / "objects.csv").write_text(as_csv(self.rows()), encoding="utf-8", newline="")

    def drawn(self, number: int) -> np.ndarray:
        """A picture with the objects that have the least score."""
        (shown,), _ = visible([self.pictures[number]])
        marks = [
            Mark(
                self.boxes[number][at],
                f"{self.classes[self.labels[number][at]]} {self.scores[number][at]:.2f}",
                class_colour(int(self.labels[number][at])),
                mask=self.masks[number][at] if self.masks else None,
            )
            for at in np.flatnonzero(self.scores[number] >= self.least_score)
        ]
        return draw_boxes(shown, marks)

    def draw(self) -> Figure:
        """The first pictures with their objects."""
        from cnnjax.view.plots import Tile, pictures

        count = min(_MOST_DRAWN, len(self.names))
        tiles = [Tile(self.drawn(number), Path(self.names[number]).name) for number in range(count)]
        title = f"The first {count} of {len(self.names)} pictures; scores of {self.least_score:g} or more"
        return pictures(tiles, title=title, columns=4)


def found_objects(
    trained: "Trained",
    task: ObjectTask,
    names: Sequence[str],
    pictures: Iterable[np.ndarray],
    *,
    canvases: Sequence[Size] = (),
    batch_size: int,
    console: Console | None = None,
) -> FoundObjects:
    """What a trained detector finds in pictures of any size, in their own pixels.

    Every picture is brought to the size of the run's, as the run did; or, where there are several canvases, to that on
    which it is the largest. One program is compiled for each canvas that is used.

    Args:
        trained: a `Trained` network.
        task: its task.
        names: of the pictures.
        pictures: their pixels, bytes or floats as the run's.
        canvases: heights and widths that the detector takes; that of the run's alone where there are none.
        batch_size: pictures of one canvas that are computed at once.
        console: shows the progress.
    """
    how = trained.experiment.pictures.resize_by
    sizes = [*canvases] or [(trained.image_shape[0], trained.image_shape[1])]

    @jax.jit
    def compiled(variables: Any, batch: Any) -> Any:
        prepared = trained.prepare_batch(batch)
        output = trained.model.apply(variables, task.inputs(prepared, train=False), **inference_options(trained.model))
        return task.predict(output, prepared)

    kept: list[np.ndarray] = []
    found: dict[int, dict[str, np.ndarray]] = {}
    waiting: dict[Size, list[tuple[int, dict[str, Any], Placement]]] = {size: [] for size in sizes}

    def compute(size: Size) -> None:
        some, waiting[size] = waiting[size], []
        if not some:
            return
        # Filled up, so that one program serves all.
        examples = [example for _, example, _ in some] + [some[0][1]] * (batch_size - len(some))
        batch = {name: np.stack([example[name] for example in examples]) for name in examples[0] if name != "matrix"}
        said = jax.tree.map(np.asarray, compiled(trained.variables, batch))
        for row, (number, _, placement) in enumerate(some):
            found[number] = _own(jax.tree.map(lambda array, row=row: array[row], said), placement, kept[number].shape)
            advance(1)

    with progress("predicting", len(names), console=console) as advance:
        for number, picture in enumerate(pictures):
            trained.pixels.check(picture[None])
            sides = (picture.shape[0], picture.shape[1])
            # Whole and undistorted, it is the largest there.
            fitting = max(sizes, key=lambda size, sides=sides: min(size[0] / sides[0], size[1] / sides[1]))
            placement = choose_placement(sides, fitting, how)
            kept.append(picture)
            example = {"image": picture}
            if not getattr(trained.model, "proposes", True):
                example["proposals"] = proposals_of(picture, trained.experiment.pictures.proposals)
            waiting[fitting].append((number, place(example, fitting, how), placement))
            if len(waiting[fitting]) == batch_size:
                compute(fitting)
        for size in sizes:
            compute(size)
    rows = [found[number] for number in range(len(names))]
    boxes, scores, labels = (tuple(row[name] for row in rows) for name in ("boxes", "scores", "classes"))
    masks = tuple(row["masks"] for row in rows) if rows and "masks" in rows[0] else ()
    classes = trained.classes or task.classes
    return FoundObjects(tuple(names), tuple(kept), boxes, scores, labels, classes, masks, task.least_score)


def _own(said: dict[str, np.ndarray], placement: Placement, shape: Sequence[int]) -> dict[str, np.ndarray]:
    """The objects of one picture in its own pixels, without empty slots."""
    present = said["present"].astype(bool)
    kept = {name: array[present] for name, array in said.items() if name != "present"}
    back = np.linalg.inv(placement.matrix)
    corners = kept["boxes"].reshape(-1, 2).astype(np.float64) @ back[:2, :2].T + back[:2, 2]
    if "masks" in kept:
        # Before boxes are cut: a mask fills its box, and that may reach into the padding around the picture.
        kept["masks"] = pasted(kept["masks"], corners.reshape(-1, 4), shape[:2])
    border = np.array([shape[1], shape[0]])
    kept["boxes"] = np.clip(corners, 0, border).reshape(-1, 4).astype(np.float32)
    return kept
