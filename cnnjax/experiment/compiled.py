"""XLA keeps what it compiles, for the next run."""

import platform
from pathlib import Path

import jax

from cnnjax.cache import private_folder
from cnnjax.data.sources.fingerprint import fingerprint


def keep_compiled() -> Path | None:
    """Has XLA keep what it compiles, for the next run, in a private folder of the cache; returns it.

    A folder chosen by JAX_COMPILATION_CACHE_DIR is left as it is. Machines whose processors differ have each their own,
    for a home folder that they share.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return Path(jax.config.jax_compilation_cache_dir)
    try:
        processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        processor = platform.processor()
    folder = private_folder(f"compiled-{fingerprint(platform.machine(), processor)[:12]}")
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder
