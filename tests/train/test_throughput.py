"""The peak of a device, and the trace of a run."""

import jax.numpy as jnp

from cnnjax.train.parallel import make_mesh
from cnnjax.train.throughput import peak, profiling


def test_devices_that_a_cpu_plays_share_its_cores():
    assert peak(make_mesh(8), "float32") == peak(make_mesh(1), "float32") > 1e8


def test_a_profile_covers_some_early_calls(tmp_path):
    with profiling(tmp_path / "profile") as profile:
        for _ in range(12):
            profile.call()
            jnp.ones(3).block_until_ready()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    with profiling(None) as profile:
        profile.call()
