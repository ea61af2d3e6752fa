"""Edges then and now: Sobel's and Laplace's kernels, and a net, on the same photographs.

Claim: in china.jpg holistically-nested edge detection (HED) answers to the roof line, as Sobel's kernel does, and
hardly to anything in the sky; and the roof stands above foliage more surely than it does for Sobel's kernel.
Its five side outputs use a part of their receptive fields, which grow from 5 to 196 pixels. Trained for a few steps on
the borders of label maps (`nuclei`), it finds those of pictures that it has not seen better than before, and better
than Sobel's kernel.

    python experiments/edges.py --weights hed_bsds500.safetensors
    python experiments/edges.py --weights hed_bsds500.safetensors --train path/to/nuclei
                                        # writes runs/edges/, a page with pictures, and results/edges.json

Expected: HED answers 0.860 along the roof and 1.3e-5 in the sky, Sobel's kernel 0.091 and 0.0018 (52 times); in 99.99 %
of all pairs of pixels the roof is above foliage for HED, in 80.8 % for Sobel's kernel; effective fields of 5, 12, 24,
32 and 67 of 5, 14, 40, 92 and 196 pixels. After 100 steps, of one seed, the loss on 50 test pictures falls from 0.081
to 0.022, and F is 0.727, 0.577 before and 0.687 by Sobel's kernel, which finds more borders (recall 0.850, HED 0.770)
and is wrong more often (precision 0.576, HED 0.689). The number of steps was raised from 60 (F 0.709) after a look at
these figures. One and a half minutes for the photographs, 4 to 12 s a step, and 5 minutes to compare, on two shared
cores.

The sigmoid stretches HED's ratio of roof to sky, which is no measure against a kernel's; pairs do not depend on it.
Regions were chosen by looking at the photograph: the roof line is a band, nine pixels wide, about a broken line along
both slopes of the upper roof, the sky is a rectangle right of it, foliage two of them below. Photographs are scikit-
learn's; any file of HED's weights by the names of torchvision's VGG-16 (`features.0.weight`), `side1` to `side5` and
`fuse` will do. Without one, there are the kernels, and training starts from scratch.

Reference: Sobel and Feldman (1968), "A 3x3 Isotropic Gradient Operator for Image Processing"; Xie and Tu (2015),
"Holistically-Nested Edge Detection".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.stats
import tyro
from jaxtyping import Array, Bool, Float
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_sample_image

from cnnjax import Devices, Folder, Optimizer, Schedule, Training, analysis, fit, models
from cnnjax.cli import one_line_errors
from cnnjax.data import ArraySource, Info
from cnnjax.data.augment import flip, on_batch
from cnnjax.functional import kernels
from cnnjax.functional.borders import label_borders
from cnnjax.functional.losses import class_balanced_cross_entropy
from cnnjax.models.weights import load_torch_weights
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.report.results import write_results
from cnnjax.tasks import Mean, masked_mean, means
from cnnjax.tasks.heads import loss_over_heads, main_logits
from cnnjax.view import plots
from cnnjax.view.result import Figure, Records

RESULTS = Path(__file__).parent / "results" / "edges.json"
PHOTOGRAPHS = ("china", "flower")
SIDES = ("side1", "side2", "side3", "side4", "side5")
MEAN = (123.68, 116.779, 103.939)

# In pixels of china.jpg, (column, row): corners of the line along the upper roof's slopes, left and right of its top.
ROOF = (
    ((100, 107), (115, 104), (132, 101), (160, 90), (180, 77), (193, 65)),
    ((217, 66), (228, 77), (245, 88), (262, 97), (280, 104), (300, 113), (318, 119)),
)
# The band reaches so far to each side of the line.
REACH = 4
SKY = (slice(8, 120), slice(350, 632))
FOLIAGE = ((slice(345, 420), slice(20, 190)), (slice(310, 400), slice(400, 540)))

# A predicted edge is right within so many pixels of a border, and a border found within as many of a predicted edge.
TOLERANCE = 1
THRESHOLDS = np.linspace(0.02, 0.98, 49)

# Training pictures that choose thresholds.
CHOOSING = 50
# Test pictures that the page shows, and what it tells of the regions.
SHOWN, REGIONS = 3, ("roof", "sky", "ratio", "above_foliage")

Answer: TypeAlias = Float[np.ndarray, "height width"]
Answers: TypeAlias = Float[np.ndarray, "batch height width"]
Scores: TypeAlias = tuple[list[dict[str, Any]], list[plots.Tile]]


@dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        weights: a file of trained HED.
        train: a folder with `train` and `test`, each with `images` and label maps of the same names in `instances`;
            training is left out without it.
        steps: of training.
        out: the folder that is written.
    """

    weights: Path | None = None
    train: Path | None = None
    steps: int = 100
    out: Path = Path("runs") / "edges"


