"""Checkpoints: what was saved comes back bit by bit; the latest and the best are kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax import models
from cnnjax.train import create_state, load_variables
from cnnjax.train.checkpoint import Checkpoints
from tests.models.quick import run_unoptimised


def four_states():
    """States of the same shapes and other values."""
    first = create_state(models.create("lenet5"), optax.adam(1e-3), jnp.zeros((1, 32, 32, 1)), seed=0)
    return [
        dataclasses.replace(first, params=jax.tree.map(lambda leaf, n=n: leaf + n, first.params), key=jax.random.key(n))
        for n in range(4)
    ]


def test_round_trip_and_what_is_kept(tmp_path):
    states = four_states()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert (checkpoints.latest, checkpoints.best) == (None, None)
        for step, (state, score) in enumerate(zip(states, [0.2, 0.9, 0.5, 0.4], strict=True), 1):
            checkpoints.save(state, step, score=score)
        assert (checkpoints.latest, checkpoints.best) == (4, 2)
        assert checkpoints.score(2) == 0.9
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step in (2, 4):
            restored = checkpoints.restore(states[0], step)
            assert jax.tree.structure(restored) == jax.tree.structure(states[step - 1])
            for found, saved in zip(jax.tree.leaves(restored), jax.tree.leaves(states[step - 1]), strict=True):
                assert found.dtype == saved.dtype
                if jnp.issubdtype(found.dtype, jax.dtypes.prng_key):
                    found, saved = jax.random.key_data(found), jax.random.key_data(saved)
                np.testing.assert_array_equal(found, saved)


def test_scanned_models_are_saved_block_by_block(tmp_path):
    """Parameters, statistics and moments lie there by each block's name, and come back stacked."""
    model = models.CifarResNet(3, scan=True)
    state = create_state(model, optax.adam(1e-3), jnp.zeros((1, 8, 8, 3)), seed=0)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(state, 1, score=0.5)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(state, 1)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, restored.opt_state, state.opt_state)
    variables = load_variables(tmp_path)
    kernel = variables["params"]["stage2"]["block3"]["conv2"]["kernel"]
    np.testing.assert_array_equal(kernel, state.params["stage2"]["block2-3"]["conv2"]["kernel"][1])
    images = jnp.ones((1, 8, 8, 3))
    logits = run_unoptimised(models.CifarResNet(3).apply, variables, images)
    np.testing.assert_allclose(logits, run_unoptimised(model.apply, state.variables, images), rtol=1e-5)
