"""Proposals kept in a folder: a file for each picture and settings, filled up with zeros to one shape when read.

A file is one of NumPy (numpy.load reads it), followed by the SHA-256 of what comes before. So whatever a disk lost or
changed is noticed.
"""

import hashlib
import io
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from cnnjax.data.proposals.selective_search import Settings, as_picture, selective_search

# To be raised where equal settings begin to give other boxes: older files are then found no more.
_EDITION = 1
_DIGEST = hashlib.sha256().digest_size


def cached_proposals(
    picture: UInt8[np.ndarray, "height width 3"], folder: Path | str, **options: Any
) -> tuple[Float32[np.ndarray, "most 4"], int]:
    """The boxes of `selective_search`, computed once for a picture and settings, and then read from a folder.

    A file that is damaged is computed anew. Files are written whole or not at all, so several processes may share a
    folder.

    Args:
        picture: RGB.
        folder: Where the files lie; made if it is missing.
        options: Those of `selective_search`.

    Returns:
        The boxes, followed by rows of zeros up to `most`, and how many boxes there are.

    Raises:
        ValueError: as `selective_search`.
        TypeError: an option is unknown, or its number is not whole.
        OSError: the folder cannot be made or written to.
    """
    known = asdict(Settings())
    if unknown := sorted(options.keys() - known.keys()):
        raise TypeError(f"unknown option {unknown[0]!r}; expected those of selective_search: {', '.join(known)}")
    settings, picture = Settings(**options), as_picture(picture)
    file = Path(folder) / f"{_name(picture, settings)}.npy"
    boxes = _read(file, settings.most)
    if boxes is None:
        boxes = selective_search(picture, **asdict(settings))
        _write(file, boxes)
    padded = np.zeros((settings.most, 4), np.float32)
    padded[: len(boxes)] = boxes
    return padded, len(boxes)


def _name(picture: UInt8[np.ndarray, "height width 3"], settings: Settings) -> str:
    """Of the pixels, their shape and all settings."""
    told = json.dumps({"edition": _EDITION, "shape": picture.shape, **asdict(settings)}, sort_keys=True)
    return hashlib.sha256(told.encode() + b"\0" + np.ascontiguousarray(picture).tobytes()).hexdigest()


def _read(file: Path, most: int) -> Float32[np.ndarray, "boxes 4"] | None:
    """The boxes of a file; None if there is none, it cannot be read, or it is not as it was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    told, digest = content[:-_DIGEST], content[-_DIGEST:]
    if hashlib.sha256(told).digest() != digest:
        return None
    try:
        boxes = np.load(io.BytesIO(told), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    sound = isinstance(boxes, np.ndarray) and boxes.dtype == np.float32 and boxes.ndim == 2
    return boxes if sound and boxes.shape[1] == 4 and len(boxes) <= most else None


def _write(file: Path, boxes: Float32[np.ndarray, "boxes 4"]) -> None:
    """Under another name first: nobody reads what is half written."""
    written = io.BytesIO()
    np.save(written, boxes, allow_pickle=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(dir=file.parent, prefix=".unfinished-")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(written.getvalue() + hashlib.sha256(written.getvalue()).digest())
        os.replace(unfinished, file)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
