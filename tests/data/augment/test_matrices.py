"""Maps of the plane against points moved by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data.augment import matrices

SIZE = (20, 40)  # centre (20, 10)


def affine(points, **options):
    neutral = {"degrees": 0.0, "shear_x": 0.0, "shear_y": 0.0, "factors": 1.0, "shift_x": 0.0, "shift_y": 0.0}
    options = {name: jnp.asarray([value], jnp.float32) for name, value in (neutral | options).items()}
    moved = matrices.transform_points(matrices.affine_matrices(SIZE, **options), jnp.asarray([points], jnp.float32))
    return np.asarray(moved[0])


@pytest.mark.parametrize(
    ("options", "point", "expected"),
    [
        # What is right of the centre comes to be above it: against the clock, y pointing down.
        ({"degrees": 90.0}, (30, 10), (20, 0)),
        ({"factors": 2.0}, (25, 8), (30, 6)),
        ({"shear_x": 0.5}, (20, 14), (22, 14)),
        ({"shear_y": 0.5}, (24, 10), (24, 12)),
        ({"shift_x": 3.0, "shift_y": -1.0}, (1, 2), (4, 1)),
        # Enlarged before it is shifted, sheared before it is turned.
        ({"factors": 2.0, "shift_x": 3.0}, (25, 8), (33, 6)),
        ({"shear_x": 0.5, "degrees": 90.0}, (20, 14), (24, 8)),
    ],
)
def test_affine_maps(options, point, expected):
    np.testing.assert_allclose(affine([point], **options)[0], expected, atol=1e-5)


def test_products_and_inverses_are_numpys():
    some = np.random.default_rng(0).normal(size=(2, 5, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(matrices.product(*map(jnp.asarray, some)), some[0] @ some[1], atol=1e-5)
    found = matrices.inverse(jnp.asarray(some[0]))
    np.testing.assert_allclose(found, np.linalg.inv(some[0].astype(np.float64)), rtol=1e-3, atol=1e-4)


def test_a_quadrilateral_is_hit_and_what_is_straight_stays_so():
    corners = np.asarray([[3, 1], [35, 4], [40, 18], [1, 20]], np.float32)
    maps = matrices.quadrilateral_matrices(SIZE, jnp.asarray(corners[None]))
    height, width = SIZE
    points = [(0, 0), (width, 0), (width, height), (0, height), (width / 2, height / 2)]
    moved = np.asarray(matrices.transform_points(maps, jnp.asarray([points], jnp.float32))[0])
    np.testing.assert_allclose(moved[:4], corners, atol=1e-4)
    # Diagonals stay straight: the centre goes to where those of the quadrilateral cross.
    along = np.stack([corners[2] - corners[0], -(corners[3] - corners[1])], 1)
    share = np.linalg.solve(along.astype(np.float64), corners[1] - corners[0])
    np.testing.assert_allclose(moved[4], corners[0] + share[0] * (corners[2] - corners[0]), atol=1e-4)
