"""What the layers of a network make of given pictures."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from cnnjax.analysis.inputs import as_floats
from cnnjax.analysis.interpreter import evaluate
from cnnjax.analysis.program import check_patterns, patterns_of
from cnnjax.analysis.tracing import trace_call
from cnnjax.models import Model, inference_options


def feature_maps(
    function: Callable[..., Any] | Model, *inputs: Any, names: str | Sequence[str] = "*"
) -> dict[str, Any]:
    """Outputs of a network's layers by name, in the order they are computed.

    `feature_maps(model, variables, images)` takes a Flax model, whose layers are its modules: an output is what the
    module returns (an array, or several), so an activation applied afterwards is not in it; a module called again
    gives "name (2)". `feature_maps(function, images)` takes any JAX function of pictures, whose layers are the named
    scopes (see `receptive_field`), and computes only what the chosen ones need; so does a model under `jit`. A scope
    that is entered again at once goes on, as the same layer. What a compiled function gives is sorted by name.

    Args:
        function: a Flax model, or a function of pictures.
        inputs: variables and pictures of a model; pictures of a function: floats, or bytes, which become floats from 0
            to 1.
        names: a layer's name, a shell pattern ("stage1/*"), or several.

    Raises:
        ValueError: a name or pattern matches no layer, near matches are listed; another number of inputs; or pictures
            that are neither floats nor bytes.
    """
    expected = ("variables", "images") if isinstance(function, Model) else ("images",)
    if len(inputs) != len(expected):
        raise ValueError(f"{len(inputs)} inputs came; expected {' and '.join(expected)}")
    if isinstance(function, Model):
        variables, images = inputs
        return _of_modules(function, variables, images, patterns_of(names))
    images = as_floats(*inputs)
    program = trace_call(function, images)
    layers = program.matching(names)
    values = evaluate(program, [images], [layer.value for layer in layers])
    return {layer.name: value for layer, value in zip(layers, values, strict=True)}


def first_kernel(params: Any, channels: int) -> tuple[str, jax.Array] | None:
    """The first convolution kernel, (height, width, channels, filters), that takes pictures of so many channels.

    Returns its module's name and the kernel; None where there is none.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if path[-1].key == "kernel" and leaf.ndim == 4 and leaf.shape[2] == channels:
            return "/".join(key.key for key in path[:-1]), leaf
    return None


def _of_modules(model: Model, variables: Any, images: Any, patterns: Sequence[str]) -> dict[str, Any]:
    known: dict[tuple[str, ...], None] = {}
    # A module called again has a number, which is known once it has been.
    modules = [re.sub(r" \(\d+\)$", "", pattern) for pattern in patterns]

    def wanted(module: Model, method: str) -> bool:
        if method != "__call__" or not module.path:
            return False
        known[module.path] = None
        return any(fnmatchcase("/".join(module.path), pattern) for pattern in modules)

    options = inference_options(model)
    _, captured = model.apply(
        variables, as_floats(images), **options, capture_intermediates=wanted, mutable=["intermediates"]
    )
    calls = list(_calls(known, dict(captured.get("intermediates") or {})))
    check_patterns(patterns, ["/".join(path) for path in known] + [name for _, name, _ in calls])
    return {
        name: output
        for module, name, output in calls
        if any(fnmatchcase(name, pattern) or fnmatchcase(module, pattern) for pattern in patterns)
    }


def _calls(paths: Mapping[tuple[str, ...], None], captured: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Module, name and output of every captured call of the modules at `paths`."""
    for path in paths:
        found: Any = captured
        for part in path:
            found = found.get(part, {})
        for number, output in enumerate(found.get("__call__", ()), 1):
            module = "/".join(path)
            yield module, module + (f" ({number})" if number > 1 else ""), output
