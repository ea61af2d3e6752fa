"""The analyses and the page of a finished run: `analysis/` (CSV, JSON, PNG) and `report.html` in its folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from cnnjax import analysis
from cnnjax.models import Model, bind
from cnnjax.report.results import hardware
from cnnjax.tasks import Task
from cnnjax.train import TrainResult, format_metric, read_rows
from cnnjax.train.log import SPLITS
from cnnjax.train.run_folder import RECORD
from cnnjax.view import figures, page, save_rows

# Layers whose feature maps are drawn; of a deeper net, this many spread evenly. And the channels of each.
MOST_MAPS, MOST_CHANNELS = 16, 16

PAGE = "report.html"
RECEPTIVE_FIELDS = "analysis/receptive_fields.png"


def write_run(
    result: TrainResult, task: Task, *, model: Model | None = None, prepare: Callable[[Any], Any] = lambda batch: batch
) -> Path:
    """Writes the page of a finished run: numbers, curves, the task's drawings, and analyses of the model's layers.

    Args:
        result: of the run.
        task: draws its predictions.
        model: that was trained; its layers are analysed on the first test example. Left out where None, and where its
            input is not one batch of pictures.
        prepare: changes a batch into what the model takes.

    Returns:
        The path of the page.
    """
    folder = result.run_dir / "analysis"
    folder.mkdir(exist_ok=True)
    pictures = _Pictures(folder)
    example = jax.tree.map(lambda array: array[:1], result.evaluation.examples)
    inputs = task.inputs(prepare(example), train=False)
    sections = [_result(result), _curves(result, pictures)]
    if model is not None and isinstance(inputs, jax.Array | np.ndarray) and inputs.ndim == 4:
        classes = getattr(task, "classes", getattr(task, "tags", ()))
        sections += _layers(result, model, inputs, folder, pictures, classes)
    with figures.style():
        drawn = task.draw(result.evaluation.examples, result.evaluation.predictions)
    if drawn:
        blocks = tuple(pictures.add(_file_name(caption), figure, caption) for caption, figure in drawn.items())
        sections.append(page.Section("Predictions", blocks))
    record = json.loads((result.run_dir / RECORD).read_text(encoding="utf-8"))
    rows = [("hardware", hardware()), *_flatten(record).items()]
    sections.append(page.Section("Settings", (page.Table(("setting", "value"), rows),)))
    path = result.run_dir / PAGE
    title = f"{record['name']} on {record['sources']['training']['data']}"
    facts = [(f"test {name}", format_metric(name, value)) for name, value in result.evaluation.summary.items()]
    path.write_text(page.render(title, sections, subtitle=f"Run {result.run_dir.name}", facts=facts), encoding="utf-8")
    return path


class _Pictures:
    """Saves figures in the folder, and gives them as blocks of the page."""

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, name: str, figure: Figure, caption: str, *, alt: str = "") -> page.Picture:
        data = figures.png(figure)
        (self._folder / f"{name}.png").write_bytes(data)
        return page.Picture(data, alt=alt or caption, caption=caption)


def _result(result: TrainResult) -> page.Section:
    split, step = result.evaluation.split, result.evaluation.step
    text = f"The numbers are those of step {step:,} on the split {split}, after {result.seconds:.1f} seconds."
    if result.best_step is not None and result.chosen_on == split:
        text += (
            f" The best checkpoint ({result.best_score:.4g}) is that of step {result.best_step:,}, chosen on the test"
            " split: its own score is not one to report."
        )
    elif result.best_step is not None:
        text += (
            f" It is the best checkpoint ({result.best_score:.4g}), chosen on the split {result.chosen_on}; the split"
            f" {split} was touched once, at the end."
        )
    return page.Section("Result", (page.Text(text),))


def _curves(result: TrainResult, pictures: _Pictures) -> page.Section:
    rows = [line for row in read_rows(result.run_dir) for line in _lines(row)]
    note = page.Text(
        "Training numbers are means over the steps since the row before, on augmented pictures; the others"
        " are those of the state at that step, on plain ones."
    )
    panels = [
        pictures.add(f"learning_curve_{_file_name(metric)}", figures.learning_curves(rows, [metric]), "", alt=metric)
        for metric in figures.metrics_of(rows)
    ]
    return page.Section("Learning curves", (note, page.Gallery(tuple(panels))))


def _lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of the log as one line per split; what is measured once a row goes with the first."""
    shared = {"step": row["step"], "epoch": row["epoch"]}
    rest = {name: row[name] for name in ("learning_rate", "examples_per_second") if name in row}
    lines = [{**shared, "split": split, **row[split]} for split in SPLITS if split in row]
    return [{**lines[0], **rest}, *lines[1:]]


def _layers(
    result: TrainResult, model: Model, inputs: Any, folder: Path, pictures: _Pictures, classes: Sequence[str]
) -> list[page.Section]:
    net, image = bind(model, result.state.variables), _stretched(np.asarray(inputs[0], np.float32))
    summary = analysis.summary(net, inputs.shape)
    save_rows(folder / "layers", summary.rows())
    notes = [
        "One picture. Receptive field, stride and start (where the first position's field begins) in input pixels;",
        "a dash where no axis of the layer runs along the picture. What is seen through gates is left out. MACs are",
        "those of convolutions and products.",
        *summary.notes(),
    ]
    header, rows = summary.table()
    sections = [page.Section("Layers", (page.Table(header, rows, caption=" ".join(notes)),))]
    if any(stride is not None for layer in summary.fields.layers for stride in layer.stride):
        block = pictures.add(
            "receptive_fields", summary.fields.draw(image), "Receptive fields on the first test picture"
        )
        sections.append(page.Section("Receptive fields", (block,)))
    maps = _arrays(analysis.feature_maps(net, inputs))
    chosen = [list(maps)[i] for i in np.unique(np.linspace(0, len(maps) - 1, min(MOST_MAPS, len(maps))).astype(int))]
    explained = (
        "What each layer returns for the first test picture, before any activation that follows it. Every channel"
        " has its own colour scale, from the smallest to the largest value above it."
        f" {len(chosen)} of {len(maps)} layers."
    )
    blocks: list[page.Block] = [page.Text(explained)]
    if (found := analysis.first_kernel(net, inputs.shape[-1])) is not None:
        name, kernel = found
        figure = figures.filters(np.asarray(kernel, np.float32), name=name)
        blocks.append(pictures.add("filters", figure, f"First-layer filters, {name}"))
    for name in chosen:
        # The last layer's values are the classes', where there are as many.
        names = classes if name == chosen[-1] else ()
        figure = figures.feature_maps(maps[name], name=name, limit=MOST_CHANNELS, channel_names=names)
        blocks.append(pictures.add(f"maps_{_file_name(name)}", figure, f"Feature maps of {name}"))
    sections.append(page.Section("Filters and feature maps", tuple(blocks)))
    return sections


def _arrays(maps: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The first picture's maps and vectors; layers that return something else are left out."""
    arrays = {name: np.asarray(value[0], np.float32) for name, value in maps.items() if hasattr(value, "ndim")}
    return {name: array for name, array in arrays.items() if array.ndim in (1, 3)}


def _stretched(image: np.ndarray) -> np.ndarray:
    """A standardised picture, its smallest value 0 and its largest 1."""
    return (image - image.min()) / max(float(np.ptp(image)), 1e-12)


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text.lower())


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: str(value)}
    return flat
