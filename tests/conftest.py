"""The strictness of the test run: no silent promotion, no silent broadcast, eight devices, no cache of its user's."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxtyping
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Figures are drawn without a screen.
import matplotlib as mpl  # noqa: E402

mpl.use("agg")

# What tests, libraries and the processes they start put aside goes at the end, and what is worked out about data.
tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="cnnjax-tests-")
atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)
os.environ["CNNJAX_CACHE"] = os.path.join(tempfile.tempdir, "cache")

# Programs that call oneDNN are not kept by JAX's compile cache. The tests of convolutions switch the calls on.
os.environ.setdefault("CNNJAX_ONEDNN", "0")

# A program that many tests run is compiled once, for all workers: they have the variable from the process that starts
# them. With a largest size JAX locks the folder for every entry, and else two could write one at once.
COMPILED = os.environ.setdefault("CNNJAX_TESTS_COMPILED", os.path.join(tempfile.tempdir, "compiled"))
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_compilation_cache_max_size", 2**31)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """Shapes and types unchecked, as users run: a net has thousands of calls, checked where only shapes are traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def cache_folder(tmp_path_factory, monkeypatch) -> Path:
    """A cache of this test's own."""
    folder = tmp_path_factory.mktemp("cache") / "cnnjax"
    monkeypatch.setenv("CNNJAX_CACHE", str(folder))
    return folder
