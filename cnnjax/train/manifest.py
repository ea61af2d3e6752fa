"""What a complete checkpoint holds: every file with its size and SHA-256, every array with its type and shape."""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

NAME = "manifest.json"

# Lines of a difference that are told before the rest are counted.
_TOLD = 10

# What says that a file is not there. Any other error of the system says only that it cannot be read for the moment.
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class Manifest:
    """What was written.

    Attributes:
        files: size in bytes and SHA-256 of every file, by its path in the folder.
        arrays: type and shape of every array, such as "float32[3, 3, 1, 6]", by its path in the state.
        score: how good the state was; None where it was not tested.
        record: plain values that were saved with it.
    """

    files: dict[str, tuple[int, str]]
    arrays: dict[str, str]
    score: float | None
    record: dict[str, Any]


def describe_arrays(tree: Any) -> dict[str, str]:
    """Type and shape of every array of a tree, by its path."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
        for path, leaf in paths
    }


def parse_arrays(arrays: Mapping[str, str]) -> dict[str, Any]:
    """Types and shapes as `describe_arrays` tells them, in nested dictionaries; those of tuples have their numbers."""
    tree: dict[str, Any] = {}
    for path, told in arrays.items():
        *above, name = path.split("/")
        kind, bracket, sizes = told.partition("[")
        branch = tree
        for level in above:
            branch = branch.setdefault(level, {})
        branch[name] = jax.ShapeDtypeStruct(json.loads(bracket + sizes), np.dtype(kind))
    return tree


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all, also where the machine stops in between."""
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def write_manifest(
    folder: Path, *, arrays: Mapping[str, str], score: float | None, record: Mapping[str, Any]
) -> Manifest:
    """Reads every file of a folder, and writes the manifest there, whole or not at all; it has a checksum itself."""
    files = {
        path.relative_to(folder).as_posix(): _measure(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    manifest = Manifest(files, dict(arrays), score, dict(record))
    _write(folder, manifest)
    return manifest


def rate(folder: Path, score: float) -> None:
    """Writes a score into the manifest of a folder."""
    _write(folder, replace(read_manifest(folder), score=score))


def _write(folder: Path, manifest: Manifest) -> None:
    body = json.dumps(asdict(manifest), indent=1)
    write_whole(folder / NAME, f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")


def is_complete(folder: Path) -> bool:
    """Whether a folder has a manifest, whole or damaged.

    Raises:
        OSError: that cannot be told for the moment.
    """
    try:
        return stat.S_ISREG((folder / NAME).stat().st_mode)
    except _MISSING:
        return False


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        ValueError: it is missing or damaged.
        OSError: it cannot be read for the moment.
    """
    path = folder / NAME
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise ValueError("its checksum is another")
        told = json.loads(body)
        files = {name: (size, checksum) for name, (size, checksum) in told["files"].items()}
        return Manifest(files, told["arrays"], told["score"], told["record"])
    except (*_MISSING, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def verify(folder: Path) -> Manifest:
    """The manifest of a folder all of whose files are as they were written.

    Raises:
        ValueError: a file is missing or was changed; the message names it.
        OSError: a file cannot be read for the moment.
    """
    manifest = read_manifest(folder)
    for name, (size, checksum) in manifest.files.items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                raise ValueError(f"{path} is damaged: {path.stat().st_size:,} bytes, and {size:,} were written")
            if _measure(path)[1] != checksum:
                raise ValueError(f"{path} is damaged: its bytes are not those that were written")
        except _MISSING as error:
            raise ValueError(f"{path} is damaged: {error}") from None
    return manifest


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Arrays that differ between a checkpoint and a state, in words; empty where none does."""
    lines = [
        f"{name}: {there.get(name, 'nothing')} there, {here.get(name, 'nothing')} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name) != here.get(name)
    ]
    more = f"; and {len(lines) - _TOLD} more" if len(lines) > _TOLD else ""
    return "; ".join(lines[:_TOLD]) + more


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
