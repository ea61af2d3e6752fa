"""Weights as safetensors files, by the names and in the layout of PyTorch, so that public checkpoints load.

A model says by `torch_name(path)` what a public library calls the module at a path of it; a model without that keeps
its own names. Layouts: kernels are (outputs, inputs, *window); a dense layer that follows a flattening takes its inputs
channel by channel, for which a model names it, with the size of the maps, in `flattened`.
"""

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models.initialization import inference_options, initialize
from cnnjax.models.registry import Model, designed_for
from cnnjax.models.stacking import stack, unstack
from cnnjax.view.text import printable

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_COUNTERS = ("num_batches_tracked", "n_averaged")

# What DataParallel and training frameworks put before all names; torch.compile puts "_orig_mod." anywhere.
_WRAPPERS = ("module.", "model.", "state_dict.")

# The options by which a model has no head, or no other heads; and with which it has them.
_HEADS = {"num_classes": (None, 1), "auxiliary": (False, True)}


class _Entry(NamedTuple):
    """A variable: where it lies, what it is called in a file, its shape here and its layout there.

    `name_alone` is what it is called in a file of the trunk alone.
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    maps: tuple[int, int] | None
    is_head: bool
    name_alone: str | None = None

    @property
    def module(self) -> str:
        return "/".join(self.path[1:-1])

    def to_file(self, array: np.ndarray) -> np.ndarray:
        """(*window, inputs, outputs) to (outputs, inputs, *window); pixels of a flattened map after its channels."""
        if self.path[-1] != "kernel":
            return array
        if self.maps is not None:
            array = array.reshape(*self.maps, -1, array.shape[-1]).transpose(2, 0, 1, 3).reshape(array.shape)
        return np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array

    def from_file(self, array: np.ndarray) -> np.ndarray:
        """The inverse. A 1x1 convolution in the place of a dense layer loses its window."""
        if self.path[-1] != "kernel":
            return array
        if len(self.shape) == 2 and array.ndim == 4 and array.shape[2:] == (1, 1):
            array = array[..., 0, 0]
        array = np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array
        if self.maps is not None and array.ndim == 2 and array.shape[0] % np.prod(self.maps) == 0:
            array = array.reshape(-1, *self.maps, array.shape[-1]).transpose(1, 2, 0, 3).reshape(array.shape)
        return array


def load_torch_weights(
    model: Model,
    source: Path | str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    filename: str = "model.safetensors",
    fresh_head: jax.Array | None = None,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Variables of a model from a `.safetensors` file, or from a repository on the Hugging Face Hub.

    Args:
        model: what the weights are for; its variables come back stacked where it scans.
        source: a file, or a Hub repository such as "timm/resnet50.tv_in1k".
        revision: the Hub commit, all 40 digits of it, since a branch can change under one's feet.
        sha256: checksum of the file, which is compared; needed for the Hub.
        filename: the file's name in the Hub repository.
        fresh_head: a random key. Given, heads that the file lacks, or has for another number of classes, start anew,
            and what the file has besides, of modules that the model has not, is left out. So does all but the trunk of
            a detector, where the file is that of the trunk's net alone, such as a classifier trained on ImageNet.
        shape: of a batch of pictures; those that the model was designed for where None.

    Returns:
        The variables. What wrappers put before all names ("module.", "_orig_mod.", "model.", "state_dict.") is taken
        off; what starts anew, and heads of the file that the model was created without and that are therefore left
        out, are told in a warning.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no safetensors file or has another checksum; a tensor is missing, left over, misshapen,
            not of floating point, not finite, or there twice (one message names all, by both names); the Hub is asked
            without revision and checksum.
        ImportError: the extra `weights` is not installed.
    """
    path = Path(source)
    if not path.is_file():
        path = _from_hub(str(source), revision, sha256, filename)
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise ValueError(f"{path} has the sha256 {found}; expected {sha256}")
    return from_torch(model, _read(path), source=str(source), fresh_head=fresh_head, shape=shape)


