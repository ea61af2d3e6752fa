"""Means as sums: over valid examples, of parts and of nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.tasks import Classification, Mean, Rows, Task, masked_mean, means

VALUES = np.float32([3, -1, 4, 1, -5, 9])
VALID = np.array([True, False, True, True, False, True])


def test_masked_mean_is_numpys_over_the_valid():
    mean = jax.jit(masked_mean)(VALUES, VALID)
    assert (float(mean.total), float(mean.count)) == (17, 4)
    assert means({"loss": mean}) == {"loss": VALUES[VALID].mean()}


def test_parts_add_up():
    parts = [masked_mean(jnp.asarray(VALUES[rows]), jnp.asarray(VALID[rows])) for rows in (slice(0, 2), slice(2, 6))]
    merged = jax.tree.map(jnp.add, *parts)
    # The mean of the parts' means would be (3 + 14 / 3) / 2.
    assert means({"loss": merged}) == {"loss": 17 / 4}


def test_values_of_invalid_examples_do_not_leak():
    poisoned = np.where(VALID, VALUES, np.nan)
    assert means({"loss": masked_mean(jnp.asarray(poisoned), jnp.asarray(VALID))}) == {"loss": 17 / 4}


def test_half_precision_is_summed_in_float32():
    # 1 + 1/256 is no bfloat16: in it, the sum of 256 ones and one more stays at 256.
    mean = masked_mean(jnp.ones(257, jnp.bfloat16), jnp.ones(257, bool))
    assert (mean.total.dtype, float(mean.total), float(mean.count)) == (jnp.float32, 257, 257)


def test_means_of_several_and_of_nothing():
    empty = masked_mean(jnp.ones(3), jnp.zeros(3, bool))
    found = means({"a": Mean(jnp.float32(3), jnp.float32(4)), "b": empty})
    assert list(found) == ["a", "b"]
    assert found["a"] == 0.75
    assert np.isnan(found["b"])
    assert all(type(value) is float for value in found.values())


def test_rows_are_joined_in_order_and_lose_their_padding():
    def part(rows):
        return Rows(
            {"value": jnp.asarray(VALUES[rows]), "pair": jnp.asarray(VALUES[rows, None])}, jnp.asarray(VALID[rows])
        )

    merged = Rows.merge([part(slice(0, 2)), part(slice(2, 6))])
    assert isinstance(merged, Rows)
    np.testing.assert_array_equal(merged.values["value"], VALUES)
    np.testing.assert_array_equal(merged.valid, VALID)
    np.testing.assert_array_equal(merged.kept()["pair"], VALUES[VALID][:, None])
    np.testing.assert_array_equal(part(slice(2, 6)).kept()["value"], [4, 1, 9])


def test_classification_is_a_task():
    assert isinstance(Classification(("a", "b")), Task)
    assert not isinstance(object(), Task)


@pytest.mark.parametrize("missing", ["inputs", "loss", "metrics", "summarize", "score", "predict", "draw"])
def test_a_task_has_every_method(missing):
    methods = {name: lambda self: None for name in dir(Task) if not name.startswith("_") and name != missing}
    assert not isinstance(type("Partial", (), methods)(), Task)
