"""Receptive fields read from the program itself: which input pixels every layer's every position depends on.

Reference: Araujo, Norris and Sim (2019), "Computing Receptive Fields of Convolutional Neural Networks", Distill.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from cnnjax.analysis.nets import Net
from cnnjax.analysis.program import Layer, Program, near_matches
from cnnjax.analysis.reach.fields import LayerField, layer_field
from cnnjax.analysis.reach.holes import may_have_holes, seen_pixels
from cnnjax.analysis.reach.propagation import propagate
from cnnjax.analysis.tracing import trace
from cnnjax.view.result import Figure, Result
from cnnjax.view.table import format_extent


@dataclass(frozen=True, eq=False)
class ReceptiveFields(Result):
    """Receptive fields of every layer of a function and of its outputs.

    `unknown` names the primitives that no rule covers: what they give is taken to see all that they are given.
    `misaligned` names the layers in which branches meet whose fields have other centres at the same position. `loops`
    names those with a loop that is not written out, a `while` or a scan of more than 200,000 equations: what is told of
    them holds for any number of turns, fewer of which may see less. `find_seen` tells the pixels of fields that have
    holes (see `seen_pixels`); None where none are to be expected.
    """

    input_shape: tuple[int, ...]
    layers: tuple[LayerField, ...]
    outputs: tuple[LayerField, ...]
    unknown: tuple[str, ...]
    misaligned: tuple[str, ...]
    loops: tuple[str, ...]
    find_seen: Callable[[Mapping[str, Sequence[int | None]]], Mapping[str, tuple[np.ndarray, ...]]] | None = None

    def __repr__(self) -> str:
        return f"ReceptiveFields(input_shape={self.input_shape}, {len(self.layers)} layers); print it for the table"

    def __getitem__(self, name: str) -> LayerField:
        """The layer of that name; KeyError lists near matches."""
        found = self.get(name)
        if found is None:
            raise KeyError(f"no layer is named {name!r}; {near_matches(name, [*self._by_name])}")
        return found

    def get(self, name: str) -> LayerField | None:
        """The layer of that name; None where there is none that sees the picture."""
        return self._by_name.get(name)

    def only_output(self) -> LayerField:
        """The field of the one array that the function gives.

        Raises:
            ValueError: it gives several, or one that does not depend on the input.
        """
        if len(self.outputs) > 1:
            names = ", ".join(output.name for output in self.outputs)
            raise ValueError(f"the function gives {len(self.outputs)} arrays ({names}); expected one: choose it")
        if not self.outputs:
            raise ValueError("what the function gives does not depend on its input")
        return self.outputs[0]

    @cached_property
    def _by_name(self) -> dict[str, LayerField]:
        return {layer.name: layer for layer in self.layers}

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer, then per output that is no layer's.

        `padding` is the share of positions whose field reaches beyond the picture.
        """
        named = {layer.name for layer in self.layers}
        others = [output for output in self.outputs if output.name not in named]
        return [
            {
                "layer": layer.name,
                "shape": "x".join(map(str, layer.shape)),
                "size": format_extent(layer.size),
                "stride": format_extent(layer.stride),
                "start": format_extent(layer.start, separator=","),
                "padding": round(layer.padding_share, 4),
                "uniform": layer.uniform,
                "aligned": layer.name not in self.misaligned,
            }
            for layer in (*self.layers, *others)
        ]

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Header and rows for people."""
        header = ("layer", "output", "receptive field", "stride", "start", "sees padding", "positions")
        rows: list[Sequence[str]] = []
        for row in self.rows():
            marks = [
                word for word, found in (("varies", not row["uniform"]), ("misaligned", not row["aligned"])) if found
            ]
            cells = (row["layer"], row["shape"], row["size"], row["stride"], row["start"], f"{row['padding']:.0%}")
            rows.append((*cells, ", ".join(marks)))
        return header, rows

    def notes(self) -> list[str]:
        """Primitives without a rule, where branches meet that look elsewhere, and loops that are not written out."""
        notes = []
        if self.unknown:
            notes.append(f"No rule for {', '.join(self.unknown)}: taken to see everything they are given.")
        if self.misaligned:
            notes.append(f"Branches that look at other places meet in {', '.join(self.misaligned)}.")
        if self.loops:
            notes.append(
                f"Of loops in {', '.join(self.loops)} fields hold for any number of turns: fewer may see less."
            )
        return notes

    def draw(self, picture: Any = None) -> Figure:
        """The field of each layer's centre position on a picture (height, width[, channels]), or on grey without one.

        Layers follow those inside them; of several with the same size, stride and start the first is drawn. Pixels
        inside a field that the unit does not depend on, as a dilated window leaves them, are faded. Along one axis, or
        three, a bar for the size of each layer's.

        Raises:
            ValueError: the picture has another size; or nothing sees the input.
        """
        shown = [layer for layer in self.layers if any(stride is not None for stride in layer.stride)]
        shown = _inner_first(shown or [*self.layers] or [*self.outputs])
        if not shown:
            raise ValueError("nothing that the function gives depends on its input, so that there is nothing to draw")
        spatial, title = self.input_shape[1:-1], "Receptive field of each layer's centre unit"
        if len(spatial) != 2:
            from cnnjax.view import plots

            columns = {
                f"axis {axis} / pixels": [float(layer.size[axis]) for layer in shown] for axis in range(len(spatial))
            }
            return plots.bars([layer.name for layer in shown], columns, title=title)
        from cnnjax.view import field_figures

        image = np.full(spatial, 0.8) if picture is None else picture
        if np.shape(image)[:2] != spatial:
            raise ValueError(f"a picture of {np.shape(image)} came; the fields are of pictures of {spatial}")
        different = {(layer.size, layer.stride, layer.start): layer for layer in reversed(shown)}
        kept = [layer for layer in shown if different[layer.size, layer.stride, layer.start] is layer]
        seen = self.find_seen({layer.name: layer.centre_position() for layer in kept}) if self.find_seen else {}
        boxes = []
        for layer in kept:
            (top, bottom), (left, right) = layer.box()
            text = f"{format_extent(layer.size)}, stride {format_extent(layer.stride)}"
            boxes.append(field_figures.FieldBox(layer.name, top, left, bottom, right, text, seen.get(layer.name)))
        if len(kept) < len(shown):
            title += ", where it changes"
        return field_figures.receptive_fields(image, boxes, title=title)


def _inner_first(layers: Sequence[LayerField]) -> list[LayerField]:
    """Layers in the order they end: each after those inside it, where they came in the order they begin."""
    ended: list[LayerField] = []
    running: list[LayerField] = []
    for layer in layers:
        while running and not layer.name.startswith(f"{running[-1].name}/"):
            ended.append(running.pop())
        running.append(layer)
    return [*ended, *reversed(running)]


def receptive_field(
    net: Net,
    shape: Sequence[int],
    *,
    gates: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> ReceptiveFields:
    """Receptive fields of every layer of a network, and of its outputs.

    `shape` is (batch, *spatial, channels): without a batch axis, rows would be read as examples. Layers are the named
    scopes (Flax opens one around every module); convolutions, pools, products and reductions outside them are named
    after their primitive. Nothing is computed: the traced program is read, so any JAX function will do. A product with
    a matrix that is known beforehand sees what it has no zeros for (resizing is one), and places known beforehand are
    followed (gathers, scatters, slices).

    Args:
        net: a Flax model, one with its variables (`models.bind`, a trained run), or any function of one array.
        shape: of its input.
        gates: whether what is seen through a value without position counts, such as a squeeze-and-excitation gate or
            the statistics of a batch, which see the whole picture from everywhere. Left out by default, here as in
            `summary`, `context`, the command line and the page of a run: published fields are those of the windows
            alone, and with the gates every layer behind the first of them would be said to see the whole picture.
        dtype: of its input.

    Raises:
        ValueError: `shape` has no spatial axes, or the function asks for the values of its input.

    >>> from jax import lax
    >>> fields = receptive_field(lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 1), (1, 2, 1), "VALID"), (1, 9, 1))
    >>> fields.outputs[0].size, fields.outputs[0].stride
    ((3,), (2,))
    """
    return fields_of(trace(net, shape, dtype=dtype), gates=gates, net=net)


def fields_of(program: Program, *, gates: bool = False, net: Net | None = None) -> ReceptiveFields:
    """`receptive_field` of a program that is traced already; holes are looked for if the net is given too."""
    found = propagate(program, gates=gates)
    image = program.shapes[program.image]

    def field(name: str, value: int) -> LayerField | None:
        reach = found.reaches[value]
        return None if reach is None else layer_field(name, program.shapes[value], image, reach)

    layers = program.layers()
    layer_of = {layer.value: layer.name for layer in layers}
    fields = [field(layer.name, layer.value) for layer in layers]
    outputs = [field(layer_of.get(value, f"(output){name}"), value) for name, value in program.outputs]
    find_seen = None
    if net is not None and may_have_holes(program, found.reaches):
        find_seen = partial(seen_pixels, net, image, gates=gates, dtype=program.dtypes[program.image])
    misaligned, loops = (
        tuple(dict.fromkeys(program.layer_of(program.equations.index(each)) for each in equations))
        for equations in (found.misaligned, found.loops)
    )
    return ReceptiveFields(
        image,
        tuple(each for each in fields if each is not None),
        tuple(each for each in outputs if each is not None),
        found.unknown,
        misaligned,
        loops,
        find_seen,
    )


def fields_of_layers(program: Program, layers: Sequence[Layer], *, gates: bool = False) -> list[LayerField]:
    """The fields of some layers of a program, or of their parts.

    Raises:
        ValueError: one sees nothing of the picture.
    """
    reaches, image = propagate(program, gates=gates).reaches, program.shapes[program.image]
    fields = []
    for layer in layers:
        reach = reaches[layer.value]
        if reach is None:
            raise ValueError(f"layer {layer.name} sees nothing of the picture")
        fields.append(layer_field(layer.name, program.shapes[layer.value], image, reach))
    return fields


def value_and_field(program: Program, layer: str | None = None) -> tuple[int, LayerField]:
    """The value of a layer and its field; those of the one array that the function gives where none is named.

    Raises:
        ValueError: there is no such layer, or several outputs; or nothing of the picture is seen.
    """
    if layer is None:
        return program.only_output(), fields_of(program).only_output()
    found = program.layer(layer)
    return found.value, fields_of_layers(program, [found])[0]
