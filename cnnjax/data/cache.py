"""The cache folder: what was worked out once about a set of data, and can be worked out again if it is lost."""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Where caches lie: $CNNJAX_CACHE, or $XDG_CACHE_HOME/cnnjax, or ~/.cache/cnnjax.

    Raises:
        RuntimeError: If none of them is set and there is no home folder.

    Reference: XDG Base Directory Specification 0.8, which ignores a relative $XDG_CACHE_HOME.
    """
    if chosen := os.environ.get("CNNJAX_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "cnnjax"


def read_cache(name: str) -> bytes | None:
    """What was last written under this name; None if nothing was, or it cannot be read.

    Whoever reads checks what comes: the disk may have cut it short.
    """
    try:
        folder = cache_folder()
        return (folder / name).read_bytes() if _is_own(folder) else None
    except (OSError, RuntimeError):
        return None


def write_cache(name: str, data: bytes) -> bool:
    """Writes whole or not at all, in a folder that only its owner may enter; False where none can be written."""
    try:
        folder = cache_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(folder):
            return False
        handle, unfinished = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
    except (OSError, RuntimeError):
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(unfinished, folder / name)
    except OSError:
        Path(unfinished).unlink(missing_ok=True)
        return False
    return True


def private_folder(name: str) -> Path | None:
    """A folder of this name in the cache that only its owner may enter, as one with code in it must be; None without.

    What is there already and others may enter is closed to them.
    """
    try:
        folder = cache_folder() / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (_is_own(folder.parent) and _is_own(folder)):
            return None
        folder.chmod(0o700)
    except (OSError, RuntimeError):
        return None
    return folder


def _is_own(folder: Path) -> bool:
    """Whether nobody else could have laid a file here, as under a shared /tmp; always True where users are unknown."""
    return not hasattr(os, "getuid") or folder.stat().st_uid in (os.getuid(), 0)
