"""Mixed pictures against their two halves, labels against the shares, and the distribution of both."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.stats
from jax.sharding import PartitionSpec

from cnnjax.data.augment import cutmix, mixup
from tests.models.quick import run_unoptimised

KEY = jax.random.key(9)
COUNT = 200
# Each picture is filled with its own level.
LEVELS = np.linspace(0, 1, COUNT, dtype=np.float32)
BATCH = {
    "image": np.broadcast_to(LEVELS[:, None, None, None], (COUNT, 8, 6, 1)).copy(),
    "label": (np.arange(COUNT) % 7).astype(np.int32),
    "tags": np.random.default_rng(0).integers(0, 2, (COUNT, 3)).astype(np.float32),
    "id": np.arange(COUNT, dtype=np.int32),
}


def partners(labels, shares):
    """How many places on the partners are: the one number that the labels agree with."""
    hot = np.eye(7)[BATCH["label"]]
    return [
        n
        for n in range(1, COUNT)
        if np.allclose(shares[:, None] * hot + (1 - shares)[:, None] * np.roll(hot, -n, 0), labels, atol=1e-4)
    ]


def test_mixup_adds_two_pictures_and_their_labels_in_one_proportion():
    mixed = run_unoptimised(partial(mixup, alpha=0.4, num_classes=7), KEY, BATCH)
    assert mixed["label"].dtype == np.float32
    np.testing.assert_allclose(mixed["label"].sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(mixed["id"], BATCH["id"])
    shown = mixed["image"][:, 0, 0, 0]
    np.testing.assert_allclose(mixed["image"], np.broadcast_to(shown[:, None, None, None], (COUNT, 8, 6, 1)), atol=1e-6)
    found = []
    for n in range(1, COUNT):
        other = np.roll(LEVELS, -n)
        shares = (shown - other) / (LEVELS - other)
        if n in partners(mixed["label"], shares):
            found.append((n, shares))
    ((n, shares),) = found
    tags = shares[:, None] * BATCH["tags"] + (1 - shares)[:, None] * np.roll(BATCH["tags"], -n, 0)
    np.testing.assert_allclose(mixed["tags"], tags, atol=1e-4)
    assert scipy.stats.kstest(shares, scipy.stats.beta(0.4, 0.4).cdf).pvalue > 0.01


def test_cutmix_pastes_a_rectangle_and_labels_are_areas():
    batch = {**BATCH, "image": np.round(BATCH["image"] * 255).astype(np.uint8)}
    mixed = run_unoptimised(partial(cutmix, num_classes=7), KEY, batch)
    assert mixed["image"].dtype == np.uint8
    pasted = mixed["image"] != batch["image"]
    shares = 1 - pasted.mean((1, 2, 3))
    ((n),) = partners(mixed["label"], shares)
    np.testing.assert_array_equal(mixed["image"], np.where(pasted, np.roll(batch["image"], -n, 0), batch["image"]))
    for mask in pasted[..., 0]:
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        assert mask.sum() == len(rows) * len(columns)
    assert len(np.unique(shares)) > 15
    # Half before the border cuts, and less after: the mean of four draws in NumPy, each 100,000.
    generator = np.random.default_rng(1)
    halves = np.sqrt(1 - generator.beta(1, 1, 100_000)) / 2
    lengths = [np.minimum(c + halves, 1) - np.maximum(c - halves, 0) for c in generator.uniform(size=(2, 100_000))]
    assert 1 - shares.mean() == pytest.approx(np.mean(lengths[0] * lengths[1]), abs=0.05)


@pytest.mark.parametrize("mix", [mixup, cutmix])
def test_rows_that_do_not_count_neither_give_nor_take(mix):
    valid = np.arange(COUNT) < 150
    images = np.where(valid[:, None, None, None], BATCH["image"] * 0.5, 1)
    batch = {"image": images.astype(np.float32), "label": np.eye(2, dtype=np.float32)[(~valid).astype(int)]}
    mixed = run_unoptimised(partial(mix, alpha=1.0), KEY, {**batch, "valid": valid})
    assert mixed["image"][:150].max() <= 0.5
    np.testing.assert_array_equal(mixed["image"][150:], 1)
    np.testing.assert_allclose(mixed["label"], batch["label"], atol=1e-6)
    assert (mixed["image"][:150] != batch["image"][:150]).any()


def test_partners_are_of_the_same_device_under_shard_map():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    device = np.repeat(np.arange(4), 50)
    batch = {"image": BATCH["image"], "label": np.eye(4, dtype=np.float32)[device]}
    split = PartitionSpec("data")
    local = jax.shard_map(
        partial(mixup, alpha=1.0), mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False
    )
    mixed = jax.jit(local)(KEY, batch)
    np.testing.assert_allclose(mixed["label"], batch["label"], atol=1e-6)
    assert (np.asarray(mixed["image"]) != batch["image"]).any()


def test_one_example_alone_stays_itself():
    one = {"image": BATCH["image"][5:6], "label": np.int32([3])}
    mixed = run_unoptimised(partial(mixup, alpha=1.0, num_classes=7), KEY, one)
    np.testing.assert_allclose(mixed["image"], one["image"], atol=1e-6)
    np.testing.assert_allclose(mixed["label"], np.eye(7)[[3]], atol=1e-6)


def test_what_does_not_mix(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images, labels = jnp.zeros((4, 2, 2, 1)), jnp.zeros(4, jnp.int32)
    batch = {"image": images, "label": labels}
    for call, message in (
        (lambda: mixup(KEY, batch, alpha=0.0, num_classes=2), "alpha=0.0; expected a number above 0"),
        (lambda: mixup(KEY, batch), "num_classes=None"),
        (lambda: cutmix(KEY, {"image": images}), "expected 'label' or 'tags'"),
        (lambda: cutmix(KEY, {**batch, "boxes": jnp.zeros((4, 1, 4))}), "boxes, which do not mix"),
        (lambda: mixup(KEY, {"image": images, "label": jnp.zeros((3, 2))}), r"label has shape \(3, 2\)"),
        (lambda: mixup(KEY, {"image": images, "label": jnp.zeros((4, 2))}, num_classes=3), "label has 2"),
        (lambda: mixup(jax.random.split(KEY, 4), batch, num_classes=2), "expected one key"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
