"""The cache folder: what was worked out once about a set of data, and can be worked out again if it is lost."""

import os
import stat
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
    """What was last written under this name; None if nothing was, it cannot be read, or another could have laid it.

    Whoever reads checks what comes: the disk may have cut it short.
    """
    try:
        folder = cache_folder()
        if not _is_private(folder):
            return None
        # A link is not followed, and nothing is waited for, as a pipe would have it.
        with open(folder / name, "rb", opener=_open_itself) as file:
            told = os.fstat(file.fileno())
            return file.read() if stat.S_ISREG(told.st_mode) and _is_own(told) and not _is_open(told) else None
    except (OSError, RuntimeError):
        return None


def write_cache(name: str, data: bytes) -> bool:
    """Writes whole or not at all, in a folder that only its owner may enter; False where none can be written."""
    try:
        folder = cache_folder()
        _make(folder)
        if not _is_private(folder):
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

    One that others could write into, or that holds anything of theirs, is none.
    """
    try:
        folder = cache_folder() / name
        _make(folder)
        if _is_open(folder.lstat()) or not (_is_private(folder.parent) and _is_private(folder)):
            return None
        with os.scandir(folder) as entries:
            laid = [entry.stat(follow_symlinks=False) for entry in entries]
    except (OSError, RuntimeError):
        return None
    return folder if all(stat.S_ISREG(told.st_mode) and _is_own(told) for told in laid) else None


def _make(folder: Path) -> None:
    """Makes a folder and those above it, where there are none: nobody else may enter them."""
    for level in (*reversed(folder.parents), folder):
        if not level.exists():
            level.mkdir(mode=0o700, exist_ok=True)


def _is_private(folder: Path) -> bool:
    """Whether a folder is one's own and no link; what others may do there ends now."""
    told = folder.lstat()
    if not (stat.S_ISDIR(told.st_mode) and _is_own(told)):
        return False
    if stat.S_IMODE(told.st_mode) != 0o700:
        folder.chmod(0o700)
    return True


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_own(told: os.stat_result) -> bool:
    """Whether a folder or file is this user's, and nobody else's; always True where users are unknown."""
    return not hasattr(os, "getuid") or told.st_uid == os.getuid()


def _is_open(told: os.stat_result) -> bool:
    """Whether others may write; never where users are unknown."""
    return hasattr(os, "getuid") and bool(told.st_mode & 0o022)
