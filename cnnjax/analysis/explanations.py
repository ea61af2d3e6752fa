"""Several attribution methods side by side on the same pictures, and whether they depend on the weights at all."""

import textwrap
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import jax
import numpy as np

from cnnjax.analysis import attribution, class_activation
from cnnjax.analysis.compiled import Held, fingerprint
from cnnjax.analysis.inputs import as_pictures, check_finite
from cnnjax.analysis.interpreter import rectifiers
from cnnjax.analysis.nets import with_weights
from cnnjax.analysis.occlusion import occlusion
from cnnjax.analysis.program import Program, patterns_of
from cnnjax.models import Bound, initialize
from cnnjax.view.result import Figure, Result
from cnnjax.view.visible import visible


@dataclass(frozen=True)
class Method:
    """A way to explain an answer.

    Attributes:
        function: (net, images, targets) to attributions, or to a map for each picture.
        signed: whether numbers below zero speak against the class.
        needs: what a net must have: "rectifier", "layer" (one with rows and columns), or nothing.
        options: what else the function is given, out of key, baseline, window and layer.
    """

    function: Callable[..., Any]
    signed: bool = False
    needs: str = ""
    options: tuple[str, ...] = ()


METHODS: Mapping[str, Method] = {
    "saliency": Method(attribution.saliency),
    "gradient x input": Method(attribution.gradient_times_input, signed=True),
    "SmoothGrad": Method(attribution.smooth_grad, options=("key",)),
    "integrated gradients": Method(attribution.integrated_gradients, signed=True, options=("baseline",)),
    "guided backpropagation": Method(attribution.guided_backpropagation, needs="rectifier"),
    "deconvolution": Method(attribution.deconvolution, needs="rectifier"),
    "Grad-CAM": Method(class_activation.grad_cam, needs="layer", options=("layer",)),
    "Grad-CAM++": Method(class_activation.grad_cam_plus_plus, needs="layer", options=("layer",)),
    "occlusion": Method(occlusion, signed=True, options=("window", "baseline")),
}


