"""Label maps of objects on the host: what hangs together in a mask, and U-Net's weights of the gaps between objects."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Integer

# Beyond so many deviations the extra weight is below 1.3e-14 of w0, and taken as none.
_REACH = 8


def connected_components(
    mask: Bool[np.ndarray, "height width"], *, connectivity: Literal[4, 8] = 8
) -> Int32[np.ndarray, "height width"]:
    """Numbers the connected parts of a mask from 1, in the order of their first pixels row by row; 0 is background.

    Args:
        mask: Where there are objects.
        connectivity: 4 if pixels must share a side to be neighbours, 8 if a corner is enough.

    Raises:
        ValueError: `mask` is not boolean of two axes, or `connectivity` neither 4 nor 8.

    >>> connected_components(np.asarray([[1, 0, 0], [0, 1, 0]], bool), connectivity=4).tolist()
    [[1, 0, 0], [0, 2, 0]]
    """
    import scipy.ndimage

    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"mask is {mask.dtype} of shape {mask.shape}; expected bool, (height, width): pass labels > 0")
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity={connectivity}; expected 4, neighbours by sides, or 8, by corners too")
    neighbours = scipy.ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    return scipy.ndimage.label(mask, neighbours)[0].astype(np.int32)


def separation_weights(
    labels: Integer[np.ndarray, "height width"],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_balance: tuple[float, float] | None = None,
) -> Float32[np.ndarray, "height width"]:
    r"""U-Net's weights of pixels: those of the narrow gaps between objects weigh up to $w_0$ more.

    $$w = w_c + w_0 \exp\left(-\frac{(d_1 + d_2)^2}{2 \sigma^2}\right)$$

    with $d_1$ and $d_2$ the distances to the nearest and to the second nearest object, in pixels from centre to centre
    of the nearest pixel. The paper has the second term at every pixel; here only background has it, which is what is to
    be learnt: inside of objects it would weigh a rim that touches others like the gap. Objects that touch have no gap:
    part them first (`data.sources.separated.parted`), in the weights as in what is learnt.

    Args:
        labels: 0 where there is background, a number of its own for each object.
        w0: The largest extra weight.
        sigma: How fast it falls, in pixels.
        class_balance: $w_c$ of background and of objects. If None, by their frequencies, so that both classes weigh
            the same and the mean of $w_c$ is 1; 1 where a picture has one class only.

    Returns:
        One weight for each pixel. With fewer than two objects there are no gaps, and it is $w_c$.

    Raises:
        ValueError: `labels` are not whole numbers of two axes, of 0 and above, `w0` or a weight is negative or not
            finite, or `sigma` is not above 0.

    Reference: Ronneberger, Fischer and Brox (2015), "U-Net: Convolutional Networks for Biomedical Image Segmentation",
    section 3, equation 2.

    >>> separation_weights(np.asarray([[1, 0, 2]]), class_balance=(1.0, 2.0)).round().tolist()
    [[2.0, 10.0, 2.0]]
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ValueError(
            f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers from 0, (height, width): "
            "connected_components makes them of a mask"
        )
    if not 0 <= w0 < math.inf:
        raise ValueError(f"w0={w0}; expected 0 or more, the largest extra weight")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma}; expected a number above 0, in pixels")
    objects = labels > 0
    share = objects.mean() if objects.size else 0.0
    if class_balance is None:
        class_balance = (0.5 / (1.0 - share), 0.5 / share) if 0 < share < 1 else (1.0, 1.0)
    if len(class_balance) != 2 or not all(0 <= weight < math.inf for weight in class_balance):
        raise ValueError(f"class_balance={class_balance}; expected the weights of background and objects, 0 or more")
    nearest, second = _two_distances(labels, reach=math.ceil(_REACH * sigma))
    extra = w0 * np.exp(-np.square(nearest + second) / (2 * sigma**2))
    return np.where(objects, class_balance[1], class_balance[0] + extra).astype(np.float32)


def _two_distances(
    labels: Integer[np.ndarray, "height width"], *, reach: int
) -> tuple[Float[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    """Distances to the nearest and the second nearest object, infinite where they are more than about `reach`."""
    import scipy.ndimage

    nearest, second = (np.full(labels.shape, np.inf) for _ in range(2))
    if not labels.any():
        return nearest, second
    numbers, places = np.unique(labels, return_inverse=True)
    # Numbers without gaps, as find_objects makes an entry for every number up to the largest.
    places = places.reshape(labels.shape) + (1 if numbers[0] > 0 else 0)
    for number, parts in enumerate(scipy.ndimage.find_objects(places), 1):
        # What is farther from the object than `reach` need not be looked at.
        part = tuple(slice(max(side.start - reach, 0), side.stop + reach) for side in parts)
        distance = np.asarray(scipy.ndimage.distance_transform_edt(places[part] != number))
        second[part] = np.minimum(second[part], np.maximum(nearest[part], distance))
        nearest[part] = np.minimum(nearest[part], distance)
    return nearest, second
