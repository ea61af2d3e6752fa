"""Tiles: the same as the whole picture where they start on the net's grid, and not elsewhere."""

import jax
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.parts.architecture import Tiling
from cnnjax.models.tiles import apply_in_tiles, tiling_of

GENERATOR = np.random.default_rng(0)


@pytest.fixture(scope="module")
def net():
    model = models.create("unet", width=2, depth=3, padding="mirror")
    picture = GENERATOR.normal(size=(75, 58, 1)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), picture[None])
    whole = np.asarray(jax.jit(model.apply)(variables, picture[None])[0])
    return model, variables, picture, whole


def difference(net, tiling, **options):
    _, variables, picture, whole = net
    found = apply_in_tiles(jax.jit(lambda x: tiling.model.apply(variables, x)), picture, tiling, **options)
    assert found.shape == whole.shape
    return np.abs(found - whole).max() / np.abs(whole).max()


@pytest.mark.parametrize("side", [20, 33, 100])
def test_tiles_together_are_the_whole(net, side):
    tiling = tiling_of(net[0], side)
    assert (tiling.margin, tiling.grid) == (44, 8)
    assert difference(net, tiling, batch_size=3) < 1e-6


def test_tiles_off_the_grid_are_not(net):
    # As the paper's 388 is 24 times 16 and 4 more, 36 is 4 times 8 and 4 more.
    tiling = tiling_of(net[0], 36)
    assert tiling.side - 2 * tiling.margin == 36
    assert difference(net, tiling) < 1e-6
    assert difference(net, tiling._replace(grid=1)) > 1e-3


def test_advances_of_the_paper():
    tiling = tiling_of(models.create("unet"), 388)
    assert (tiling.side, tiling.margin, tiling.grid) == (572, 92, 16)
    starts = []

    def record(tiles):
        starts.extend(tiles[:, 0, 0, 0].tolist())
        return np.zeros((len(tiles), 388, 388, 1))

    rows = np.broadcast_to(np.arange(1000.0)[:, None, None], (1000, 380, 1))
    apply_in_tiles(record, rows, tiling, batch_size=1)
    # Mirrored, the tile 92 rows before the first begins with row 92; the next ones 384 further each.
    assert starts == [92, 384 - 92, 2 * 384 - 92]


def test_a_padded_nets_tiles_leave_their_margins_out():
    model = models.create("unet", width=2, depth=2, padding="zeros")
    tiling = tiling_of(model, 50)
    assert tiling == Tiling(model, 12, 4, 52)
    picture = GENERATOR.normal(size=(70, 41, 1)).astype(np.float32)
    seen = []

    def identity(tiles):
        seen.append(tiles.shape)
        return tiles

    np.testing.assert_array_equal(apply_in_tiles(identity, picture, tiling, batch_size=2), picture)
    assert set(seen) == {(2, 52, 52, 1)}


def test_bad_tiles():
    picture = np.zeros((8, 8, 1), np.float32)
    with pytest.raises(ValueError, match=r"tiles of 8 pixels with a margin of 4 leave 0, .*expected 9 pixels at least"):
        apply_in_tiles(lambda x: x, picture, Tiling(None, 4, 1, 8))
    with pytest.raises(ValueError, match="tiles of 8x8 gave outputs of 3x3; expected 8x8, or 6x6 without the margins"):
        apply_in_tiles(lambda x: x[:, :3, :3], picture, Tiling(None, 1, 1, 8))
