"""Image kernels by name: edges, slopes, sharpening, emboss and blurs, and what lays them over pictures.

A kernel is a plain array [height, width] for cross-correlation, which lays it over the picture as it is printed. True
convolution turns it by 180 degrees first: there, `kernel[::-1, ::-1]` gives the same picture. x grows to the right,
y downwards.

Reference: Gonzalez and Woods (2018), "Digital Image Processing", 4th edition, sections 3.5, 3.6 and 10.2.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from cnnjax.functional.convolution import PaddingMode, correlate
from cnnjax.functional.geometry import Padding, per_axis

Kernel: TypeAlias = Float[Array, "height width"]

_CENTRAL_DIFFERENCE = np.array([-1, 0, 1])


def filter_images(
    images: Float[Array, "batch height width channels"],
    kernel: Float[Array, "window_height window_width"],
    *,
    padding: Padding = "SAME",
    padding_mode: PaddingMode = "zeros",
) -> Float[Array, "batch out_height out_width channels"]:
    r"""Correlates every channel of every picture with one kernel.

    $$y[n, i, j, c] = \sum_{u, v} x[n, i + u - P, j + v - Q, c] \, w[u, v]$$

    With "SAME" padding the picture keeps its size and $P$, $Q$ put the kernel's centre on the pixel. Beyond the border
    there are zeros, a step that edge kernels answer to; `padding_mode` "reflect", "edge" or "circular" puts pixels
    there (see `correlate`), "VALID" leaves out what would see them.

    Raises:
        ValueError: the images have no batch or channel axis, the kernel is not [height, width], their types differ
            or are not floating point, or the kernel does not fit or the padding is unknown (see `correlate`).

    >>> picture = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> filter_images(picture, box_blur(3), padding="VALID").item()
    4.0
    """
    if images.ndim != 4:
        raise ValueError(
            f"images have shape {images.shape}; expected (batch, height, width, channels): add the axes of length 1"
        )
    if kernel.ndim != 2:
        raise ValueError(f"kernel has shape {kernel.shape}; expected (height, width): one kernel serves all channels")
    channels = images.shape[-1]
    per_channel = jnp.broadcast_to(kernel[..., None, None], (*kernel.shape, 1, channels))
    return correlate(images, per_channel, padding=padding, padding_mode=padding_mode, groups=channels)


def names() -> tuple[str, ...]:
    """Names of the kernels, in the order of this module.

    >>> names()[:3]
    ('identity', 'vertical_edge', 'horizontal_edge')
    """
    return tuple(_BUILDERS)


def create(name: str, *, dtype: DTypeLike = jnp.float32) -> Kernel:
    """The kernel of a name: one of the functions below with its defaults; `sobel_x` is `sobel("x")`.

    Raises:
        ValueError: no kernel has that name, or `dtype` is not floating point.

    >>> print(create("sobel_x"))
    [[-1.  0.  1.]
     [-2.  0.  2.]
     [-1.  0.  1.]]
    """
    if name not in _BUILDERS:
        raise ValueError(f"unknown kernel {name!r}; there are {', '.join(_BUILDERS)}")
    return _BUILDERS[name](dtype=dtype)


def identity(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """Leaves the picture as it is.

    Raises:
        ValueError: `dtype` is not floating point.
    """
    return _kernel([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype)


def vertical_edge(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """Answers to vertical edges, where brightness changes along x: positive where the left side is the brighter one.

    It is Prewitt's slope along x with its sign reversed: -6 times the slope per pixel.

    Raises:
        ValueError: `dtype` is not floating point.

    Reference: Prewitt (1970), "Object Enhancement and Extraction".
    """
    return _kernel([[1, 0, -1], [1, 0, -1], [1, 0, -1]], dtype)


def horizontal_edge(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """Answers to horizontal edges, where brightness changes along y: positive where the upper side is the brighter one.

    `vertical_edge`, transposed: -6 times the slope per pixel.

    Raises:
        ValueError: `dtype` is not floating point.

    Reference: Prewitt (1970), "Object Enhancement and Extraction".
    """
    return _kernel([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], dtype)


def sobel(along: Literal["x", "y"] = "x", *, dtype: DTypeLike = jnp.float32) -> Kernel:
    r"""Slope along an axis, smoothed across it by (1 2 1): 8 times the slope per pixel.

    $$\begin{pmatrix} 1 & 2 & 1 \end{pmatrix}^T \begin{pmatrix} -1 & 0 & 1 \end{pmatrix}$$

    Positive where brightness grows along the axis. Along x it answers to vertical edges, along y to horizontal ones.

    Raises:
        ValueError: `along` is neither "x" nor "y", or `dtype` is not floating point.

    Reference: Sobel and Feldman (1968), "A 3x3 Isotropic Gradient Operator for Image Processing".
    """
    return _slope([1, 2, 1], along, dtype)


def scharr(along: Literal["x", "y"] = "x", *, dtype: DTypeLike = jnp.float32) -> Kernel:
    r"""Slope along an axis, smoothed across it by (3 10 3): 32 times the slope per pixel.

    $$\begin{pmatrix} 3 & 10 & 3 \end{pmatrix}^T \begin{pmatrix} -1 & 0 & 1 \end{pmatrix}$$

    Signs and axes as `sobel`; the direction of the gradient it gives depends less on how the edge is turned.

    Raises:
        ValueError: `along` is neither "x" nor "y", or `dtype` is not floating point.

    Reference: Scharr (2000), "Optimal Operators in Digital Image Processing", dissertation, Heidelberg.
    """
    return _slope([3, 10, 3], along, dtype)


def laplacian(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """Sum of the second differences along x and y: zero on an even slope, positive on the dark side of an edge.

    Raises:
        ValueError: `dtype` is not floating point.

    Reference: Gonzalez and Woods (2018), section 3.6.
    """
    return _kernel([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype)


def outline(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """What a pixel has over its eight neighbours: the Laplacian with diagonals, negated, so bright sides are positive.

    Raises:
        ValueError: `dtype` is not floating point.

    Reference: Gonzalez and Woods (2018), section 3.6.
    """
    return _kernel([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]], dtype)


def sharpen(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """The picture less its Laplacian: even slopes stay, edges overshoot on both sides.

    Raises:
        ValueError: `dtype` is not floating point.

    Reference: Gonzalez and Woods (2018), section 3.6.
    """
    return _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], dtype)


def emboss(*, dtype: DTypeLike = jnp.float32) -> Kernel:
    """The picture plus its slope towards the lower right: brightness as relief, lit from the upper left.

    Raises:
        ValueError: `dtype` is not floating point.

    Reference: Powell, "Image Kernels Explained Visually", setosa.io.
    """
    return _kernel([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype)


def box_blur(size: int | Sequence[int] = 3, *, dtype: DTypeLike = jnp.float32) -> Kernel:
    """Mean of a window of `size` pixels, one number for both axes or (height, width).

    Raises:
        ValueError: `size` is not one odd number or two, or `dtype` is not floating point.

    Reference: Gonzalez and Woods (2018), section 3.5.
    """
    height, width = _centred(size)
    return _kernel(np.full((height, width), 1 / (height * width)), dtype)


def gaussian_blur(
    sigma: float = 1.0, *, size: int | Sequence[int] | None = None, dtype: DTypeLike = jnp.float32
) -> Kernel:
    r"""Mean weighted by a Gaussian, sampled at the pixels and scaled to sum to one.

    $$w[u, v] \propto \exp\left(-\frac{u^2 + v^2}{2 \sigma^2}\right)$$

    `sigma` is in pixels; u and v count from the centre. The `size`, one number or (height, width), reaches three sigma
    to each side where left out: 7 for a sigma of 1.

    Raises:
        ValueError: `sigma` is not a positive number, `size` not one odd number or two, or `dtype` not floating point.

    Reference: Gonzalez and Woods (2018), section 3.5.
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma} is not a width; expected a number above 0, in pixels")
    height, width = _centred(2 * math.ceil(3 * sigma) + 1 if size is None else size)
    across, along = (np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2) for taps in (height, width))
    return _kernel(np.outer(across / across.sum(), along / along.sum()), dtype)


