"""What the layers of a net make of pictures: maps, statistics, similarity, filters, patches, neighbours.

Claim: from the first layer to the last, feature maps grow sparser and look less and less like the picture: their linear
CKA with the first layer falls, and that of neighbouring layers stays high.

    python experiments/feature_maps.py                                       # writes results/feature_maps/
    python experiments/feature_maps.py --run-dir runs/cifar10 --data-dir path/to/tfds
    python experiments/feature_maps.py --model resnet18 --picture cat.jpg    # fresh weights, a picture of one's own

Expected: of ResNet-20 on CIFAR-10 (83.65 %), a linear CKA of 0.24 between the first layer and the last and of 0.57 at
least between neighbours, and zeros that grow from 17 % after stage1 to 71 % after stage3; 25 s on two cores. Without a
run LeNet-5 learns the digits first, in half a minute.

Reference: Kornblith et al. (2019), "Similarity of Neural Network Representations Revisited"; Zeiler and Fergus (2014),
"Visualizing and Understanding Convolutional Networks".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

from cnnjax import analysis, models
from cnnjax.cli import one_line_errors
from cnnjax.data import decode_image, fit_image
from cnnjax.experiment import QUICK, trained_network
from cnnjax.report.experiment_page import ResultSection, write_experiment_page
from cnnjax.view import figures

RESULTS = Path(__file__).parent / "results" / "feature_maps"

# Layers that are compared and drawn; of more, so many spread evenly.
MOST_LAYERS = 12


@dataclass(frozen=True)
class Options:
    """Whose maps, of what.

    Attributes:
        run_dir: the folder of a run; LeNet-5 is trained on the digits where neither this nor a model is given.
        data_dir: where the run's data lies, if it is TFDS or a relative path.
        model: the name of a model, with fresh weights.
        picture: a file; its maps are drawn, in place of those of the first test picture.
        layers: names or patterns; the top-level ones where left out.
        examples: test pictures for statistics and similarity.
        seed: of fresh weights.
        out: the folder that is written.
    """

    run_dir: Path | None = None
    data_dir: Path | None = None
    model: str | None = None
    picture: Path | None = None
    layers: tuple[str, ...] = ()
    examples: int = 256
    seed: int = 0
    out: Path = RESULTS


@dataclass(frozen=True, eq=False)
class Net:
    """A function of pictures from 0 to 1, with the weights behind it, pictures and a name."""

    name: str
    function: Callable[[Any], Any]
    bound: models.Bound
    pictures: np.ndarray


def open_net(options: Options, console: Console) -> Net:
    """The run's net, one with fresh weights, or the quick one."""
    if options.model is not None and options.run_dir is None:
        model, shape = models.create(options.model), models.image_shape(options.model)
        key = jax.random.key(options.seed)
        count = min(options.examples, 8 if options.picture is None else 1)
        pictures = np.asarray(jax.random.uniform(key, (count, *shape)), np.float32)
        variables = models.initialize(key, model, pictures)
        name = f"{options.model} with fresh weights, on noise"
        bound = models.bind(model, variables)
        net = Net(name, lambda x: bound(2 * x - 1), bound, pictures)
    else:
        trained = trained_network(options.run_dir, QUICK["lenet5"], console=console)
        pictures, _ = trained.test_pictures(options.examples, data_dir=options.data_dir)
        net = Net(f"trained {trained.title}", trained, trained, pictures)
    if options.picture is None:
        return net
    size, channels = net.pictures.shape[1:3], net.pictures.shape[-1]
    pixels = fit_image(decode_image(options.picture.read_bytes(), channels=channels), size, "cover")
    own = (pixels.reshape(1, *size, channels) / 255).astype(np.float32)
    return Net(f"{net.name}, on {options.picture.name}", net.function, net.bound, np.concatenate([own, net.pictures]))


def choose_layers(fields: analysis.ReceptiveFields, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The layers asked for, or those at the top of the net, spread evenly where there are many."""
    if wanted:
        return wanted
    top = [layer.name for layer in fields.layers if "/" not in layer.name]
    kept = np.unique(np.linspace(0, len(top) - 1, min(MOST_LAYERS, len(top))).round().astype(int))
    return tuple(top[place] for place in kept)


def main(options: Options) -> None:
    """Looks inside and writes the folder."""
    console = Console()
    net = open_net(options, console)
    pictures = jnp.asarray(net.pictures)
    fields = analysis.receptive_field(net.function, pictures[:1].shape)
    names = choose_layers(fields, options.layers)
    find = jax.jit(lambda x: analysis.feature_maps(net.function, x, layers=names))
    batches = [find(pictures[start : start + 64]) for start in range(0, len(pictures), 64)]
    order = [*batches[0]]
    maps: dict[str, np.ndarray] = {
        name: np.concatenate([np.asarray(batch[name]) for batch in batches]) for name in order
    }
    first = {name: array[0] for name, array in maps.items() if array.ndim in (2, 4)}
    drawings = {
        f"maps_{name.replace('/', '_')}": partial(figures.feature_maps, array, name=name)
        for name, array in first.items()
    }
    if (kernel := analysis.first_kernel(net.bound, pictures.shape[-1])) is not None:
        drawings = {"filters": partial(figures.filters, kernel[1], name=kernel[0]), **drawings}
    statistics = analysis.feature_statistics(maps)
    parts = [ResultSection("statistics", "Statistics by layer", statistics, drawings=drawings)]
    measured: dict[str, Any] = {"net": net.name, "pictures": len(pictures), "layers": len(maps)}
    if len(pictures) > 3:
        similarity = analysis.similarity(maps, debiased=False)  # as in the paper
        parts.append(
            ResultSection(
                "similarity", "Similarity of layers", similarity, "1 for maps that are equal but for a rotation."
            )
        )
        neighbours = np.diagonal(similarity.values, offset=1)
        measured["similarity_of_first_and_last_layer"] = float(similarity.values[0, -1])
        measured["least_similarity_of_neighbours"] = float(neighbours.min()) if len(neighbours) else 1.0
        count = min(6, len(pictures) - 1)
        nearest = analysis.nearest_examples(maps[order[-1]], net.pictures, count=count)
        parts.append(ResultSection("neighbours", "Nearest examples by the last layer", nearest))
    spread = [name for name in maps if maps[name].ndim == 4 and None not in fields[name].stride]
    if spread:
        layer = spread[len(spread) // 2]
        top = analysis.top_patches(net.function, net.pictures, layer=layer, count=min(8, len(pictures)))
        text = "Each patch is the unit's whole receptive field; grey lies beyond the picture."
        parts.append(ResultSection("top_patches", f"What activates {layer} most", top, text))
    measured["sparsity"] = {layer.name: layer.sparsity for layer in statistics.layers}
    page = write_experiment_page(options.out, f"Feature maps of {net.name}", parts, claim=CLAIM, measured=measured)
    said = ""
    if "similarity_of_first_and_last_layer" in measured:
        said = (
            f"; CKA of first and last layer {measured['similarity_of_first_and_last_layer']:.2f}, of neighbours at"
            f" least {measured['least_similarity_of_neighbours']:.2f}"
        )
    console.print(f"{len(maps)} layers of {net.name}{said}; page: {page}", highlight=False, soft_wrap=True)


CLAIM = "What the layers make of the pictures, in pictures and in numbers."

if __name__ == "__main__":
    with one_line_errors():
        main(tyro.cli(Options, description=__doc__))
