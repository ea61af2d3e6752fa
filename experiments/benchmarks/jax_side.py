"""The sides of the comparison of steps that run on JAX, each in a process of its own: ours, and plain Flax."""

import json
import resource
import runpy
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax import models
from cnnjax.data.augment import unchanged
from cnnjax.tasks import Classification
from cnnjax.train import Recipe
from cnnjax.train.parallel import Parallel, make_mesh
from experiments.benchmarks.flax_nets import flax_model


def make_batch(shape: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """A batch of noise: of so many pictures, their side, channels, and the number of classes."""
    batch, size, channels, classes = shape
    random = np.random.default_rng(0)
    return {
        "image": random.normal(size=(batch, size, size, channels)).astype(np.float32),
        "label": random.integers(0, classes, batch).astype(np.int32),
        "id": np.arange(batch, dtype=np.int32),
        "valid": np.ones(batch, bool),
    }


def our_training(net: str, shape: tuple[int, int, int, int], dtype: Any, together: int = 1) -> Callable[[], Any]:
    """The step of a run, compiled as a run compiles it; each call takes `together` of them."""
    classes = shape[-1]
    model = models.create(net, num_classes=classes, dtype=dtype)
    recipe = Recipe(model, Classification(tuple(map(str, range(classes)))), optimizer(), unchanged, lambda batch: batch)
    parallel = Parallel(make_mesh(1))
    examples = make_batch(shape)
    state = parallel.replicate(recipe.first_state(examples, seed=0))
    given = examples if together == 1 else [examples] * together
    (on_device,) = parallel.to_devices([given], training=True)
    run = parallel.compile_training(recipe, state, on_device, None, steps=together)

    def step() -> Any:
        nonlocal state
        state, metrics = run(state, on_device, None)
        return metrics

    return step


def our_inference(net: str, shape: tuple[int, int, int, int], dtype: Any) -> Callable[[], Any]:
    """The logits, as a run that is loaded computes them."""
    images = jax.device_put(make_batch(shape)["image"])
    model = models.create(net, num_classes=shape[-1], dtype=dtype)
    variables = models.initialize(jax.random.key(0), model, images[:1])
    return partial(jax.jit(models.bind(model, variables)), images)


def plain_training(model: Any, shape: tuple[int, int, int, int]) -> Callable[[], Any]:
    """The step of a model in a plain Flax loop; each call takes one."""
    examples = jax.device_put(make_batch(shape))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), examples["image"])
    params, stats = variables["params"], variables.get("batch_stats", {})
    rule = optimizer()
    opt_state = rule.init(params)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def run(params: Any, stats: Any, opt_state: Any, batch: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits, updates = model.apply(
                {"params": params, "batch_stats": stats},
                batch["image"],
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), batch["label"])
            return losses.mean(), (updates.get("batch_stats", {}), (logits.argmax(-1) == batch["label"]).mean())

        (loss, (new_stats, accuracy)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, new_opt_state = rule.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), new_stats, new_opt_state, loss, accuracy

    def step() -> Any:
        nonlocal params, stats, opt_state
        params, stats, opt_state, loss, accuracy = run(params, stats, opt_state, examples)
        return loss, accuracy

    return step


def plain_inference(model: Any, shape: tuple[int, int, int, int]) -> Callable[[], Any]:
    """The logits of a model of Flax."""
    images = jax.device_put(make_batch(shape)["image"])
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), images)
    return partial(jax.jit(partial(model.apply, train=False)), variables, images)


def optimizer(rate: float = 0.01) -> optax.GradientTransformation:
    """The rule that every side uses."""
    return optax.sgd(rate, momentum=0.9)


def make_side(name: str, case: dict[str, Any]) -> Callable[[], Any]:
    """The function of a side: "cnnjax" ours, "plain loop" our net in Flax's loop, "flax" plain Flax."""
    net, shape, dtype = case["net"], tuple(case["shape"]), jnp.dtype(case["dtype"]).type
    if name == "cnnjax":
        return (
            our_training(net, shape, dtype, case["together"]) if case["training"] else our_inference(net, shape, dtype)
        )
    model = models.create(net, num_classes=shape[-1]) if name == "plain loop" else flax_model(net, shape[-1], dtype)
    return plain_training(model, shape) if case["training"] else plain_inference(model, shape)


def timed(step: Callable[[], Any], calls: int) -> tuple[float, float]:
    """Wall and processor seconds of so many calls, the last one waited for."""
    began, worked = time.perf_counter(), time.process_time()
    told = [step() for _ in range(calls)]
    jax.block_until_ready(told[-1])
    return time.perf_counter() - began, time.process_time() - worked


def main(name: str, text: str, make: Callable[[str, dict[str, Any]], Callable[[], Any]] = make_side) -> None:
    """Says its version, then answers each line, a number of steps, with wall and processor seconds and peak MiB.

    Args:
        name: of the side.
        text: the case as JSON.
        make: gives the function of a side for a case.
    """
    case = json.loads(text)
    allocator = runpy.run_path(case["allocator"])
    assert not case["keep_memory"] or allocator["share_one_arena"]()
    print(json.dumps(jax.__version__), flush=True)
    step = make(name, case)
    assert not case["keep_memory"] or allocator["keep_memory"]()
    jax.block_until_ready(step())
    for line in sys.stdin:
        taken = timed(step, max(1, int(line) // case.get("together", 1)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([*taken, peak]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
