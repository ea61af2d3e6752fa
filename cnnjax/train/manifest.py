"""What a complete checkpoint holds: every file with its size and SHA-256, every array with its type and shape."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

NAME = "manifest.json"

# Lines of a difference that are told before the rest are counted.
_TOLD = 10


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
    unfinished = folder.parent / f"{folder.name}.{NAME}.tmp"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / NAME)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = folder / NAME
    try:
        checksum, _, body = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            raise ValueError("its checksum is another")
        told = json.loads(body)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    files = {name: (size, checksum) for name, (size, checksum) in told["files"].items()}
    return Manifest(files, told["arrays"], told["score"], told["record"])


def verify(folder: Path) -> Manifest:
    """The manifest of a folder all of whose files are as they were written.

    Raises:
        ValueError: a file is missing or was changed; the message names it.
    """
    manifest = read_manifest(folder)
    for name, (size, checksum) in manifest.files.items():
        path = folder / name
        try:
            if path.stat().st_size != size:
                raise ValueError(f"{path} is damaged: {path.stat().st_size:,} bytes, and {size:,} were written")
            if _measure(path)[1] != checksum:
                raise ValueError(f"{path} is damaged: its bytes are not those that were written")
        except OSError as error:
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
