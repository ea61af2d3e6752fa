"""The step on many devices against the step on one, and what it sends between them."""

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from cnnjax import layers
from cnnjax.data.augment import unchanged
from cnnjax.tasks import Classification
from cnnjax.train import Recipe
from cnnjax.train.parallel import Parallel, check_batch_size, make_mesh
from experiments.benchmarks.reductions import Options, compile_step, reductions

TASK = Classification(("a", "b", "c"))
generator = np.random.default_rng(0)
STEPS = 5


def make_batch():
    return {
        "image": generator.normal(size=(16, 4, 4, 2)).astype(np.float32),
        "label": generator.integers(0, 3, 16).astype(np.int32),
        "id": np.arange(16, dtype=np.int32),
        # Of unequal numbers on the devices.
        "valid": np.arange(16) % 5 != 0,
    }


BATCHES = [make_batch() for _ in range(STEPS)]


class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        x = layers.Conv(4, (3, 3), use_bias=False, name="conv")(images)
        x = layers.BatchNorm(name="norm")(x, train=train)
        return layers.Dense(3, name="dense")(nn.relu(x).reshape(x.shape[0], -1))


def five_steps(strategy="jit", statistics=None, *, devices=1, steps_per_call=1, batches=BATCHES, **options):
    """Loss, gradient norm, metrics, parameters, statistics and momentum after the steps."""
    recipe = Recipe(Net(), TASK, optax.sgd(0.1, momentum=0.9), unchanged, lambda batch: batch, **options)
    parallel = Parallel(make_mesh(devices), strategy, statistics)
    state = parallel.replicate(recipe.first_state(batches[0], seed=0))
    feed = batches if steps_per_call == 1 else [batches]
    on_devices = list(parallel.to_devices(feed, training=True))
    run = parallel.compile_training(recipe, state, on_devices[0], None, steps=steps_per_call)
    for batch in on_devices:
        state, metrics = run(state, batch, None)
    state = parallel.unreplicate(state)
    last = jax.tree.map(lambda leaf: leaf[-1] if steps_per_call > 1 else leaf, metrics)
    return jax.device_get(
        (last.loss, last.gradient_norm, last.metrics, state.params, state.model_state, state.opt_state)
    )


def assert_equal(found, expected):
    """Loss, norm, metrics, parameters, statistics and momentum: each to 1e-6 of its length as a vector."""
    for ours, theirs in zip(found, expected, strict=True):
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)], dtype=float) for tree in (ours, theirs)
        )
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)


@pytest.fixture(scope="module")
def on_one():
    return five_steps()


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_jit_on_many_devices_is_the_step_on_one(on_one, devices):
    assert_equal(five_steps(devices=devices), on_one)


@pytest.mark.parametrize("strategy", ["shard_map", "pmap"])
@pytest.mark.parametrize("devices", [1, 4])
def test_pooled_statistics_make_every_strategy_the_step_on_one(on_one, strategy, devices):
    assert_equal(five_steps(strategy, "global", devices=devices), on_one)


def test_replicas_with_their_own_statistics_agree_with_each_other(on_one):
    mapped, classic = (five_steps(strategy, devices=4) for strategy in ("shard_map", "pmap"))
    assert_equal(mapped, classic)
    # Their statistics are other ones: each of four pictures.
    assert np.abs(mapped[4]["batch_stats"]["norm"]["var"] - on_one[4]["batch_stats"]["norm"]["var"]).max() > 1e-3


def test_the_statistics_of_replicas_by_hand():
    """One step on two devices: the mean of what the two halves would have made of the running statistics."""
    halves = [jax.tree.map(lambda leaf, part=part: leaf[part], BATCHES[0]) for part in (slice(0, 8), slice(8, 16))]
    alone = [five_steps(batches=[half])[4] for half in halves]
    found = five_steps("shard_map", devices=2, batches=BATCHES[:1])[4]
    assert_equal([found], [jax.tree.map(lambda a, b: (a + b) / 2, *alone)])


@pytest.mark.parametrize("strategy", ["jit", "shard_map", "pmap"])
def test_several_steps_in_a_call_are_the_steps_one_by_one(on_one, strategy):
    assert_equal(five_steps(strategy, "global", devices=2, steps_per_call=STEPS), on_one)


def test_resnet50_sends_its_gradients_once():
    program, parameters = compile_step(Options(image_size=32), "shard_map")
    sizes = reductions(program)
    assert parameters == 25_557_032
    # One in the program, which the CPU's compiler cuts in two; jit has a hundred (experiments/results/reductions.json).
    assert len(sizes) <= 2
    assert parameters <= sum(sizes) <= 1.01 * parameters


def test_meshes_and_batches_that_cannot_be():
    with pytest.raises(ValueError, match="devices=9, but there are only 8"):
        make_mesh(9)
    mesh = make_mesh(8)
    check_batch_size(64, mesh)
    with pytest.raises(ValueError, match="batch_size=60 cannot be split over 8 devices; 56 and 64 can"):
        check_batch_size(60, mesh)
    with pytest.raises(ValueError, match="batch_size=4 cannot be split over 8 devices; 8 can"):
        check_batch_size(4, mesh)
    with pytest.raises(ValueError, match="cannot be split over 8 devices in 3 microbatches each; 48 and 72 can"):
        check_batch_size(64, mesh, accumulate=3)
    with pytest.raises(ValueError, match=r"batch_size=2147483648; expected less than 2\*\*31"):
        check_batch_size(2**31, mesh)
    with pytest.raises(ValueError, match=r"global under jit .* pass --devices.strategy shard_map"):
        Parallel(mesh, "jit", "replica")
