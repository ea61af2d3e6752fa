"""What the layers of a network make of given pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from cnnjax.analysis.inputs import as_floats
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.layer_statistics import FeatureStatistics, feature_statistics
from cnnjax.analysis.nets import with_weights
from cnnjax.analysis.program import near_matches
from cnnjax.analysis.similarity import Similarity, similarity
from cnnjax.analysis.tracing import trace_call
from cnnjax.view.result import Figure, Result

# Of a deeper network, so many layers are drawn, spread evenly; and so many channels of each.
_MOST_LAYERS, _MOST_CHANNELS = 16, 8


@dataclass(frozen=True, eq=False, repr=False)
class FeatureMaps(Result, Mapping[str, jax.Array]):
    """Outputs of layers by name, (batch, ...) each, in the order they are computed; JAX takes it as a pytree."""

    maps: Mapping[str, jax.Array]

    def __getitem__(self, name: str) -> jax.Array:
        """The output of the layer of that name; KeyError lists near matches."""
        if name not in self.maps:
            raise KeyError(f"no layer is named {name!r}; {near_matches(name, [*self.maps])}")
        return self.maps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.maps)

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        shapes = (f"{name} {array.shape}" for name, array in self.maps.items())
        return f"FeatureMaps({', '.join(shapes)})"

    def rows(self) -> list[dict[str, Any]]:
        """One record per layer."""
        return [
            {"layer": name, "shape": "x".join(map(str, array.shape)), "dtype": str(array.dtype)}
            for name, array in self.maps.items()
        ]

    def draw(self) -> Figure:
        """The first channels of each layer on the first picture, a line each; layers without rows and columns not.

        Every channel has its own colour scale, which its caption tells.

        Raises:
            ValueError: no layer has maps (batch, height, width, channels).
        """
        from cnnjax.view import plots

        spread = [name for name, array in self.maps.items() if array.ndim == 4 and array.size]
        if not spread:
            raise ValueError("no layer has maps (batch, height, width, channels) to draw")
        kept = [spread[place] for place in np.unique(np.linspace(0, len(spread) - 1, _MOST_LAYERS).astype(int))]
        columns = min(_MOST_CHANNELS, max(self.maps[name].shape[-1] for name in kept))
        tiles = []
        for name in kept:
            channels = np.moveaxis(np.asarray(self.maps[name][0], np.float32), -1, 0)[:columns]
            tiles += [plots.Tile(*_stretched(channel, f"{name}, {place}")) for place, channel in enumerate(channels)]
            tiles += [plots.Tile(np.ones_like(channels[0]), "")] * (columns - len(channels))
        return plots.pictures(tiles, title="Feature maps of the first picture", columns=columns)

    def statistics(self) -> FeatureStatistics:
        """See `feature_statistics`."""
        return feature_statistics(self)

    def similarity(self, others: Mapping[str, Any] | None = None, *, debiased: bool = True) -> Similarity:
        """See `similarity`."""
        return similarity(self, others, debiased=debiased)


jax.tree_util.register_pytree_with_keys(
    FeatureMaps,
    lambda found: ([(jax.tree_util.DictKey(name), array) for name, array in found.maps.items()], tuple(found.maps)),
    lambda names, arrays: FeatureMaps(dict(zip(names, arrays, strict=True))),
)


def feature_maps(net: Callable[..., Any], images: Any, *, layers: str | Sequence[str] = "*") -> FeatureMaps:
    """Outputs of a network's layers by name; computes only what the chosen ones need.

    Layers are the named scopes, as in the table of `summary`: Flax opens one around every module, `jax.named_scope` any
    other. An output is what leaves the scope, so an activation applied afterwards is not in it. Where several arrays
    leave one, they are "name[0]", "name[1]" and so on, in the order they are computed. A scope that is left and entered
    again later, such as that of a module called again, gives "name (2)"; entered again at once it goes on.

    Args:
        net: `models.bind(model, variables)`, a trained run, or any function of pictures.
        images: floats, or bytes, which become floats from 0 to 1.
        layers: a layer's name, a shell pattern ("stage1/*"), or several.

    Returns:
        The outputs, a mapping that prints as a table, and has `draw`, `statistics` and `similarity`.

    Raises:
        ValueError: a name or pattern matches no layer, near matches are listed; or pictures that are neither floats nor
            bytes.
    """
    images = as_floats(images)
    program = trace_call(net, images)
    found = [part for layer in program.matching(layers) for part in layer.parts()]
    values = evaluate(program, [images], [part.value for part in found])
    return FeatureMaps({part.name: value for part, value in zip(found, values, strict=True)})


def first_kernel(net: Callable[..., Any], channels: int) -> tuple[str, jax.Array] | None:
    """The first convolution kernel, (height, width, channels, filters), that takes pictures of so many channels.

    Returns:
        Its module's name and the kernel; None where there is none.

    Raises:
        ValueError: a function came whose weights are not known.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(with_weights(net).variables.get("params", {})):
        if path[-1].key == "kernel" and leaf.ndim == 4 and leaf.shape[2] == channels:
            return "/".join(key.key for key in path[:-1]), leaf
    return None


def _stretched(channel: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """A channel with its smallest value black and its largest white, and a caption that tells them."""
    finite = channel[np.isfinite(channel)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return (channel - low) / (high - low or 1.0), f"{name}\n{low:.2g} to {high:.2g}"
