"""How a network answers when its picture changes: invariance of the output, equivariance of the feature maps.

Reference: Lenc and Vedaldi (2015), "Understanding image representations by measuring their equivariance and
equivalence", section 2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.changes import Change, Matrix, challenges, matrix_of, move, roll
from cnnjax.analysis.inputs import as_pictures, check_finite
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.program import Program
from cnnjax.analysis.reach.fields import AxisField, LayerField
from cnnjax.analysis.receptive_field import fields_of_layers, value_and_field
from cnnjax.analysis.tracing import trace_call
from cnnjax.data.augment.matrices import inverse, product
from cnnjax.view.result import Figure, Result


@dataclass(frozen=True)
class Response:
    r"""What one change of one severity does.

    Attributes:
        change: its name.
        severity: by how much.
        unit: of that.
        output_change: $\lVert f(Tx) - f(x) \rVert / \lVert f(x) \rVert$, the mean over the pictures.
        agreement: share of pictures whose largest output is the same one.
        accuracy: share of pictures whose largest output is their label's; None without labels.
        equivariance_errors: by layer, how far the maps of the moved picture, moved back, are from those of the picture,
            relative to these; NaN where nothing is left to compare, None for changes that move nothing by a matrix.
    """

    change: str
    severity: float
    unit: str
    output_change: float
    agreement: float
    accuracy: float | None
    equivariance_errors: dict[str, float] | None


@dataclass(frozen=True)
class Invariance(Result):
    """Responses to every change and severity, and what the network does with the pictures as they are.

    `accuracy` is that on the pictures as they are; `layers` are those whose maps were compared.
    """

    responses: tuple[Response, ...]
    examples: int
    accuracy: float | None
    layers: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One record per change and severity."""
        return [
            {
                "change": response.change,
                "severity": response.severity,
                "unit": response.unit,
                "output_change": response.output_change,
                "agreement": response.agreement,
                "accuracy": response.accuracy,
                **{f"{layer}_error": (response.equivariance_errors or {}).get(layer) for layer in self.layers},
            }
            for response in self.responses
        ]

    def notes(self) -> list[str]:
        """How many pictures, and the accuracy without any change."""
        plain = "" if self.accuracy is None else f" Without any change the accuracy is {self.accuracy:.1%}."
        return [f"{self.examples} pictures.{plain}"]

    def draw(self) -> Figure:
        """A panel per change: agreement, accuracy where it is known, and output change, over the severity."""
        from cnnjax.view import plots

        def lines(response: Response) -> dict[str, float]:
            known = {} if response.accuracy is None else {"accuracy": response.accuracy}
            return {"same answer": response.agreement, "output change": response.output_change, **known}

        panels = _panels(self.responses, lines)
        shown = f", {self.accuracy:.1%} right without any change" if self.accuracy is not None else ""
        title = f"Answers to changed pictures ({self.examples} pictures{shown})"
        return plots.curves(panels, x_label="severity", y_label="share, or relative change", title=title, columns=4)

    def draw_equivariance(self) -> Figure:
        """A panel per change that moves pictures: the error of each layer's maps over the severity.

        Raises:
            ValueError: no layers were compared.
        """
        from cnnjax.view import plots

        if not self.layers:
            raise ValueError("no layers were compared; give their names to `invariance`")
        moved = [response for response in self.responses if response.equivariance_errors is not None]
        panels = _panels(moved, lambda response: response.equivariance_errors or {})
        return plots.curves(
            panels, x_label="severity", y_label="equivariance error", title="Maps moved back", columns=3
        )


def invariance(
    key: jax.Array,
    net: Callable[..., Any],
    images: Any,
    *,
    labels: Any = None,
    changes: Sequence[Change] | None = None,
    layers: str | Sequence[str] = (),
) -> Invariance:
    """Changes pictures in every way, and measures what that changes.

    Args:
        key: for the changes that draw something.
        net: `models.bind(model, variables)`, a trained run, or any function of pictures (batch, height, width,
            channels), floats from 0 to 1, to (batch, classes).
        images: the pictures, floats from 0 to 1, or bytes.
        labels: the right class of each, if known.
        changes: see `challenges`, which makes those that are tried where left out.
        layers: names or patterns of layers whose maps are moved back and compared.

    Raises:
        ValueError: pictures, labels or output have other shapes; a layer there is not, or without positions.
    """
    images = as_pictures(images, axes=4, from_zero_to_one=True).astype(jnp.float32)
    program = trace_call(net, images)
    fields = _chosen(program, layers)
    values = [program.only_output(), *fields.values()]
    run = jax.jit(lambda pictures: evaluate(program, [pictures], values))
    output, *maps = run(images)
    known = None if labels is None else np.asarray(labels)
    if output.ndim != 2 or (known is not None and known.shape != (len(images),)):
        given = None if known is None else known.shape
        raise ValueError(
            f"output {output.shape}, labels {given}, images {images.shape}; expected an output (batch, classes) and a"
            " label for each picture"
        )
    if known is not None and not (
        np.issubdtype(known.dtype, np.integer) and 0 <= known.min() <= known.max() < output.shape[1]
    ):
        raise ValueError(
            f"labels are {known.dtype} from {known.min()} to {known.max()}; expected integers from 0 to"
            f" {output.shape[1] - 1}"
        )
    check_finite("output", output)
    names, responses = tuple(field.name for field in fields), []
    for change in challenges(min(images.shape[1:3])) if changes is None else changes:
        for severity in change.severities:
            key, drawn = jax.random.split(key)
            changed, *changed_maps = run(change.apply(drawn, images, severity))
            errors = None
            if change.matrix is not None:
                matrix = change.matrix(severity, *images.shape[1:3])
                found = zip(fields, maps, changed_maps, strict=True)
                errors = {field.name: _map_error(one, two, field, change, matrix) for field, one, two in found}
            responses.append(
                Response(
                    change.name,
                    severity,
                    change.unit,
                    output_change=_relative(output, changed),
                    agreement=float((output.argmax(-1) == changed.argmax(-1)).mean()),
                    accuracy=None if known is None else float((np.asarray(changed).argmax(-1) == known).mean()),
                    equivariance_errors=errors,
                )
            )
    plain = None if known is None else float((np.asarray(output).argmax(-1) == known).mean())
    return Invariance(tuple(responses), len(images), plain, names)


