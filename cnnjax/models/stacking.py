"""Runs of equal blocks: one program looped over stacked parameters, or one block after the other.

A run of blocks 2 to 18 that is scanned is one submodule, "block2-18", whose variables have the run as their leading
axis. `unstack` gives each block its own name ("block2", ...), as in the model that is not scanned; `stack` is its
inverse. Files hold the unstacked form. Rules that look at the axes or the norm of a layer's array, as optimizers have
them, ask `stack_axes`, or go through `map_layers`.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# A run's name, as `repeat` gives it: what its blocks are called, the first and the last of them.
RUN = re.compile(r"(?P<base>block)(?P<first>\d+)-(?P<last>\d+)")


def repeat(
    parent: nn.Module,
    block: Callable[..., nn.Module],
    x: jax.Array,
    *,
    first: int,
    last: int,
    scan: bool,
    train: bool,
    skips: Sequence[float] | None = None,
    remat: bool = False,
) -> jax.Array:
    """Applies blocks `first` to `last` of a module, one after the other.

    They are made by `block(name=...)` inside `parent` and called as `(x, train=train, skip=skip)`, with one of `skips`
    each, the probability that its branch is skipped. With `scan` they are one block in `jax.lax.scan`: compiled once,
    its variables stacked along a leading axis. With `remat` the backward pass keeps what enters a block, and computes
    what happens in it anew.

    Raises:
        ValueError: the variables of a model that scans are not stacked.
    """

    # Flax writes any other name behind the module's, in the name of its scope.
    def __call__(module: nn.Module, carry: jax.Array, skip: Any) -> tuple[jax.Array, None]:  # noqa: N807
        return module(carry, train=train, skip=skip), None

    if remat:
        __call__ = nn.remat(__call__)
    if not scan or last <= first:
        for place, number in enumerate(range(first, last + 1)):
            x, _ = __call__(block(name=f"block{number}"), x, None if skips is None else skips[place])
        return x
    if f"block{first}" in parent.variables.get("params", {}):
        raise ValueError(
            f"layer {'/'.join(parent.path)}: blocks {first} to {last} come one by one, but the model scans them; stack"
            f" the variables (models.stack(variables, like=variables of the model)) or create it with scan=False"
        )

    scanned = nn.scan(
        __call__,
        variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        length=last - first + 1,
    )
    rates = None if skips is None else jnp.asarray(skips, jnp.float32)
    x, _ = scanned(block(name=f"block{first}-{last}"), x, rates)
    return x


def single_paths(path: str) -> list[str]:
    """The path of a module in a model that does not scan; of a module in a run of blocks, that of each block.

    >>> single_paths("stage1/block2-3/conv1")
    ['stage1/block2/conv1', 'stage1/block3/conv1']
    """
    parts = []
    for part in path.split("/"):
        run = RUN.fullmatch(part)
        parts.append(
            [part] if run is None else [f"{run['base']}{n}" for n in range(int(run["first"]), int(run["last"]) + 1)]
        )
    return ["/".join(names) for names in itertools.product(*parts)]


def scope_of_turn(scope: tuple[str, ...], place: int, length: int) -> tuple[str, ...]:
    """A scope in a run of blocks that is scanned in `length` turns, as that of the block whose turn it is.

    >>> scope_of_turn(("stage1", "block2-4", "block2-4", "conv1"), 1, length=3)
    ('stage1', 'block3', 'conv1')
    """
    for depth, part in enumerate(scope):
        run = RUN.fullmatch(part)
        if run is not None and int(run["last"]) - int(run["first"]) + 1 == length:
            # Flax opens the scope twice: for the function that it scans, and for the module called in it.
            inner = depth + 2 if scope[depth + 1 : depth + 2] == (part,) else depth + 1
            return (*scope[:depth], f"{run['base']}{int(run['first']) + place}", *scope[inner:])
    return scope


def unstack(tree: Any) -> Any:
    """Every scanned run taken apart into its blocks, by name, in all dictionaries of a tree of arrays or shapes.

    Works on variables, parameters, gradients and optimizer states alike, and returns others as they are. A module that
    has the name of a run is none unless the leading axis of each of its arrays is the run.

    >>> unstack({"block2-3": {"bias": np.array([[0.0], [1.0]])}})
    {'block2': {'bias': array([0.])}, 'block3': {'bias': array([1.])}}
    """
    return _on_dictionaries(_unstack, tree)


def stack(tree: Any, like: Any) -> Any:
    """The inverse of `unstack`: blocks put together into the runs that a tree `like` it has.

    `like` is for instance the variables of the scanned model, or their shapes.

    Raises:
        ValueError: a block of a run is missing; the message names it.

    >>> stack({"block2": np.zeros(1), "block3": np.ones(1)}, {"block2-3": np.zeros((2, 1))}).keys()
    dict_keys(['block2-3'])
    """
    return _on_dictionaries(_stack, like, tree)


def stack_axes(tree: Any) -> Any:
    """How many leading axes of each array count the blocks of a scanned run: a tree of 0 and 1 for one of parameters.

    The other axes of an array are those that it has in the model that is not scanned.

    >>> stack_axes({"block2-3": {"bias": np.zeros((2, 7))}, "output": {"bias": np.zeros(7)}})
    {'block2-3': {'bias': 1}, 'output': {'bias': 0}}
    """

    def counted(node: Any, axes: int) -> Any:
        if not isinstance(node, Mapping):
            return jax.tree.map(lambda _: axes, node)
        return {name: counted(value, axes + bool(_blocks(name, value, axes))) for name, value in node.items()}

    return counted(tree, 0)


def map_layers(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`jax.tree.map` over the arrays of parameters, of which the function sees those of one layer at a time.

    The arrays of a scanned run are given to it block by block, by `jax.vmap`.

    >>> {name: norms.tolist() for name, norms in map_layers(jnp.linalg.norm, {"block2-3": jnp.eye(2)}).items()}
    {'block2-3': [1.0, 1.0]}
    """

    def mapped(axes: int, *arrays: jax.Array) -> Any:
        of_layer = function
        for _ in range(axes):
            of_layer = jax.vmap(of_layer)
        return of_layer(*arrays)

    return jax.tree.map(mapped, stack_axes(tree), tree, *rest)


