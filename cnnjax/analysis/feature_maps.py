"""What the layers of a model make of given pictures."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def feature_maps(model: nn.Module, variables: Any, images: Any, *, names: Sequence[str] = ("*",)) -> dict[str, Any]:
    """Outputs of a model's layers by name, in the order they are computed.

    `names` are layer names or shell patterns ("stage1/*"). A layer's output is what its module returns, so an
    activation applied afterwards is not in it. Pure: run it under `jit` where the pictures are many.

    Raises:
        ValueError: a name or pattern matches no layer; near matches are listed.
    """
    known: dict[str, None] = {}

    def wanted(module: nn.Module, method: str) -> bool:
        name = "/".join(module.path)
        if method != "__call__" or not name:
            return False
        known[name] = None
        return any(fnmatchcase(name, pattern) for pattern in names)

    _, captured = model.apply(variables, jnp.asarray(images), capture_intermediates=wanted, mutable=["intermediates"])
    for pattern in names:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=3) or known
            raise ValueError(f"no layer matches {pattern!r}; there are {', '.join(near)}")
    maps = {
        "/".join(key.key for key in path[:-2]): value
        for path, value in jax.tree_util.tree_leaves_with_path(captured.get("intermediates", {}))
        if path[-2].key == "__call__"
    }
    return {name: maps[name] for name in known if name in maps}