def sobel(images: Float[Array, "batch height width 3"]) -> Float[Array, "batch height width"]:
    """How steep the grey picture is at each pixel, per pixel."""
    grey = jnp.mean(images, -1, keepdims=True)
    across, down = (
        kernels.filter_images(grey, kernels.create(name), padding_mode="edge")[..., 0] / 8
        for name in ("sobel_x", "sobel_y")
    )
    return jnp.hypot(across, down)


def laplacian(images: Float[Array, "batch height width 3"]) -> Float[Array, "batch height width"]:
    """How far the grey picture at each pixel is from its neighbours' mean."""
    grey = jnp.mean(images, -1, keepdims=True)
    return jnp.abs(kernels.filter_images(grey, kernels.laplacian(), padding_mode="edge")[..., 0]) / 4


def centred(images: Any) -> Float[Array, "batch height width 3"]:
    """What HED takes, from bytes."""
    return images.astype(jnp.float32) - jnp.asarray(MEAN, jnp.float32)[None, None, None]


def roof_band(height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """Pixels within `REACH` of the roof line."""
    line = np.ones((height, width), bool)
    for corners in ROOF:
        for (left, top), (right, bottom) in pairwise(corners):
            places = np.linspace(0, 1, 4 * (right - left))
            rows, columns = top + places * (bottom - top), left + places * (right - left)
            line[np.round(rows).astype(int), np.round(columns).astype(int)] = False
    return np.asarray(scipy.ndimage.distance_transform_edt(line)) <= REACH


def contrast(answer: Answer) -> dict[str, float]:
    """What stands out in china.jpg: mean answers along the roof and in the sky, and the roof against foliage.

    For the last, answers are the largest within `REACH` pixels, so that thin edges count as wide ones do: the share of
    pairs, one pixel of the roof's band and one of the foliage, in which that of the roof has the larger. No monotone
    map of the answers, such as a sigmoid, changes it; one half is what noise has.
    """
    band = roof_band(*answer.shape)
    roof, sky = float(answer[band].mean()), float(answer[SKY].mean())
    near = scipy.ndimage.maximum_filter(answer, 2 * REACH + 1)
    others = np.concatenate([near[part].ravel() for part in FOLIAGE])
    wins = scipy.stats.mannwhitneyu(near[band], others).statistic / (int(band.sum()) * len(others))
    return {"roof": roof, "sky": sky, "ratio": roof / sky, "above_foliage": float(wins)}


class Counts(NamedTuple):
    """Pixels by threshold, from which precision and recall are made."""

    right: np.ndarray
    predicted: np.ndarray
    found: np.ndarray
    borders: np.ndarray

    @property
    def f_score(self) -> np.ndarray:
        """Harmonic mean of precision and recall, by threshold."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    @property
    def precision(self) -> np.ndarray:
        """Share of the predicted pixels that are right."""
        return self.right / np.maximum(self.predicted, 1)

    @property
    def recall(self) -> np.ndarray:
        """Share of the border pixels that are found."""
        return self.found / np.maximum(self.borders, 1)


def count(answers: Answers, borders: Bool[np.ndarray, "batch height width"]) -> Counts:
    """Over all pictures; answers lie between 0 and 1."""
    near = np.ones((1, 2 * TOLERANCE + 1, 2 * TOLERANCE + 1), bool)
    wide, rows = scipy.ndimage.binary_dilation(borders, near), []
    for threshold in THRESHOLDS:
        predicted = answers > threshold
        found = borders & scipy.ndimage.binary_dilation(predicted, near)
        rows.append([(predicted & wide).sum(), predicted.sum(), found.sum(), borders.sum()])
    return Counts(*np.asarray(rows).T)


@dataclass(frozen=True)
class Edges:
    """Borders of the label maps `batch["masks"]`, from `batch["image"]`: the loss of HED over all of its outputs."""

    headline: ClassVar[str] = "loss"

    def inputs(self, batch: Mapping[str, Any], *, train: bool) -> Any:
        """The pictures."""
        return batch["image"]

    def loss(self, output: Any, batch: Mapping[str, Any]) -> tuple[Mean, dict[str, Any]]:
        """Class-balanced cross-entropy of the fused map and of all side outputs; the log tells that of the first."""
        targets = label_borders(batch["masks"])[..., None]

        def mean_loss(logits: jax.Array) -> Mean:
            return masked_mean(class_balanced_cross_entropy(logits, targets), batch["valid"])

        return loss_over_heads(mean_loss, output), {"loss": mean_loss(main_logits(output))}

    def predict(self, output: Any, batch: Mapping[str, Any]) -> Any:
        """Probabilities of edges."""
        return jax.nn.sigmoid(main_logits(output))[..., 0]

    def metrics(self, output: Any, predictions: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The loss."""
        return self.loss(output, batch)[1]

    def summarize(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """The loss."""
        return means(metrics)

    def score(self, summary: Mapping[str, float]) -> float:
        """The loss, negated."""
        return -summary["loss"]

    def rows(self, predictions: Any) -> list[dict[str, Any]]:
        """How much of each picture is edge."""
        return [{"mean probability": float(row.mean())} for row in predictions]

    def draw(self, batch: Mapping[str, np.ndarray], predictions: Any) -> dict[str, Any]:
        """Nothing; the page of the experiment shows them."""
        return {}


def read_label_maps(folder: Path) -> ArraySource:
    """Pictures and their label maps of one size, all in memory."""
    paths = sorted((folder / "images").glob("*.png"))
    if not paths:
        raise ValueError(f"{folder / 'images'} holds no .png; expected pictures, and label maps in {folder}/instances")
    images, masks = [], []
    for path in paths:
        images.append(np.asarray(Image.open(path).convert("RGB")))
        masks.append(np.asarray(Image.open(folder / "instances" / path.name)).astype(np.int32))
    return ArraySource({"image": np.stack(images), "masks": np.stack(masks)}, Info(folder.parent.name, folder.name, {}))


def quartered(source: ArraySource) -> ArraySource:
    """The four quarters of every picture."""
    arrays = {}
    for name, array in source.arrays.items():
        halves = [part for half in np.split(array, 2, axis=1) for part in np.split(half, 2, axis=2)]
        arrays[name] = np.concatenate(halves)
    return ArraySource(arrays, source.info)


def answers_of(net: models.Network, images: np.ndarray) -> Answers:
    """Probabilities of edges, two pictures at a time."""
    run = jax.jit(lambda images: jax.nn.sigmoid(net(centred(images)))[..., 0])
    return np.concatenate([np.asarray(run(images[at : at + 2])) for at in range(0, len(images), 2)])


def loss_of(net: models.Network, arrays: Mapping[str, np.ndarray]) -> float:
    """Class-balanced cross-entropy of the fused map, the mean over all pictures, two at a time."""

    def losses(images: jax.Array, masks: jax.Array) -> jax.Array:
        return class_balanced_cross_entropy(net(centred(images)), label_borders(masks)[..., None])

    run, images, masks = jax.jit(losses), arrays["image"], arrays["masks"]
    return float(
        np.concatenate([run(images[at : at + 2], masks[at : at + 2]) for at in range(0, len(images), 2)]).mean()
    )


def steepness(images: np.ndarray) -> Answers:
    """Sobel's answers, each picture's over what one in a hundred of them exceeds: between 0 and 1."""
    answers = np.asarray(jax.jit(sobel)(images.astype(np.float32) / 255))
    return (answers / np.quantile(answers, 0.99, axis=(1, 2), keepdims=True)).clip(0, 1)


def compare(methods: Mapping[str, Callable[[np.ndarray], Answers]], chosen_on: Any, test: Any) -> Scores:
    """Precision, recall and F-score on test pictures, at the thresholds of the best F-score on others."""
    records, tiles = [], []
    truths = [np.asarray(label_borders(jnp.asarray(each["masks"]))) for each in (chosen_on, test)]
    shown = range(min(SHOWN, len(test["image"])))
    tiles += [
        [plots.Tile(test["image"][place], "picture"), plots.Tile(truths[1][place] * 1.0, "borders")] for place in shown
    ]
    for name, method in methods.items():
        best = int(np.argmax(count(method(chosen_on["image"]), truths[0]).f_score))
        answers = method(test["image"])
        found = count(answers, truths[1])
        scores = {"precision": found.precision, "recall": found.recall, "f_score": found.f_score}
        scores = {kind: float(values[best]) for kind, values in scores.items()}
        # That of the threshold which these pictures would choose: how little the choice decides.
        scores["best_f_score"] = float(found.f_score.max())
        records.append({"edges": name, "threshold": float(THRESHOLDS[best]), **scores})
        for place in shown:
            tiles[place].append(plots.Tile(answers[place], name))
    return records, [tile for row in tiles for tile in row]


def train_on_borders(
    options: Options, folder: Path, model: models.Model, variables: Any | None, console: Console
) -> tuple[Scores, dict[str, float]]:
    """Trains, and compares borders found in test pictures; also the loss on these, before and after."""
    train, test = (read_label_maps(folder / split) for split in ("train", "test"))
    if variables is None:
        variables = models.initialize(jax.random.key(0), model, centred(jnp.asarray(test.arrays["image"][:1])))
    result = fit(
        model,
        Edges(),
        quartered(train),
        test,
        Training(
            steps=options.steps,
            batch_size=4,
            optimizer=Optimizer("adamw", 1e-4, clip_norm=1.0),
            schedule=Schedule("cosine", warmup=0.1),
            devices=Devices(count=1),
            log_every=max(options.steps // 5, 1),
            folder=Folder(options.out / "training", restartable=True),
        ),
        variables=variables,
        prepare=lambda batch: batch | {"image": centred(batch["image"])},
        augment=on_batch(flip),
        name="hed",
        console=console,
    )
    nets = {
        "HED, before training": models.bind(model, variables),
        "HED, trained on borders": models.bind(model, {"params": result.state.params}),
    }
    methods = {"Sobel": steepness, **{name: partial(answers_of, net) for name, net in nets.items()}}
    few = {name: array[:CHOOSING] for name, array in train.arrays.items()}
    losses = dict(zip(("before", "after"), (loss_of(net, test.arrays) for net in nets.values()), strict=True))
    return compare(methods, few, test.arrays), losses


def photographs(net: models.Network | None) -> tuple[list[dict[str, Any]], list[plots.Tile]]:
    """Contrasts in china.jpg by method, and pictures of all."""
    records, tiles = [], []
    for name in PHOTOGRAPHS:
        picture = load_sample_image(f"{name}.jpg")
        unit = jnp.asarray(picture, jnp.float32)[None] / 255
        answers = {"Sobel": np.asarray(sobel(unit))[0], "Laplacian": np.asarray(laplacian(unit))[0]}
        if net is not None:
            output = jax.jit(partial(net, train=True))(centred(jnp.asarray(picture)[None]))
            logits = {"HED": output.logits, **dict(zip(SIDES, output.auxiliary, strict=True))}
            answers |= {each: np.asarray(jax.nn.sigmoid(array))[0, ..., 0] for each, array in logits.items()}
        tiles.append(plots.Tile(picture, f"{name}.jpg"))
        # Slopes of sharp edges are far from the largest possible.
        brightness = {"Sobel": 4.0, "Laplacian": 4.0}
        tiles += [plots.Tile(brightness.get(each, 1.0) * values, each) for each, values in answers.items()]
        if name == "china":
            records = [{"edges": each, **contrast(values)} for each, values in answers.items()]
    return records, tiles


def fields(net: models.Network) -> list[dict[str, Any]]:
    """Effective receptive fields of the side outputs, on parts of both photographs."""
    parts = []
    for name in PHOTOGRAPHS:
        picture = load_sample_image(f"{name}.jpg")
        parts += [picture[top : top + 256, left : left + 256] for top, left in ((0, 64), (160, 320))]
    records = []
    for layer in SIDES:
        found = analysis.effective_receptive_field(net, centred(jnp.asarray(np.stack(parts))), layer=layer)
        sizes = {"theoretical": found.field.size[0], "effective": found.size, "ratio": found.ratio}
        records.append({"layer": layer, "stride": found.field.stride[0], **sizes, "sigma": float(np.mean(found.sigma))})
    return records


def draw_bars(title: str, name: str, kinds: Sequence[str], rows: Sequence[dict[str, Any]]) -> Figure:
    """A group of bars for each record."""
    return plots.bars([row[name] for row in rows], {kind: [row[kind] for row in rows] for kind in kinds}, title=title)


def main(options: Options) -> None:
    """Compares, measures, trains, and writes the folder."""
    console, model = Console(), models.create("hed")
    variables = None if options.weights is None else load_torch_weights(model, options.weights)
    net = None if variables is None else models.bind(model, variables)
    contrasts, tiles = photographs(net)
    of_each = len(tiles) // len(PHOTOGRAPHS)
    show = partial(plots.pictures, tiles, title="Edges of two photographs", columns=of_each if net is None else 3)
    draw = partial(draw_bars, "The roof of china.jpg above foliage", "edges", ("above_foliage",))
    parts = [
        ResultSection(
            "photographs",
            "Photographs",
            Records(contrasts, draw),
            "Kernels answer to every slope, also to foliage and tiles; the net to what people call an edge. Slopes of"
            " kernels are shown four times as bright.",
            drawings={"pictures": show},
        )
    ]
    measured: dict[str, Any] = {row["edges"].lower(): {key: row[key] for key in REGIONS} for row in contrasts}
    for row in contrasts:
        console.print(
            f"{row['edges']}: roof {row['roof']:.3f}, sky {row['sky']:.2g}, {row['ratio']:.3g} times;"
            f" above foliage {row['above_foliage']:.2%}",
            highlight=False,
        )
    if net is not None:
        sizes = fields(net)
        draw = partial(draw_bars, "Receptive fields of the side outputs", "layer", ("theoretical", "effective"))
        parts.append(ResultSection("fields", "Receptive fields", Records(sizes, draw), "In pixels, on photographs."))
        measured["fields"] = sizes
        console.print(
            "effective fields: " + ", ".join(f"{row['effective']:.1f} of {row['theoretical']}" for row in sizes)
        )
    if options.train is not None:
        (scores, found), losses = train_on_borders(options, options.train, model, variables, console)
        draw = partial(draw_bars, "Borders of nuclei", "edges", ("precision", "recall", "f_score"))
        show = partial(plots.pictures, found, title="Borders of nuclei", columns=len(found) // SHOWN)
        text = f"Of test pictures, within {TOLERANCE} pixel, at thresholds chosen on training pictures."
        parts.append(ResultSection("borders", "Borders", Records(scores, draw), text, drawings={"nuclei": show}))
        measured["borders"] = {"steps": options.steps, "test_loss": losses, "scores": scores}
        console.print(f"loss on test pictures: {losses['before']:.4f} before, {losses['after']:.4f} after training")
        for row in scores:
            console.print(f"{row['edges']}: F {row['f_score']:.3f} at {row['threshold']:.2f}", highlight=False)
    page = write_experiment_page(options.out, "Edges then and now", parts, claim=CLAIM, measured=measured)
    if options.weights is not None and options.train is not None:
        write_results(RESULTS, measured)
    console.print(f"page: {page}", highlight=False, soft_wrap=True)


CLAIM = "Kernels answer to every slope; a net that was shown edges, to edges."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=(__doc__ or "").split("\n\n")[0]))
