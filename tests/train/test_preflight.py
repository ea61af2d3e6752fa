"""What is known before the first step: memory, precision, peak, the kept programs."""

import os
import re
import stat

import jax
import jax.numpy as jnp
import pytest

from cnnjax.train import preflight
from cnnjax.train.parallel import make_mesh


@pytest.fixture
def compiled():
    """A program that takes 4 MB of arguments and keeps 4 MB of results."""
    return jax.jit(lambda x, y: x @ y + 1).lower(jnp.ones((1000, 1)), jnp.ones((1, 1000))).compile()


def test_memory_is_arguments_results_and_what_lies_between(compiled):
    needed = preflight.memory_needed(compiled)
    assert 4_008_000 <= needed < 13_000_000


def test_too_large_a_step_names_the_batch_size_that_fits(compiled, monkeypatch):
    mesh, needed = make_mesh(2), preflight.memory_needed(compiled)
    state = {"kernel": jnp.zeros((needed // 4 // 4,))}  # a quarter of what is needed on one device
    assert preflight.check_memory(compiled, state, mesh, batch_size=64) == 2 * needed
    fixed = state["kernel"].nbytes
    # Room for the state and half of the rest.
    present = fixed + (2 * needed - fixed) // 2
    monkeypatch.setattr(preflight, "memory_present", lambda device: present)
    with pytest.raises(MemoryError, match=r"batch_size=64 needs .* a batch size of (30|32) should fit \(--batch-size"):
        preflight.check_memory(compiled, state, mesh, batch_size=64)
    monkeypatch.setattr(preflight, "memory_present", lambda device: 1000)
    with pytest.raises(MemoryError, match="not even a smaller batch would fit; --accumulate and --remat"):
        preflight.check_memory(compiled, state, mesh, batch_size=64)


def test_this_machines_memory_is_known():
    assert preflight.memory_present(jax.devices()[0]) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_what_compiling_told():
    told = preflight.describe(1.234, 2_500_000, 1000, make_mesh(1))
    assert told == "compiled in 1.2 s, a step needs 2.5 MB on this machine, and 3,000 multiply-accumulates"
    assert preflight.describe(0.0, None, None, make_mesh(1)) == "compiled in 0.0 s"


def test_precision_and_peak():
    assert preflight.choose_precision("auto") == "float32"
    assert preflight.choose_precision("float16") == "float16"
    # Devices that a CPU plays share its cores.
    assert preflight.peak(make_mesh(8), "float32") == preflight.peak(make_mesh(1), "float32") > 1e8


def test_compiled_programs_are_kept_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE", str(tmp_path / "cache"))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        folder = preflight.keep_compiled()
        assert re.fullmatch(r"compiled-[0-9a-f]{12}", folder.name)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert jax.config.jax_compilation_cache_dir == str(folder)
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
        assert preflight.keep_compiled() == tmp_path / "mine"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_profile_covers_some_early_calls(tmp_path):
    with preflight.profiling(tmp_path / "profile") as profile:
        for _ in range(12):
            profile.call()
            jnp.ones(3).block_until_ready()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    with preflight.profiling(None) as profile:
        profile.call()
