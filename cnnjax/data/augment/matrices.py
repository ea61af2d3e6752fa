"""Maps of the plane as 3x3 matrices, one per image: what moves (x, y, 1), in pixels, y growing downwards.

Where a matrix sends a point p, `warp` puts what the picture shows at p. First A then B is `product(B, A)`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

Matrices = Float[Array, "batch 3 3"]
Numbers = Float[Array, " batch"]


def rows(*entries: Numbers) -> Matrices:
    """Matrices from their nine entries, row by row."""
    return jnp.stack(entries, -1).reshape(-1, 3, 3)


def product(left: Matrices, right: Matrices) -> Matrices:
    """The matrix product, in full float32 on every device: what accelerators round to by default is whole pixels."""
    return jnp.sum(left[:, :, :, None] * right[:, None, :, :], 2)


def inverse(matrices: Matrices) -> Matrices:
    """The inverse, by cofactors; not finite where there is none."""
    (a, b, c), (d, e, f), (g, h, i) = (tuple(matrices[:, row, column] for column in range(3)) for row in range(3))
    cofactors = rows(
        e * i - f * h, c * h - b * i, b * f - c * e,
        f * g - d * i, a * i - c * g, c * d - a * f,
        d * h - e * g, b * g - a * h, a * e - b * d,
    )  # fmt: skip
    determinants = jnp.sum(matrices[:, 0] * cofactors[:, :, 0], -1)
    return cofactors / determinants[:, None, None]


def affine_matrices(
    size: tuple[int, int],
    *,
    degrees: Numbers,
    shear_x: Numbers,
    shear_y: Numbers,
    factors: Numbers,
    shift_x: Numbers,
    shift_y: Numbers,
) -> Matrices:
    r"""Shear, enlarge and rotate about the centre of pictures of (height, width), then shift.

    $$A = T \, C \, R \, S \, Y \, X \, C^{-1}$$

    with $C$ the shift from the origin to the centre, $X: x \mathrel{+}= \mathrm{shear}_x y$,
    $Y: y \mathrel{+}= \mathrm{shear}_y x$, $S$ the enlargement by `factors`, $R$ the rotation, against the clock as it
    is seen, and $T$ the shift by pixels.
    """
    height, width = size
    none, one = jnp.zeros_like(degrees), jnp.ones_like(degrees)
    angle = jnp.deg2rad(degrees)
    cosine, sine = factors * jnp.cos(angle), factors * jnp.sin(angle)
    turn = rows(cosine, sine, none, -sine, cosine, none, none, none, one)
    skew = rows(one, shear_x, none, shear_y, one + shear_x * shear_y, none, none, none, one)
    from_centre = translation_matrices(one * (-width / 2), one * (-height / 2))
    back = translation_matrices(shift_x + width / 2, shift_y + height / 2)
    return product(back, product(turn, product(skew, from_centre)))


def translation_matrices(shift_x: Numbers, shift_y: Numbers) -> Matrices:
    """Shifts by pixels, to the right and downwards."""
    none, one = jnp.zeros_like(shift_x), jnp.ones_like(shift_x)
    return rows(one, none, shift_x, none, one, shift_y, none, none, one)


def scaling_matrices(factors_x: Numbers, factors_y: Numbers) -> Matrices:
    """Enlargements about the upper left corner."""
    none, one = jnp.zeros_like(factors_x), jnp.ones_like(factors_x)
    return rows(factors_x, none, none, none, factors_y, none, none, none, one)


def quadrilateral_matrices(size: tuple[int, int], corners: Float[Array, "batch 4 2"]) -> Matrices:
    """Perspective maps that send a picture's corners to `corners`: upper left, upper right, lower right, lower left.

    The quadrilateral has to be convex, and its corners in this order.

    Reference: Heckbert (1989), "Fundamentals of Texture Mapping and Image Warping", section 2.2.3.
    """
    height, width = size
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = ((corners[:, i, 0], corners[:, i, 1]) for i in range(4))
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    right_x, right_y, left_x, left_y = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    determinant = right_x * left_y - left_x * right_y
    g = (sum_x * left_y - left_x * sum_y) / determinant
    h = (right_x * sum_y - sum_x * right_y) / determinant
    one = jnp.ones_like(x0)
    from_square = rows(x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, one)
    return product(from_square, scaling_matrices(one / width, one / height))


def transform_points(matrices: Matrices, points: Float[Array, "batch n 2"]) -> Float[Array, "batch n 2"]:
    """Where points (x, y) go; not finite on a perspective map's horizon."""
    x, y = points[..., 0], points[..., 1]
    u, v, w = (
        matrices[:, row, 0, None] * x + matrices[:, row, 1, None] * y + matrices[:, row, 2, None] for row in range(3)
    )
    return jnp.stack([u / w, v / w], -1)
