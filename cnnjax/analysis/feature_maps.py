"""What the layers of a model make of given pictures."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import jax.numpy as jnp

from cnnjax.models import Model, inference_options


def feature_maps(model: Model, variables: Any, images: Any, *, names: str | Sequence[str] = "*") -> dict[str, Any]:
    """Outputs of a model's layers by name, in the order they are computed.

    `names` is a layer's name, a shell pattern ("stage1/*"), or several. A layer's output is what its module returns
    (an array, or several), so an activation applied afterwards is not in it; a module called again gives "name (2)".
    Pure: run it under `jit` where the pictures are many.

    Raises:
        ValueError: a name or pattern matches no layer; near matches are listed.
    """
    patterns = (names,) if isinstance(names, str) else tuple(names)
    known: dict[tuple[str, ...], None] = {}

    def wanted(module: Model, method: str) -> bool:
        if method != "__call__" or not module.path:
            return False
        known[module.path] = None
        return any(fnmatchcase("/".join(module.path), pattern) for pattern in patterns)

    options = inference_options(model)
    _, captured = model.apply(
        variables, jnp.asarray(images), **options, capture_intermediates=wanted, mutable=["intermediates"]
    )
    layers = ["/".join(path) for path in known]
    for pattern in patterns:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            near = get_close_matches(pattern, layers, n=3) or layers
            raise ValueError(f"no layer matches {pattern!r}; there are {', '.join(near)}")
    return dict(_calls(known, dict(captured.get("intermediates") or {})))


def _calls(paths: Mapping[tuple[str, ...], None], captured: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and output of every captured call of the modules at `paths`."""
    for path in paths:
        found: Any = captured
        for part in path:
            found = found.get(part, {})
        for number, output in enumerate(found.get("__call__", ()), 1):
            yield "/".join(path) + (f" ({number})" if number > 1 else ""), output