def save_weights(model: Model, variables: Any, path: Path | str, *, shape: tuple[int, ...] | None = None) -> None:
    """Writes a model's variables as a `.safetensors` file that `load_torch_weights`, and PyTorch's users, can read.

    Raises:
        ValueError: the variables are not those of the model.
        ImportError: the extra `weights` is not installed.
    """
    safetensors = _safetensors()
    tensors = {
        name: np.require(array, requirements="C") for name, array in to_torch(model, variables, shape=shape).items()
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    safetensors.save_file(tensors, str(path), metadata={"format": "pt"})


def to_torch(model: Model, variables: Any, *, shape: tuple[int, ...] | None = None) -> dict[str, np.ndarray]:
    """A model's variables by the names and in the layout of PyTorch.

    Raises:
        ValueError: the variables are not those of the model.
    """
    entries, found = _entries(model, _shapes(model, shape)), _flat(unstack(variables))
    paths = {entry.path for entry in entries}
    if differing := [*sorted("/".join(path) for path in paths ^ set(found))]:
        raise ValueError(f"variables are not those of {type(model).__name__}: they differ in {_listed(differing)}")
    return {entry.name: entry.to_file(np.asarray(found[entry.path])) for entry in entries}


def head_names(model: Model, *, shape: tuple[int, ...] | None = None) -> set[str]:
    """The names in a file of all variables of a model's head, which depends on the task."""
    return {entry.name for entry in _entries(model, _shapes(model, shape)) if entry.is_head}


def from_torch(
    model: Model,
    tensors: Mapping[str, np.ndarray],
    *,
    source: str = "the tensors",
    fresh_head: jax.Array | None = None,
    shape: tuple[int, ...] | None = None,
) -> Any:
    """Variables of a model from arrays by PyTorch's names; see `load_torch_weights`.

    Raises:
        ValueError: a tensor is missing, left over, misshapen, not of floating point, not finite, or there twice; one
            message names all, by both names.
    """
    like = _shapes(model, shape)
    entries, types = _entries(model, like), _flat(unstack(like))
    tensors = _unwrapped(tensors, {entry.name for entry in entries}, source)
    whole = entries
    if fresh_head is not None:
        entries = _of_trunk_alone(whole, tensors)
    names = {entry.name for entry in entries}
    found = {entry.path: entry.from_file(np.asarray(tensors[entry.name])) for entry in entries if entry.name in tensors}
    faults = {entry: _fault(entry, found.get(entry.path), types[entry.path].dtype) for entry in entries}
    faults = {entry: fault for entry, fault in faults.items() if fault is not None}
    extra = sorted(name for name in tensors.keys() - names if not name.endswith(_COUNTERS))
    heads = {entry.module for entry, (kind, _) in faults.items() if entry.is_head and kind in ("missing", "misshapen")}
    fresh = sorted(heads) if fresh_head is not None else []
    if fresh_head is not None and fresh:
        start = _flat(unstack(initialize(fresh_head, model, _pictures(model, shape))))
        found |= {entry.path: np.asarray(start[entry.path]) for entry in entries if entry.module in heads}
        faults = {entry: fault for entry, fault in faults.items() if entry.module not in heads}
    of_heads = _names_of_heads(model, shape) if extra else set()
    if fresh_head is not None:
        modules = {name.partition(".")[0] for name in names if entries is whole}
        of_heads |= {name for name in extra if name.partition(".")[0] not in modules}
    wrong = {"missing": [], "left over": [name for name in extra if name not in of_heads]}
    for kind, text in faults.values():
        wrong.setdefault(kind, []).append(text)
    if any(wrong.values()):
        said = "; ".join(f"{kind} {_listed(texts)}" for kind, texts in wrong.items() if texts)
        cure, parents = "", {name.partition(".")[0] for name in tensors}
        if heads and not wrong["left over"] and all(entry.module in heads for entry in faults):
            cure = "; for a new head, pass fresh_head=jax.random.key(0)"
        elif len(parents) == 1 and parents.isdisjoint(name.partition(".")[0] for name in names):
            cure = f"; all of its names begin with {'.'.join([*parents, ''])!r}: take that off"
        raise ValueError(f"{source} does not hold the weights of {type(model).__name__}: {said}{cure}")
    told = [f"{_listed(fresh)} {'starts' if len(fresh) == 1 else 'start'} anew"] if fresh else []
    told += [f"left out {_listed(extra)}, since the model has no such {'part' if fresh else 'head'}"] if extra else []
    if told:
        warnings.warn(printable(f"{source}: {'; '.join(told)}"), stacklevel=2)
    arrays = {path: jnp.asarray(array, types[path].dtype) for path, array in found.items()}
    return stack(_nested(arrays), like)


def _unwrapped(tensors: Mapping[str, Any], names: set[str], source: str) -> dict[str, Any]:
    """Tensors without what wrappers put before their names, unless a name is one of the model's as it is."""
    unwrapped, origins = {}, {}
    for name, array in tensors.items():
        inner = name if name in names else re.sub(r"(?<![^.])_orig_mod\.", "", name)
        while inner not in names and inner.startswith(_WRAPPERS):
            inner = inner.partition(".")[2]
        if inner in unwrapped:
            raise ValueError(f"{source} holds {inner} twice, as {origins[inner]} and as {name}; leave one out")
        unwrapped[inner], origins[inner] = array, name
    return unwrapped


def _fault(entry: _Entry, array: np.ndarray | None, dtype: Any) -> tuple[str, str] | None:
    """What is wrong with a tensor, and its names; None where nothing is."""
    who = f"{entry.name} (here {entry.module})"
    if array is None:
        return "missing", who
    if array.shape != entry.shape:
        return "misshapen", f"{who} is {array.shape}, expected {entry.shape}"
    if jnp.issubdtype(dtype, jnp.floating) and not jnp.issubdtype(array.dtype, jnp.floating):
        return "not of floating point", f"{who} is {array.dtype}"
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(dtype, copy=False)).all()
    if not finite:
        return f"not finite in {dtype}", who
    return ("variances below zero", who) if entry.path[-1] == "var" and (array < 0).any() else None


