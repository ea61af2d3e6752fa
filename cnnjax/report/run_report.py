"""The analyses and the page of a finished run: `analysis/` (CSV, JSON, PNG) and `report.html` in its folder."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from matplotlib.figure import Figure

from cnnjax import analysis
from cnnjax.report import field_figures, figures, page
from cnnjax.tasks import Task
from cnnjax.train import Experiment, Fit, read_rows
from cnnjax.train.config import to_json


def write_report(
    fit: Fit, model: nn.Module, task: Task, experiment: Experiment, *, prepare: Callable[[Any], Any]
) -> Path:
    """Analyses the trained model on the first test example, draws everything, and writes the page; returns its path.

    Tasks whose input is not a batch of pictures get curves and their own drawings, without the analyses of layers.
    """
    folder = fit.run_dir / "analysis"
    folder.mkdir(exist_ok=True)
    pictures = _Pictures(folder)
    example = jax.tree.map(lambda array: array[:1], fit.evaluation.examples)
    inputs = task.inputs(prepare(example))
    sections = [_result(fit), _curves(fit, pictures)]
    if isinstance(inputs, jax.Array | np.ndarray) and inputs.ndim == 4:
        sections += _layers(fit, model, inputs, np.asarray(example["image"][0]), folder, pictures)
    with figures.style():
        drawn = task.draw(fit.evaluation.examples, fit.evaluation.predictions)
    if drawn:
        blocks = tuple(pictures.add(_file_name(caption), figure, caption) for caption, figure in drawn.items())
        sections.append(page.Section("Predictions", blocks))
    settings = _flatten(to_json(experiment))
    sections.append(page.Section("Settings", (page.Table(("setting", "value"), list(settings.items())),)))
    path = fit.run_dir / "report.html"
    title = f"{experiment.model} on {experiment.data}"
    facts = [(f"test {name}", _percent(name, value)) for name, value in fit.evaluation.summary.items()]
    path.write_text(page.render(title, sections, subtitle=f"Run {fit.run_dir.name}", facts=facts), encoding="utf-8")
    return path


class _Pictures:
    """Saves figures in the folder, and gives them as blocks of the page."""

    def __init__(self, folder: Path):
        self._folder = folder

    def add(self, name: str, figure: Figure, caption: str) -> page.Picture:
        data = figures.png(figure)
        (self._folder / f"{name}.png").write_bytes(data)
        return page.Picture(data, alt=caption, caption=caption)


def _result(fit: Fit) -> page.Section:
    text = f"After step {int(fit.state.step)}, in {fit.seconds:.1f} seconds; the test set chose nothing."
    if fit.best_step is not None:
        text += f" The best checkpoint, chosen on the test set, is that of step {fit.best_step} ({fit.best_score:.4f})."
    return page.Section("Result", (page.Text(text),))


def _curves(fit: Fit, pictures: _Pictures) -> page.Section:
    rows = [line for row in read_rows(fit.run_dir) for line in _lines(row)]
    figure = figures.learning_curves(rows)
    return page.Section("Learning curves", (pictures.add("learning_curves", figure, "Learning curves"),))


def _lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of the log as one line per split; what is measured once a row goes with the first."""
    shared = {"step": row["step"], "epoch": row["epoch"]}
    rest = {name: row[name] for name in ("learning_rate", "examples_per_second") if name in row}
    lines = [{**shared, "split": split, **row[split]} for split in ("train", "test") if split in row]
    return [{**lines[0], **rest}, *lines[1:]]


def _layers(
    fit: Fit, model: nn.Module, inputs: Any, image: np.ndarray, folder: Path, pictures: _Pictures
) -> list[page.Section]:
    variables = fit.state.variables
    summary = analysis.summary(model, inputs.shape)
    rows = summary.rows()
    save_rows(folder / "layers", rows)
    header = ("layer", "output", "parameters", "MACs", "activations", "receptive field", "stride", "start")
    cells = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in list(row.values())[:-1]] for row in rows]
    total = ["total", "", f"{summary.params:,}", f"{summary.macs:,}", "", "", "", ""]
    table = page.Table(header, [*cells, total], caption="One picture; receptive fields in input pixels.")
    sections = [page.Section("Layers", (table,))]
    if boxes := _boxes(summary):
        figure = field_figures.receptive_fields(image, boxes, title="Receptive field of each layer's centre unit")
        block = pictures.add("receptive_fields", figure, "Receptive fields on the first test picture")
        sections.append(page.Section("Receptive fields", (block,)))
    maps = analysis.feature_maps(model, variables, inputs)
    blocks = []
    for name, kernel in _first_kernel(variables["params"], image.shape[-1]):
        figure = figures.filters(np.asarray(kernel), name=name)
        blocks.append(pictures.add("filters", figure, f"First-layer filters, {name}"))
    for name, value in maps.items():
        values = np.asarray(value[0], np.float32)
        if values.ndim in (1, 3):
            figure = figures.feature_maps(values, name=name)
            blocks.append(pictures.add(f"maps_{_file_name(name)}", figure, f"Feature maps of {name}"))
    sections.append(page.Section("Filters and feature maps", tuple(blocks)))
    return sections


def save_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes records as `path`.csv and `path`.json."""
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path.with_suffix(".json").write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")


def _boxes(summary: analysis.Summary) -> list[field_figures.FieldBox]:
    boxes = []
    for layer in summary.layers:
        if layer.field is None or len(layer.field.axes) != 2 or layer.field.stride == (None, None):
            continue
        (top, bottom), (left, right) = layer.field.box()
        row = {"size": "x".join(map(str, layer.field.size)), "stride": layer.field.stride[0]}
        text = f"{row['size']}, stride {row['stride']}"
        boxes.append(field_figures.FieldBox(layer.name, top, left, bottom, right, text))
    return boxes


def _first_kernel(params: Any, channels: int) -> list[tuple[str, Any]]:
    """The first convolution kernel that takes the picture's channels, with its layer's name; or nothing."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "kernel" and leaf.ndim == 4 and leaf.shape[2] == channels:
            return [("/".join(key.key for key in path[:-1]), leaf)]
    return []


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text.lower())


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: str(value)}
    return flat


def _percent(name: str, value: float) -> str:
    return f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"
