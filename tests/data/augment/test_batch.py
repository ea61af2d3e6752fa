"""Composing and batches: a draw belongs to the key and the id, and is the same however the batch is cut or laid out."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cnnjax.data import augment
from tests.models.quick import run_unoptimised

KEY = jax.random.key(3)
generator = np.random.default_rng(0)
IMAGES = generator.integers(1, 255, (16, 6, 5, 3)).astype(np.uint8)
BATCH = {
    "image": IMAGES,
    "id": np.arange(100, 116, dtype=np.int32),
    "label": np.arange(16, dtype=np.int32),
    "boxes": np.tile(np.float32([1, 2, 2, 3]), (16, 1, 1)),
    "masks": np.tile(np.arange(30).reshape(6, 5) == 11, (16, 1, 1)),
    "keypoints": np.tile(np.float32([1.5, 2.5]), (16, 1, 1)),
}
# A part of each kind: a crop, a mirror, a warp, colours, noise, and one by chance.
CHANGE = augment.on_batch(
    augment.compose(
        partial(augment.pad_and_crop, pixels=2),
        augment.flip,
        partial(augment.rotation, degrees=90.0),
        augment.sometimes(partial(augment.brightness, strength=0.5), probability=0.5),
        partial(augment.noise, deviation=0.1),
    )
)


@pytest.fixture(scope="module")
def changed():
    return run_unoptimised(CHANGE, KEY, BATCH)


def test_a_draw_depends_on_the_key_and_the_id_alone(changed):
    order = generator.permutation(16)[:8]
    part = run_unoptimised(CHANGE, KEY, {name: array[order] for name, array in BATCH.items()})
    for name in BATCH:
        np.testing.assert_allclose(part[name], changed[name][order], atol=1e-5)
    np.testing.assert_array_equal(changed["label"], BATCH["label"])
    np.testing.assert_array_equal(changed["id"], BATCH["id"])
    assert (changed["image"] != IMAGES).any((1, 2, 3)).all()


def test_sharded_over_eight_devices_it_is_the_same(changed):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(BATCH, NamedSharding(mesh, PartitionSpec("data")))
    found = jax.jit(CHANGE, compiler_options={"xla_backend_optimization_level": 0})(KEY, sharded)
    assert len(found["image"].sharding.device_set) == 8
    for name in BATCH:
        apart = np.abs(np.asarray(found[name]).astype(float) - changed[name].astype(float))
        assert apart.max() <= (1 if name == "image" else 1e-5), name  # a level where rounding is close
    assert (np.asarray(found["image"]) != changed["image"]).mean() < 0.01


def test_compose_folds_its_numbers_into_each_images_key():
    seen = []

    def spy(keys, images):
        seen.append(keys)
        return images

    keys = augment.keys_for(KEY, jnp.arange(3))
    images = jnp.asarray(IMAGES[:3])
    np.testing.assert_array_equal(augment.compose(spy, spy)(keys, images), images)
    for number, found in enumerate(seen):
        for place in range(3):
            expected = jax.random.fold_in(jax.random.fold_in(KEY, place), number)
            assert (jax.random.key_data(found[place]) == jax.random.key_data(expected)).all()


def test_targets_go_through_all_and_points_stay_on_their_pixel():
    turn = augment.compose(augment.flip, partial(augment.flip, direction="vertical"))
    found = run_unoptimised(augment.on_batch(turn), KEY, BATCH)
    shown = []
    for picture, before, ((x, y),), mask, box in zip(
        found["image"], IMAGES, found["keypoints"], found["masks"], found["boxes"][:, 0], strict=True
    ):
        np.testing.assert_array_equal(picture[int(y), int(x)], before[2, 1])
        assert np.argwhere(mask).tolist() == [[int(y), int(x)]] == [[box[1], box[0]]]
        shown.append((x, y))
    assert len(set(shown)) == 4


def test_objects_that_leave_the_picture_are_no_longer_present_and_the_rest_of_them_stays():
    batch = {name: BATCH[name] for name in ("image", "id")}
    batch |= {"boxes": np.tile(np.float32([[0, 0, 1, 6], [1, 2, 3, 4], [0, 0, 0, 0]]), (16, 1, 1))}
    batch |= {"present": np.tile([True, True, False], (16, 1)), "classes": np.tile(np.int32([4, 5, 0]), (16, 1))}
    batch |= {"keypoints": np.tile(np.float32([1.5, 2.5]), (16, 3, 2, 1)), "area": np.ones((16, 3), np.float32)}
    change = augment.compose(partial(augment.pad_and_crop, pixels=2), augment.sometimes(augment.flip, probability=0.5))
    found = run_unoptimised(augment.on_batch(change), KEY, batch)
    whole = (found["boxes"][..., 2:] > found["boxes"][..., :2]).all(-1)
    np.testing.assert_array_equal(found["present"], whole & batch["present"])
    assert 0 < found["present"][:, 0].sum() < 16
    assert found["present"][:, 1].all()
    assert found["keypoints"].shape == (16, 3, 2, 2)
    for name in ("classes", "area"):
        np.testing.assert_array_equal(found[name], batch[name])


def test_sometimes_changes_its_share_of_images_and_their_targets():
    images = jnp.asarray(np.repeat(IMAGES, 20, 0))
    targets = augment.Targets(keypoints=jnp.full((320, 1, 2), 1.0))
    change = augment.sometimes(partial(augment.flip, probability=1.0), probability=0.25)
    found, moved = run_unoptimised(change, KEY, images, targets)
    mirrored = (found == np.asarray(images)[:, :, ::-1]).all((1, 2, 3))
    assert 50 <= mirrored.sum() <= 110
    np.testing.assert_array_equal(found[~mirrored], images[~mirrored])
    np.testing.assert_array_equal(moved.keypoints[:, 0, 0], np.where(mirrored, 4, 1))


def test_a_slot_whose_box_has_gone_is_no_longer_present():
    def down_and_right(keys, images, targets):
        return augment.displace(images, jnp.full((*images.shape[:3], 2), -3.0), targets)

    boxes = jnp.asarray([[[1, 1, 2, 2], [3, 1, 4, 2], [1, 2, 2, 3], [0, 0, 0, 0]]], jnp.float32)
    batch = {"image": jnp.asarray(IMAGES[:1]), "id": jnp.arange(1), "boxes": boxes}
    batch["present"] = jnp.asarray([[True, True, False, False]])
    found = augment.on_batch(down_and_right)(KEY, batch)
    np.testing.assert_array_equal(found["boxes"][0], [[4, 4, 5, 5], [0, 0, 0, 0], [4, 5, 5, 6], [0, 0, 0, 0]])
    np.testing.assert_array_equal(found["present"], [[True, False, False, False]])


def test_in_turn_gives_each_its_own_key():
    def add(key, batch):
        return {**batch, "draws": [*batch.get("draws", []), float(jax.random.uniform(key))]}

    found = augment.in_turn(add, augment.unchanged, add)(KEY, {})["draws"]
    assert found == [float(jax.random.uniform(jax.random.fold_in(KEY, number))) for number in (0, 2)]


def test_batches_of_batches_under_vmap():
    """The label of a batch stays, and `vmap` over several gives what each gives alone."""
    change = augment.on_batch(augment.compose(partial(augment.pad_and_crop, pixels=2), augment.flip))
    batch = {"image": jnp.asarray(IMAGES), "label": jnp.arange(16), "id": jnp.arange(16)}
    keys = jax.random.split(KEY, 2)
    both = run_unoptimised(jax.vmap(change, (0, None)), keys, batch)
    alone = run_unoptimised(lambda keys, batch: [change(key, batch) for key in keys], keys, batch)
    jax.tree.map(np.testing.assert_array_equal, both, jax.tree.map(lambda *leaves: np.stack(leaves), *alone))
    for one in alone:
        np.testing.assert_array_equal(one["label"], np.arange(16))
    assert (alone[0]["image"] != alone[1]["image"]).any()


def test_standardize_is_numpys():
    mean, deviation = (IMAGES / 255).mean((0, 1, 2)), (IMAGES / 255).std((0, 1, 2))
    result = augment.standardize(
        {"image": jnp.asarray(IMAGES)}, mean=tuple(map(float, mean)), deviation=tuple(map(float, deviation))
    )
    np.testing.assert_allclose(result["image"], (IMAGES / 255 - mean) / deviation, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pictures", [IMAGES / 255, IMAGES.astype(np.float64), IMAGES / 50 - 2], ids=["1", "255", "0"])
def test_floats_are_standardized_on_their_own_scale(pictures):
    mean, deviation = pictures.mean((0, 1, 2)), pictures.std((0, 1, 2))
    statistics = {"mean": tuple(map(float, mean)), "deviation": tuple(map(float, deviation))}
    result = augment.standardize({"image": jnp.asarray(pictures, jnp.float32)}, **statistics)
    np.testing.assert_allclose(result["image"], (pictures - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_standardize_takes_a_number_for_all_channels_or_one_for_each():
    result = augment.standardize({"image": jnp.asarray(IMAGES)}, mean=(0.5,), deviation=(0.25,))
    np.testing.assert_allclose(result["image"], (IMAGES / 255 - 0.5) / 0.25, rtol=1e-4, atol=1e-5)
    grey = {"image": jnp.asarray(IMAGES[..., :1])}
    with pytest.raises(ValueError, match="pictures have 1 channels, and 3 means and 3 deviations came"):
        augment.standardize(grey, mean=(0.5,) * 3, deviation=(0.25,) * 3)
    with pytest.raises(ValueError, match=r"images are int32; expected uint8 .* pass images\.astype\(np\.uint8\)"):
        augment.standardize({"image": jnp.asarray(IMAGES, jnp.int32)}, mean=(0.5,), deviation=(0.25,))


def test_errors_at_the_door(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"the batch has image; expected 'id' too"):
        augment.on_batch(augment.flip)(KEY, {"image": jnp.asarray(IMAGES)})
    with pytest.raises(ValueError, match=r"probability=1\.5"):
        augment.sometimes(augment.flip, probability=1.5)
    smaller = augment.sometimes(lambda key, x: x[:, :2], probability=0.5)
    with pytest.raises(ValueError, match="expected one that keeps the size"):
        smaller(KEY, jnp.asarray(IMAGES))
