"""Fingerprints: what tells one set of data from another, the same on every machine."""

import hashlib

import numpy as np


def fingerprint(*parts: str | bytes | np.ndarray) -> str:
    """SHA-256 of texts, bytes and arrays in their order, as 64 hexadecimal digits.

    Kind, length, dtype and shape count too, so that no two lists of parts run into one another. Arrays are taken
    in little-endian order, whatever the machine's.

    Raises:
        ValueError: If an array holds Python objects, whose bytes are addresses.

    Reference: FIPS 180-4, Secure Hash Standard.
    """
    hasher = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            if part.dtype.hasobject:
                raise ValueError(f"an array of dtype {part.dtype} has no fingerprint; expected numbers or text")
            plain = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            kind, data = f"array {plain.dtype.str} {part.shape}", plain.reshape(-1).view(np.uint8).data
        elif isinstance(part, str):
            # File names that are not UTF-8 keep their bytes.
            kind, data = "text", part.encode("utf-8", "surrogateescape")
        else:
            kind, data = "bytes", part
        hasher.update(f"{kind} {len(data)}\n".encode())
        hasher.update(data)
    return hasher.hexdigest()