def equivariance_error(key: jax.Array, net: Callable[..., Any], images: Any, change: Change, severity: float) -> float:
    r"""How far a function's maps are from moving along with the picture.

    $$\frac{\lVert T'^{-1} f(Tx) - f(x) \rVert}{\lVert f(x) \rVert}$$

    with T' what T is on the grid of the maps, whose positions lie at the centres of their receptive fields; over the
    positions that are moved in from inside the maps. A function without positions is compared as it is.

    Args:
        key: for a change that draws something.
        net: `models.bind(model, variables)`, a trained run, or any function of pictures that gives one array.
        images: (batch, height, width, channels), as floats, or bytes, which become floats from 0 to 1.
        change: of the pictures, such as `changes.rotation(90.0)`.
        severity: of the change.

    Raises:
        ValueError: the change moves no points by a matrix.
    """
    if change.matrix is None:
        raise ValueError(f"{change.name} moves no points by a matrix, so that nothing can be moved back")
    images = as_pictures(images, axes=4).astype(jnp.float32)
    program = trace_call(net, images)
    output, field = value_and_field(program)
    (plain,) = evaluate(program, [images], [output])
    (changed,) = evaluate(program, [change.apply(key, images, severity)], [output])
    check_finite("output", plain)
    if plain.ndim != 4:
        return _relative(plain.reshape(len(plain), -1), changed.reshape(len(changed), -1))
    field.check_rows_and_columns()
    return _map_error(plain, changed, field, change, change.matrix(severity, *images.shape[1:3]))


def _panels(responses: Sequence[Response], lines: Callable[[Response], Mapping[str, float]]) -> list[Any]:
    """A panel for each change, with a line for each number of a response, over the severity."""
    from cnnjax.view import plots

    panels = []
    for name in dict.fromkeys(response.change for response in responses):
        mine = [response for response in responses if response.change == name]
        places = [response.severity for response in mine]
        heights = {line: (places, [lines(response)[line] for response in mine]) for line in lines(mine[0])}
        panels.append(plots.Panel(f"{name} / {mine[0].unit}" if mine[0].unit else name, heights))
    return panels


def _chosen(program: Program, layers: str | Sequence[str]) -> dict[LayerField, int]:
    """Fields and values of the layers asked for.

    Raises:
        ValueError: one has no rows and columns.
    """
    if not layers:
        return {}
    found = [part for layer in program.matching(layers) for part in layer.parts()]
    fields = fields_of_layers(program, found)
    for field in fields:
        field.check_rows_and_columns()
    return {field: part.value for field, part in zip(fields, found, strict=True)}


def _map_error(plain: jax.Array, changed: jax.Array, field: LayerField, change: Change, matrix: Matrix) -> float:
    """The relative difference of maps once the changed ones are moved back to where the plain ones are."""
    if change.wraps:
        stride = float(field.stride[1] or 1)
        back, seen = roll(changed, -float(matrix[0, 0, 2]) / stride), jnp.ones(plain.shape[:3], bool)
    else:
        grid = _to_pixels(field)
        on_maps = product(product(inverse(grid), matrix), grid)
        back = move(changed, inverse(on_maps))
        there = move(jnp.ones((1, *plain.shape[1:3], 1)), on_maps)
        seen = jnp.broadcast_to(move(there, inverse(on_maps))[..., 0] > 0.999, plain.shape[:3])
    difference, reference = (jnp.where(seen[..., None], array, 0.0) for array in (back - plain, plain))
    size = float(jnp.linalg.norm(reference))
    return float(jnp.linalg.norm(difference)) / size if size else float("nan")


def _to_pixels(field: LayerField) -> Matrix:
    """The matrix from a place on the maps to the place on the picture, both counted from the upper left corner."""
    (scale_y, first_y), (scale_x, first_x) = map(_scale_and_first, field.axes)
    # The centre of position 0, half a position from the corner, is half a pixel beyond the number of its pixel.
    x, y = first_x + 0.5 - scale_x / 2, first_y + 0.5 - scale_y / 2
    return matrix_of([[scale_x, 0.0, x], [0.0, scale_y, y], [0.0, 0.0, 1.0]])


def _scale_and_first(axis: AxisField) -> tuple[float, float]:
    """Pixels per position, and the pixel that position 0 is centred on, counted from a position in the middle.

    Position 0 itself may see nothing, or less than the others, as at the border of a canvas.
    """
    stride, seeing = float(axis.stride or 1), np.flatnonzero(~np.isnan(axis.centres))
    if not len(seeing):
        return stride, 0.0
    middle = seeing[len(seeing) // 2]
    return stride, float(axis.centres[middle] - stride * middle)


def _relative(plain: jax.Array, changed: jax.Array) -> float:
    sizes = jnp.linalg.norm(plain, axis=-1)
    changes = jnp.linalg.norm(changed - plain, axis=-1)
    return float(jnp.mean(changes / jnp.where(sizes > 0, sizes, 1.0)))
