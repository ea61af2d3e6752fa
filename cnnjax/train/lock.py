"""The lock of a run's folder: one run writes there at a time, and one that was killed keeps nobody out.

The file `lock` in the folder says whose it is. The owner holds it by `flock`, which the system lets go of however the
process ends, and which most network file systems share among their hosts. Where they do not, or know no locks, signs
of life tell: the owner touches the file every few seconds, and who finds another machine's name in it waits for that.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None

LOCK = "lock"

# Seconds between two signs of life, and of silence after which the owner is taken for dead.
_BEAT = 5.0
_SILENCE = 4 * _BEAT


@contextmanager
def locked(folder: Path, *, report: Callable[[str], Any] = print) -> Generator[Callable[[], None], None, None]:
    """Holds the lock of a folder; gives what raises OSError once the lock is lost, because its file was removed.

    Raises:
        BlockingIOError: another run holds it; the message says which.
    """
    lock = _Lock(folder / LOCK, report)
    try:
        yield lock.check
    finally:
        lock.release()


class _Lock:
    def __init__(self, path: Path, report: Callable[[str], Any]):
        self._path = path
        self._descriptor = _acquire(path, report)
        told = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "process": os.getpid(),
            "since": f"{datetime.now()}",
        }
        self._content = json.dumps(told).encode()
        self._lost = ""
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="lock", daemon=True)
        try:
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, self._content)
            os.fsync(self._descriptor)
        except OSError:
            self._remove()
            raise
        self._beating.start()

    def check(self) -> None:
        """Raises OSError if the lock was lost."""
        if self._lost:
            raise OSError(f"{self._path} {self._lost}; this run writes no more there")

    def release(self) -> None:
        """Ends the signs of life, and removes the file unless it is another's by now."""
        self._ended.set()
        self._beating.join()
        self._remove()

    def _remove(self) -> None:
        """While it is locked, so that nobody holds a file that is gone."""
        if not self._lost and _is_at(self._descriptor, self._path):
            with suppress(OSError):  # an error on its way says more
                self._path.unlink()
        os.close(self._descriptor)

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            try:
                if self._path.read_bytes() != self._content:
                    self._lost = f"is that of {_owner(self._path)} by now"
                    return
                os.utime(self._path)
            except FileNotFoundError:
                self._lost = "was removed"
                return
            except OSError:
                continue  # a network that fails for a moment; it is tried again


def _acquire(path: Path, report: Callable[[str], Any]) -> int:
    """The descriptor of the file of the lock, which is held from now on."""
    while True:
        try:
            descriptor, created = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                descriptor, created = os.open(path, os.O_RDWR), False
            except FileNotFoundError:  # removed between the two
                continue
        try:
            alone = _flock(descriptor)
            if not _is_at(descriptor, path):  # its owner has just removed it
                os.close(descriptor)
                continue
            told = _read(path)
            if not (created or (alone and told.get("machine", _machine()) == _machine())):
                _wait_for_life(path, report)
            return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise BlockingIOError(
                f"{path.parent} is in use by {_owner(path)}; wait until it ends, or choose another --run-dir"
            ) from error


def _flock(descriptor: int) -> bool:
    """Whether the lock of the system was taken; False where the file system has none.

    Raises:
        BlockingIOError: it is taken already.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # the second is what some network file systems say
        raise BlockingIOError(str(error)) from error
    except OSError:
        return False
    return True


def _wait_for_life(path: Path, report: Callable[[str], Any]) -> None:
    """Returns after a time without a sign of life.

    Raises:
        BlockingIOError: there was one.
    """
    report(f"{path.parent} was left by {_owner(path)}, or is in use: waiting {_SILENCE:.0f} s for a sign of life")
    before, end = _signs(path), time.monotonic() + _SILENCE
    while time.monotonic() < end:
        time.sleep(_BEAT / 5)
        if _signs(path) != before:
            raise BlockingIOError("its owner is alive")


def _signs(path: Path) -> Any:
    """What changes while the owner lives; the file is opened, so that a network file system asks its server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:
        return None


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _owner(path: Path) -> str:
    told = _read(path)
    if "process" not in told:
        return "another process"
    return f"process {told['process']} on {told.get('host')} since {str(told.get('since')).partition('.')[0]}"


def _read(path: Path) -> dict[str, Any]:
    """What the file says; nothing where it was just created, or is damaged."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _machine() -> str:
    """What tells the system that runs here from all others, and from itself before it was started anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
