"""What a network says of every pixel of pictures of any size, and the files that hold it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from PIL import Image
from rich.console import Console

from cnnjax.data.batches.progress import progress
from cnnjax.experiment.predictions import stems
from cnnjax.functional.borders import label_borders
from cnnjax.models import inference_options
from cnnjax.models.tiles import Tiling, apply_in_tiles, tiling_of
from cnnjax.tasks import PixelTask
from cnnjax.view.overlays import draw_borders, label_colours, paint_labels
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import as_csv
from cnnjax.view.visible import visible

if TYPE_CHECKING:
    from cnnjax.experiment.trained import Trained

# Pictures that `draw` shows.
_MOST_DRAWN = 8


@dataclass(frozen=True, eq=False)
class LabelMaps(Result):
    """A class for every pixel, picture by picture.

    Attributes:
        names: of the pictures: their files, or their numbers in an array.
        pictures: their pixels, (height, width, channels).
        labels: the class of each pixel, (height, width).
        records: of each picture, the share of each class, and how many objects there are where objects are told apart.
        classes: names, by label.
        objects: numbers of objects, (height, width), 0 for the background: connected pixels; empty where labels are
            classes of things that are not counted.
    """

    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...]
    labels: tuple[Int[np.ndarray, "_ _"], ...]
    records: tuple[dict[str, Any], ...]
    classes: tuple[str, ...]
    objects: tuple[Int[np.ndarray, "_ _"], ...] = field(default=())

    def rows(self) -> list[dict[str, Any]]:
        """The name of each picture and what is said of it."""
        return [{"picture": name, **record} for name, record in zip(self.names, self.records, strict=True)]

    def write(self, folder: Path) -> None:
        """Writes into a folder, for each picture, its label map and an overlay as PNG, and all records as CSV.

        Label maps are of one byte, with a palette that other programs show, or of two bytes where there are more
        classes. Maps of objects are of two bytes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        shown, _ = visible(self.pictures)
        for place, (stem, picture, labels) in enumerate(zip(stems(self.names), shown, self.labels, strict=True)):
            _palette_image(labels, len(self.classes)).save(folder / f"{stem}_labels.png")
            borders = label_borders(jnp.asarray(self.objects[place] if self.objects else labels))
            painted = draw_borders(paint_labels(picture, labels), np.asarray(borders))
            Image.fromarray(np.rint(255 * painted.clip(0, 1)).astype(np.uint8)).save(folder / f"{stem}_overlay.png")
            if self.objects:
                Image.fromarray(self.objects[place].astype(np.uint16)).save(folder / f"{stem}_objects.png")
        (folder / "predictions.csv").write_text(as_csv(self.rows()), encoding="utf-8", newline="")

    def draw(self) -> Figure:
        """The first pictures with their labels over them."""
        from matplotlib.figure import Figure as Drawing

        first = self.pictures[:_MOST_DRAWN]
        shown, note = visible(first)
        columns = min(4, len(first))
        lines = -(-len(first) // columns)
        figure = Drawing(figsize=(2.8 * columns, 2.9 * lines + 0.6), layout="constrained")
        for axes in figure.subplots(lines, columns, squeeze=False).flat:
            axes.axis("off")
        for axes, name, picture, labels in zip(figure.axes, self.names, shown, self.labels, strict=False):
            axes.imshow(paint_labels(picture, labels).clip(0, 1), interpolation="nearest")
            axes.set_title(Path(name).name, fontsize=8, fontweight="normal", parse_math=False)
        figure.suptitle(f"The first {len(first)} of {len(self.pictures)} pictures\n{note}".rstrip())
        return figure


def label_maps(
    trained: "Trained",
    task: PixelTask,
    names: Sequence[str],
    pictures: Iterable[np.ndarray],
    *,
    batch_size: int,
    console: Console | None = None,
) -> LabelMaps:
    """What a trained network says of every pixel of pictures of any size.

    A picture of the size of the run's goes through the net as in an evaluation. Others are cut into tiles that overlap,
    of one size, so that no further program is compiled; see `models.tiles`.

    Args:
        trained: a `Trained` network.
        task: its task.
        names: of the pictures.
        pictures: their pixels, bytes or floats as the run's.
        batch_size: pictures or tiles that are computed at once.
        console: shows the progress.
    """
    sides = trained.image_shape[:2]
    tiling = tiling_of(trained.model, max(sides))

    @partial(jax.jit, static_argnums=0)
    def compiled(model: Any, variables: Any, pictures: Any) -> jax.Array:
        return model.apply(variables, pictures, **inference_options(model))

    def apply(tiling: Tiling, picture: np.ndarray) -> np.ndarray:
        function = partial(compiled, tiling.model, trained.variables)
        return apply_in_tiles(function, picture, tiling, batch_size=batch_size)

    kept, said = [], []
    with progress("predicting", len(names), console=console) as advance:
        for picture in pictures:
            prepared = np.asarray(trained.prepare(picture[None]))[0]
            # Nothing beyond its own borders is to be seen where the net has seen nothing else in its training.
            whole = picture.shape[:2] == sides and tiling.model is trained.model
            if whole:
                logits = np.asarray(compiled(trained.model, trained.variables, prepared[None]))
            else:
                logits = apply(tiling, prepared)[None]
            kept.append(picture)
            said.append(jax.tree.map(np.asarray, task.predict(jnp.asarray(logits), {})))
            advance(1)
    labels = tuple(one["labels"][0] for one in said)
    records = [task.rows(one)[0] for one in said]
    objects = tuple(found for one in labels if (found := task.objects(one)) is not None)
    if objects:
        records = [{"objects": int(one.max()), **record} for one, record in zip(objects, records, strict=True)]
    return LabelMaps(tuple(names), tuple(kept), labels, tuple(records), trained.classes, objects)


def _palette_image(labels: Int[np.ndarray, "height width"], classes: int) -> Image.Image:
    if classes > 256:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(label_colours(max(classes, 2)).ravel().tolist())
    return image
