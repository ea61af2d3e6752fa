"""The memory that a step needs, and what is said where there is less."""

import os

import jax
import jax.numpy as jnp
import pytest

from cnnjax.train import memory
from cnnjax.train.parallel import make_mesh


@pytest.fixture
def compiled():
    """A program that takes 4 MB of arguments and keeps 4 MB of results."""
    return jax.jit(lambda x, y: x @ y + 1).lower(jnp.ones((1000, 1)), jnp.ones((1, 1000))).compile()


def test_memory_is_arguments_results_and_what_lies_between(compiled):
    needed = memory.memory_needed(compiled)
    assert 4_008_000 <= needed < 13_000_000


def test_too_large_a_step_names_the_batch_size_that_fits(compiled, monkeypatch):
    mesh, needed = make_mesh(2), memory.memory_needed(compiled)
    state = {"kernel": jnp.zeros((needed // 4 // 4,))}  # a quarter of what is needed on one device
    assert memory.check_memory(compiled, state, mesh, batch_size=64) == 2 * needed
    fixed = state["kernel"].nbytes
    # Room for the state and half of the rest.
    present = fixed + (2 * needed - fixed) // 2
    monkeypatch.setattr(memory, "memory_present", lambda device: present)
    with pytest.raises(MemoryError, match=r"batch_size=64 needs .* a batch size of (30|32) should fit \(--batch-size"):
        memory.check_memory(compiled, state, mesh, batch_size=64)
    monkeypatch.setattr(memory, "memory_present", lambda device: 1000)
    with pytest.raises(MemoryError, match="not even a smaller batch would fit; --accumulate and --remat"):
        memory.check_memory(compiled, state, mesh, batch_size=64)


def test_this_machines_memory_is_known():
    assert memory.memory_present(jax.devices()[0]) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