_BUILDERS: dict[str, Callable[..., Kernel]] = {
    "identity": identity,
    "vertical_edge": vertical_edge,
    "horizontal_edge": horizontal_edge,
    "sobel_x": partial(sobel, "x"),
    "sobel_y": partial(sobel, "y"),
    "scharr_x": partial(scharr, "x"),
    "scharr_y": partial(scharr, "y"),
    "laplacian": laplacian,
    "outline": outline,
    "sharpen": sharpen,
    "emboss": emboss,
    "box_blur": box_blur,
    "gaussian_blur": gaussian_blur,
}


def _kernel(weights: ArrayLike | Sequence[Sequence[int]], dtype: DTypeLike) -> jax.Array:
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"dtype={jnp.dtype(dtype).name}: a kernel is floating point, as the pictures that it filters")
    return jnp.asarray(weights, dtype)


def _slope(smoothing: Sequence[int], along: str, dtype: DTypeLike) -> jax.Array:
    if along not in ("x", "y"):
        raise ValueError(f"along={along!r} is not an axis; expected 'x' (to the right) or 'y' (downwards)")
    weights = np.outer(smoothing, _CENTRAL_DIFFERENCE)
    return _kernel(weights if along == "x" else weights.T, dtype)


def _centred(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = per_axis(size, 2, "size")
    if not (height % 2 and width % 2):
        raise ValueError(f"size={size!r} has no centre pixel; expected odd numbers")
    return height, width