def _on_dictionaries(change: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Changes the outermost dictionaries of a tree, whatever tuples and classes they stand in."""
    return jax.tree.map(partial(_changed, change), tree, *rest, is_leaf=_is_dictionary)


def _changed(change: Callable[..., Any], node: Any, *others: Any) -> Any:
    return change(node, *others) if _is_dictionary(node) else (others or (node,))[0]


def _is_dictionary(node: Any) -> bool:
    return isinstance(node, Mapping)


def _unstack(tree: Any) -> Any:
    if not isinstance(tree, Mapping):
        return unstack(tree)
    result: dict[str, Any] = {}
    for name, value in tree.items():
        blocks = _blocks(name, value)
        if not blocks:
            result[name] = _unstack(value)
        for place, block in enumerate(blocks):
            result[block] = _unstack(jax.tree.map(partial(_taken, place=place), value))
    return result


def _stack(like: Any, tree: Any, path: str = "") -> Any:
    if not isinstance(like, Mapping):
        return stack(tree, like)
    result = dict(tree)
    for name, shape in like.items():
        names = _blocks(name, shape)
        if not names:
            if name in tree:
                result[name] = _stack(shape, tree[name], f"{path}{name}/")
            continue
        for block in names:
            if block not in tree:
                raise ValueError(f"{path}{name} cannot be stacked: {path}{block} is missing")
        blocks = [_stack(shape, result.pop(block), f"{path}{block}/") for block in names]
        result[name] = jax.tree.map(_together, *blocks)
    return result


def _blocks(name: Any, arrays: Any, axis: int = 0) -> list[str]:
    """The names of the blocks that arrays of this name hold along an axis; none where they are no run's."""
    run = RUN.fullmatch(str(name))
    if run is None:
        return []
    numbers = range(int(run["first"]), int(run["last"]) + 1)
    stacked = all(np.shape(leaf)[axis : axis + 1] == (len(numbers),) for leaf in jax.tree.leaves(arrays))
    return [f"{run['base']}{number}" for number in numbers] if stacked else []


def _taken(leaf: Any, place: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return leaf[place]


def _together(*leaves: Any) -> Any:
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(leaves), *leaves[0].shape), leaves[0].dtype)
    return (np if isinstance(leaves[0], np.ndarray) else jnp).stack(leaves)