def _names_of_heads(model: Model, shape: tuple[int, ...] | None) -> set[str]:
    """The names in a file of all that the model would have with the heads that it was created without."""
    options: dict[str, Any] = {
        option: has for option, (lacks, has) in _HEADS.items() if getattr(model, option, has) is lacks
    }
    if not options:
        return set()
    whole = model.clone(**options)
    return {entry.name for entry in _entries(whole, _shapes(whole, shape))}


def _pictures(model: Model, shape: tuple[int, ...] | None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape or (1, *designed_for(model)), jnp.float32)


def _shapes(model: Model, shape: tuple[int, ...] | None) -> Any:
    init = partial(model.init, **inference_options(model))
    return dict(jax.eval_shape(init, jax.random.key(0), _pictures(model, shape)))


def _entries(model: Model, like: Any) -> list[_Entry]:
    rename: Callable[[str], str] = getattr(model, "torch_name", lambda module: module.replace("/", "."))
    flattened: Mapping[str, tuple[int, int]] = getattr(model, "flattened", {})
    head: tuple[str, ...] = getattr(model, "head", ())
    alone_name: Callable[[str], str | None] = getattr(model, "trunk_name", lambda module: None)
    entries = []
    for path, leaf in _flat(unstack(like)).items():
        module = "/".join(path[1:-1])
        name = f"{rename(module)}.{_LEAVES.get(path[-1], path[-1])}"
        is_head = module in head or path[-2] == "output"
        alone = alone_name(module)
        leaf_name = _LEAVES.get(path[-1], path[-1])
        alone = None if alone is None else f"{alone}.{leaf_name}"
        entries.append(_Entry(path, name, leaf.shape, flattened.get(module), is_head, alone))
    return entries


def _of_trunk_alone(entries: list[_Entry], tensors: Mapping[str, Any]) -> list[_Entry]:
    """The entries with the names of the trunk's own net, and all others as heads, where the tensors are that net's."""
    if any(entry.name in tensors for entry in entries if entry.name_alone) or not any(
        entry.name_alone in tensors for entry in entries
    ):
        return entries
    return [
        entry._replace(is_head=True) if entry.name_alone is None else entry._replace(name=entry.name_alone)
        for entry in entries
    ]


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
    return {tuple(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _nested(arrays: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = array
    return tree


def _listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError('weight files need the extra "weights": pip install "cnnjax[weights]"') from None
    return safetensors.numpy


def _read(path: Path) -> dict[str, np.ndarray]:
    safetensors = _safetensors()
    if path.suffix in (".pth", ".pt", ".bin", ".tar"):
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read; expected a .safetensors file, such as"
            f" safetensors.torch.save_file(state_dict, path) writes"
        )
    try:
        tensors = safetensors.load_file(str(path))
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds a type that NumPy has not ({error}); save its tensors as float32") from error
    except Exception as error:
        # The library has one exception for all, which is not a ValueError.
        if type(error).__name__ != "SafetensorError":
            raise
        raise ValueError(f"{path} is no safetensors file, or is damaged: {error}") from error
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=list)
    # The library keeps the last of those that have one name.
    if repeated := [name for name, count in Counter(name for name, _ in header).items() if count > 1]:
        raise ValueError(f"{path} holds {_listed(repeated)} more than once; save it anew with each name once")
    return tensors


def _from_hub(repository: str, revision: str | None, sha256: str | None, filename: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or repository.endswith((".safetensors", ".pth", ".pt")):
        raise FileNotFoundError(f"there is no weights file {repository}")
    if not re.fullmatch(r"[0-9a-f]{40}", revision or "") or sha256 is None:
        raise ValueError(
            f"{repository} is no file here; from the Hub, weights need revision=, a commit of 40 hexadecimal digits"
            f" ({revision!r} came), and sha256=, the checksum of {filename}"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ImportError('the Hub needs the extra "weights": pip install "cnnjax[weights]"') from None
    return Path(hf_hub_download(repository, filename, revision=revision))
