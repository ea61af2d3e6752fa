"""Metrics that are put together: means as sums, counts, rows, and kinds of one's own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from cnnjax.tasks import Mean, Metric, Rows, Sums, masked_mean, means, merge
from cnnjax.train.parallel import make_mesh

VALUES = np.float32([3, -1, 4, 1, -5, 9])
VALID = np.array([True, False, True, True, False, True])


def test_masked_mean_is_numpys_over_the_valid():
    mean = jax.jit(masked_mean)(VALUES, VALID)
    assert (float(mean.total), float(mean.count)) == (17, 4)
    assert means({"loss": mean}) == {"loss": VALUES[VALID].mean()}


def test_parts_add_up():
    parts = [masked_mean(jnp.asarray(VALUES[rows]), jnp.asarray(VALID[rows])) for rows in (slice(0, 2), slice(2, 6))]
    merged = merge([{"loss": one} for one in parts])
    assert isinstance(merged["loss"], Mean)
    # The mean of the parts' means would be (3 + 14 / 3) / 2.
    assert means(merged) == {"loss": 17 / 4}


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

    merged = part(slice(0, 2)).merge([part(slice(2, 6))])
    assert isinstance(merged, Rows)
    np.testing.assert_array_equal(merged.values["value"], VALUES)
    np.testing.assert_array_equal(merged.valid, VALID)
    np.testing.assert_array_equal(merged.kept()["pair"], VALUES[VALID][:, None])
    np.testing.assert_array_equal(part(slice(2, 6)).kept()["value"], [4, 1, 9])


class _Counts(NamedTuple):
    seen: Any
    of_class: Any


class Counts(_Counts, Sums):
    """Two sums, one of them an array."""


class Largest(NamedTuple):
    """A metric that does not add up."""

    value: Any

    def over(self, axis):
        return Largest(lax.pmax(self.value, axis))

    def merge(self, others):
        return Largest(np.max([self.value, *(other.value for other in others)], axis=0))


def test_counts_and_kinds_of_ones_own_are_merged_by_themselves():
    parts = [
        {
            "counts": Counts(jnp.int32(number), jnp.asarray([number, 2 * number])),
            "largest": Largest(jnp.float32(-number)),
            "rows": Rows(jnp.asarray([number, 0]), jnp.asarray([True, False])),
        }
        for number in (3, 1, 2)
    ]
    merged = merge(parts)
    assert all(isinstance(metric, Metric) for metric in merged.values())
    assert (merged["counts"].seen, merged["counts"].of_class.tolist()) == (6, [6, 12])
    assert merged["largest"].value == -1
    assert merged["rows"].kept().tolist() == [3, 1, 2]
    # One batch is itself.
    assert merge(parts[:1])["largest"].value == -3


def test_metrics_of_replicas_are_put_together_in_the_compiled_step():
    mesh = make_mesh(2)

    def each(values):
        metrics = {
            "mean": masked_mean(values, values > -2),
            "counts": Counts(jnp.int32(1), jnp.sum(values)[None]),
            "largest": Largest(jnp.max(values)),
            "rows": Rows(values, values > 0),
        }
        return {name: metric.over("data") for name, metric in metrics.items()}

    whole, divided = PartitionSpec(), PartitionSpec("data")
    found = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=divided, out_specs=whole, check_vma=False))(VALUES)
    # By hand: of 3, -1, 4, 1, -5, 9 all but -5 are above -2.
    assert (float(found["mean"].total), float(found["mean"].count)) == (16, 5)
    assert (int(found["counts"].seen), found["counts"].of_class.tolist()) == (2, [11.0])
    assert found["largest"].value == 9
    assert found["rows"].kept().tolist() == [3, 4, 1, 9]
