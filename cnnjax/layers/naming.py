"""Errors that say in which layer they happened."""

from collections.abc import Generator
from contextlib import contextmanager

import flax.linen as nn


@contextmanager
def layer_errors(module: nn.Module) -> Generator[None, None, None]:
    """Puts the layer's path in front of a `ValueError` raised inside: "layer stage1/conv2: ..."."""
    try:
        yield
    except ValueError as error:
        path = "/".join(module.path) or type(module).__name__
        raise ValueError(f"layer {path}: {error}") from None