@dataclass(frozen=True, eq=False)
class Explanations(Result):
    """What every method gives for every picture: maps (batch, height, width), numbers of colours summed.

    `classes` names the targets where names are known. `layer` is that of the class activation maps, which have its
    size. `completeness_errors` is what integrated gradients, where they are asked for, miss of each score's gain (see
    `completeness_error`).
    """

    images: np.ndarray
    targets: tuple[int, ...]
    scores: tuple[float, ...]
    maps: Mapping[str, np.ndarray]
    layer: str | None
    classes: tuple[str, ...] | None = None
    completeness_errors: tuple[float, ...] | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One record per picture and method.

        `total` is the sum over the pixels, which for integrated gradients is what the score gained over the baseline;
        `concentration` is the share of the absolute values that the largest tenth of the places has.
        """
        return [
            {
                "example": number,
                "target": self._name(number),
                "score": self.scores[number],
                "method": method,
                "total": float(maps[number].sum()),
                "concentration": _concentration(maps[number]),
            }
            for number in range(len(self.images))
            for method, maps in self.maps.items()
        ]

    def notes(self) -> list[str]:
        """The layer of the class activation maps, and what integrated gradients miss."""
        notes = [f"Class activation maps are those of {self.layer}."] if self.layer else []
        missing = max(self.completeness_errors or (0.0,))
        if missing > attribution.TOLERANCE:
            notes.append(f"Integrated gradients are not complete: up to {missing:.1%} of a score's gain is missing.")
        return notes

    def draw(self) -> Figure:
        """A line for each picture: itself, then every method."""
        from cnnjax.view import plots

        tiles, (shown, note) = [], visible(self.images)
        for number, image in enumerate(shown):
            tiles.append(plots.Tile(image, f"{self._name(number)}: {self.scores[number]:.3g}"))
            for method, maps in self.maps.items():
                values = maps[number]
                name = textwrap.fill(method, 15, break_long_words=False)
                if METHODS[method].signed:
                    largest = float(np.abs(values).max())
                    tiles.append(plots.Tile(values, f"{name}\n±{largest:.2g}", "signed"))
                else:
                    size = np.abs(values)
                    over = image if METHODS[method].needs == "layer" else None
                    tiles.append(plots.Tile(size, f"{name}\n0 to {size.max():.2g}", "heat", over=over))
        title = f"What the answers rest on: red for, blue against; bright for much{note and f' ({note})'}"
        return plots.pictures(tiles, title=title, columns=1 + len(self.maps))

    def _name(self, number: int) -> str:
        target = self.targets[number]
        return f"class {target}" if self.classes is None else self.classes[target]


def explain(
    key: jax.Array,
    net: Callable[..., Any],
    images: Any,
    *,
    targets: Any = None,
    methods: str | Sequence[str] | None = None,
    layer: str | None = None,
    classes: Sequence[str] | None = None,
    baseline: Any = 0.0,
) -> Explanations:
    """Every method on the same pictures (see `attribution`, `class_activation` and `occlusion`).

    Args:
        key: for SmoothGrad's noise.
        net: `models.bind(model, variables)`, a trained run, or any function of pictures (batch, height, width,
            channels), floats from 0 to 1, to scores (batch, classes).
        images: the pictures, floats from 0 to 1, or bytes.
        targets: a class for each; the highest score's where left out.
        methods: names out of `METHODS`; all that apply where left out: guided backpropagation and deconvolution need
            a rectifier, class activation maps a layer with rows and columns.
        layer: of the class activation maps; the last one with rows and columns where left out.
        classes: their names.
        baseline: what integrated gradients begin at and occlusion covers with.

    What is compiled is kept for the next call with the same net, of the last few.

    Raises:
        ValueError: pictures, scores or targets have other shapes; an unknown method; no layer has positions.

    Warns:
        RuntimeWarning: integrated gradients are not complete (see `integrated_gradients`).
    """
    images = as_pictures(images, axes=4, from_zero_to_one=True)
    images, targets, program = attribution.prepared(net, images, targets)
    if classes is not None and len(classes) <= int(targets.max()):
        raise ValueError(f"{len(classes)} classes are named; target {int(targets.max())} is beyond them")
    chosen = patterns_of(_applicable(program, layer) if methods is None else methods)
    if unknown := [method for method in chosen if method not in METHODS]:
        raise ValueError(f"methods {unknown}; there are {', '.join(METHODS)}")
    with_maps = any(METHODS[method].needs == "layer" for method in chosen)
    of_maps = (layer or class_activation.last_layer_with_positions(program)) if with_maps else None
    scores = attribution.score_of(net(images), targets)
    check_finite("scores", scores)
    start = attribution.baseline_of(images, baseline)
    window, known = max(min(images.shape[1:3]) // 6, 1), fingerprint(program)
    maps, errors = {}, None
    for method in chosen:
        run = _compiled(method, Held(net), known, of_maps, window)
        found = run(key, start, images, targets)
        maps[method] = np.asarray(found.sum(axis=-1) if found.ndim == 4 else found, np.float64)
        check_finite(method, maps[method])
        if method == "integrated gradients":
            missing = attribution.completeness_error(net, images, found, targets, baseline=start)
            attribution.warn_of_missing(missing)
            errors = tuple(map(float, missing))
    return Explanations(
        np.asarray(images),
        tuple(map(int, targets)),
        tuple(map(float, scores)),
        maps,
        of_maps,
        None if classes is None else tuple(classes),
        errors,
    )


@dataclass(frozen=True)
class SanityCheck(Result):
    """Rank correlation of explanations before and after weights were drawn anew, from the output down.

    `randomized` names, line by line, the module drawn anew last; `correlations` holds a number for each method.
    """

    randomized: tuple[str, ...]
    correlations: Mapping[str, tuple[float, ...]]

    def rows(self) -> list[dict[str, Any]]:
        """One record per module, from the output down."""
        return [
            {"drawn_anew_down_to": name, **{method: line[number] for method, line in self.correlations.items()}}
            for number, name in enumerate(self.randomized)
        ]

    def notes(self) -> list[str]:
        """How to read it."""
        return ["A method that shows what the network has learnt falls to 0; one that stays near 1 shows the picture."]

    def draw(self) -> Figure:
        """A line for each method over the number of modules drawn anew."""
        from cnnjax.view import plots

        places = list(range(len(self.randomized)))
        lines = {method: (places, list(line)) for method, line in self.correlations.items()}
        figure = plots.curves(
            [plots.Panel("", lines)],
            x_label="drawn anew, from the output down to",
            y_label="rank correlation",
            title="Explanations before and after weights are drawn anew",
        )
        axes = figure.axes[0]
        axes.set_xticks(places, self.randomized, rotation=45, ha="right", fontsize=8)
        return figure


def sanity_check(
    key: jax.Array,
    net: Bound,
    images: Any,
    *,
    methods: str | Sequence[str] = ("saliency", "gradient x input", "guided backpropagation", "Grad-CAM"),
    targets: Any = None,
    layer: str | None = None,
    prepare: Callable[[Any], Any] = lambda images: images,
) -> SanityCheck:
    """Draws a net's weights anew, module by module from the output down, and compares its explanations each time.

    The number is Spearman's rank correlation of absolute values, the mean over the pictures.

    Args:
        key: for the new weights and the noise.
        net: `models.bind(model, variables)` or a trained run: weights of its model are drawn anew.
        images: pictures (batch, height, width, channels), floats from 0 to 1, or bytes.
        methods: names out of `METHODS`.
        targets: a class for each picture; the net's own answers where left out.
        layer: of the class activation maps.
        prepare: makes of pictures what the net takes, if it does not do so itself as a run does.

    Raises:
        ValueError: as `explain`; or a function came whose weights are not known.

    Reference: Adebayo et al. (2018), "Sanity Checks for Saliency Maps", section 3.
    """
    images, bound = as_pictures(images, axes=4, from_zero_to_one=True), with_weights(net)
    draw_key, noise_key = jax.random.split(key)
    fresh = initialize(draw_key, bound.model, prepare(images))

    def with_variables(variables: Mapping[str, Any]) -> Callable[[Any], Any]:
        drawn = replace(cast(Any, bound), variables=variables)
        return lambda pictures: drawn(prepare(pictures))

    def explained(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
        found = explain(noise_key, with_variables(variables), images, targets=chosen, methods=methods, layer=layer)
        _compiled.cache_clear()  # every net is explained once, and would be held with all its weights
        return {method: np.abs(maps).reshape(len(images), -1) for method, maps in found.maps.items()}

    _, chosen, program = attribution.prepared(with_variables(bound.variables), images, targets)
    order = dict.fromkeys(layer.name.split("/")[0].split(" (")[0] for layer in program.layers())
    modules = [name for name in order if name in bound.variables["params"]][::-1]
    trained, current = explained(bound.variables), dict(bound.variables)
    lines: dict[str, list[float]] = {method: [1.0] for method in trained}
    for name in modules:
        current = {kind: {**tree, name: fresh[kind][name]} if name in tree else tree for kind, tree in current.items()}
        for method, maps in explained(current).items():
            lines[method].append(_rank_correlation(trained[method], maps))
    return SanityCheck(("nothing", *modules), {method: tuple(line) for method, line in lines.items()})


def _applicable(program: Program, layer: str | None) -> list[str]:
    """The methods that a net has what they need for."""
    lacking = set() if rectifiers(program) else {"rectifier"}
    if layer is None:
        try:
            class_activation.last_layer_with_positions(program)
        except ValueError:
            lacking.add("layer")
    return [name for name, method in METHODS.items() if method.needs not in lacking]


@lru_cache(maxsize=4 * len(METHODS))
def _compiled(method: str, net: Held, known: Hashable, layer: str | None, window: int) -> Callable[..., Any]:
    """A method of a net, compiled, of a key, a baseline, pictures and targets; `known` is the fingerprint."""

    @jax.jit
    def run(key: jax.Array, baseline: jax.Array, images: jax.Array, targets: jax.Array) -> jax.Array:
        given = {"key": key, "baseline": baseline, "layer": layer, "window": window}
        options = {name: given[name] for name in METHODS[method].options}
        return METHODS[method].function(net=net.thing, images=images, targets=targets, **options)

    return run


def _concentration(values: np.ndarray) -> float:
    sizes = np.sort(np.abs(values).ravel())[::-1]
    return float(sizes[: max(len(sizes) // 10, 1)].sum() / sizes.sum()) if sizes.sum() > 0 else float("nan")


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation, the mean over lines; 0 where a line is constant."""
    from scipy import stats

    pairs = [pair for pair in zip(one, other, strict=True) if all(np.ptp(line) > 0 for line in pair)]
    return float(sum(stats.spearmanr(*pair).statistic for pair in pairs) / len(one))
