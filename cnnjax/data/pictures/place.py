"""Pictures brought to one size on the host, with their boxes, masks and key points: the twin of `augment.Targets`.

Every way there stretches a window of the picture over a part of the result, and leaves zeros around it. So one 3x3
matrix says where all points go, and moves whatever else of the example has a place in the picture. Coordinates are
those of `cnnjax.data.augment.targets`: (x, y) in pixels from the upper left corner, where the pixel in column i and row
j covers i to i + 1 and j to j + 1.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from jaxtyping import Float64, Shaped
from PIL import Image

from cnnjax.data.pictures.decode import (
    Box,
    OpenPicture,
    Window,
    check_box,
    check_size,
    open_picture,
    pixels_of,
    resize_window,
)
from cnnjax.image_size import Size

Example: TypeAlias = Mapping[str, Any]

ResizeBy: TypeAlias = Literal["resize", "cover", "letterbox", "pad", "crop"]

# Elements of an example that move with its picture, and how many numbers each of their points or boxes has.
_NUMBERS = {"boxes": 4, "proposals": 4, "keypoints": 2}
_MOVED = (*_NUMBERS, "masks")


class SettingError(ValueError):
    """An example that is sound cannot be read in the way asked for; the message says what to ask for instead."""


class Placement(NamedTuple):
    """A window of a picture, and the part of a result of `size` that it is stretched over."""

    window: Window
    onto: Box
    size: Size

    @property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """What moves (x, y, 1) of the picture to the result."""
        top, left, height, width = self.window
        down, along = self.onto.height / height, self.onto.width / width
        return np.array([[along, 0, self.onto.left - left * along], [0, down, self.onto.top - top * down], [0, 0, 1]])


def choose_placement(sides: Size, size: Size, how: ResizeBy, *, share: float = 1.0) -> Placement:
    """How a picture of the height and width `sides` comes to `size`; the options are those of `fit_image`.

    Raises:
        ValueError: If an option is not on offer or out of range.
        SettingError: If the picture is larger than `size` when padding, or smaller when cropping.
    """
    if how not in get_args(ResizeBy):
        raise ValueError(f"how is {how!r}; expected one of {', '.join(get_args(ResizeBy))}")
    check_size("size", size)
    if not 0 < share <= 1 or (share != 1 and how != "cover"):
        raise ValueError(f'share is {share} with "{how}"; expected above 0 and at most 1, and 1 except with "cover"')
    height, width = sides
    everything, all_over = (0.0, 0.0, float(height), float(width)), Box(0, 0, *size)
    if how == "resize":
        return Placement(everything, all_over, size)
    if how == "cover":
        return Placement(_covering(height, width, size, share), all_over, size)
    if how == "letterbox":
        scale = min(size[0] / height, size[1] / width)
        return Placement(
            everything, _centred((max(1, round(height * scale)), max(1, round(width * scale))), size), size
        )
    if how == "pad":
        if height > size[0] or width > size[1]:
            raise SettingError(
                f"an image of {height}x{width} does not fit into {size[0]}x{size[1]} by padding; "
                'use "letterbox", "resize" or "crop", or a larger size'
            )
        return Placement(everything, _centred(sides, size), size)
    if height < size[0] or width < size[1]:
        raise SettingError(
            f"an image of {height}x{width} is too small to crop {size[0]}x{size[1]} from; "
            'use "resize", "cover" or "pad", or a smaller size'
        )
    top, left, *_ = _centred(size, sides)
    return Placement((float(top), float(left), float(size[0]), float(size[1])), all_over, size)


def fit_image(
    image: Shaped[np.ndarray, "height width channels"], size: Size, how: ResizeBy = "resize", *, share: float = 1.0
) -> Shaped[np.ndarray, "new_height new_width channels"]:
    """Brings an image of any number of channels to one size.

    Args:
        image: Height, width, channels. It is uint8 where it is scaled; padding and cropping take any dtype.
        size: The height and width wanted.
        how: "resize" stretches, bilinear with antialiasing; "cover" scales likewise, but both sides alike, until
            the image covers `size`, and takes the centre; "letterbox" scales both sides alike until the image just fits
            into `size`, and centres it on zeros; "pad" centres the image on zeros as it is; "crop" takes the centre.
            Where the difference is odd, the extra row or column is at the bottom or the right.
        share: For "cover" alone: how much of the side that fits is kept. 0.875 with a size of (224, 224) scales the
            shorter side to 256, the way ImageNet's classifiers are usually evaluated.

    Raises:
        ValueError: If the image is larger than `size` when padding, or smaller when cropping, or not uint8
            when scaling, or `share` is not above 0 and at most 1, or is given where nothing is covered.
    """
    return _show(image, choose_placement(sides_of(image), size, how, share=share))


def place(example: Example, size: Size, how: ResizeBy = "resize") -> dict[str, Any]:
    """Brings the picture of an example to a size, and moves what has a place in it along.

    "boxes" and "proposals" (n, 4), "keypoints" (..., 2) and "masks" (height, width) or (height, width, n) are moved as
    `cnnjax.data.augment.Targets` are, all by one matrix, and "present" (n,) becomes False where a box is empty then.
    What else there is for each object stays. Where there is one of them, the matrix is kept as "matrix",
    3x3 in float32: it takes (x, y, 1) of the picture to the result, and its inverse takes predictions back. What
    `augment` does later is not in it.

    Args:
        example: its "image" is an array, or an encoded picture, as bytes or opened.
        size: the height and width wanted.
        how: see `fit_image`.

    Raises:
        SettingError: If the picture cannot be brought to this size in this way, an element that moves has another shape
            or type, or another element has the height and width of the picture, which would not move.
        ValueError: If the picture cannot be decoded.
    """
    image = opened(example["image"])
    if not isinstance(image, OpenPicture):
        sides = sides_of(image)
        placement = choose_placement(sides, size, how)
        return move(example, _show(image, placement), placement, sides)
    placement = choose_placement(image.sides, size, how)
    # Twice the size, as Pillow's thumbnails: what is left to the resizing hides how it was decoded.
    scaled = how in ("resize", "cover", "letterbox")
    pixels, filled = image.whole((2 * placement.onto.height, 2 * placement.onto.width) if scaled else None)
    down, along = filled[2] / image.sides[0], filled[3] / image.sides[1]
    top, left, height, width = placement.window
    window = filled[0] + top * down, filled[1] + left * along, height * down, width * along
    return move(example, _show(pixels, placement._replace(window=window)), placement, image.sides)


def crop(example: Example, size: Size, box: Box) -> dict[str, Any]:
    """Stretches a part of the picture of an example to a size, and moves what has a place in it along, as `place`.

    Raises:
        ValueError: As `place`, or if the box is empty or not within the picture.
    """
    image = opened(example["image"])
    placement, sides = Placement(box, Box(0, 0, *size), size), sides_of(image)
    if isinstance(image, OpenPicture):
        return move(example, image.part(box, size), placement, sides)
    check_box(box, sides)
    part = image[box.top : box.top + box.height, box.left : box.left + box.width]
    return move(example, fit_image(part, size), placement, sides)


def opened(picture: bytes | np.ndarray | OpenPicture) -> np.ndarray | OpenPicture:
    """The header of an encoded picture is read; all else stays as it is.

    Raises:
        ValueError: If the bytes are no picture.
    """
    return open_picture(picture) if isinstance(picture, bytes) else picture


def sides_of(picture: np.ndarray | OpenPicture) -> Size:
    """Height and width."""
    return picture.sides if isinstance(picture, OpenPicture) else (picture.shape[0], picture.shape[1])


def move(example: Example, pixels: np.ndarray, placement: Placement, sides: Size) -> dict[str, Any]:
    """The example with its picture's new pixels, and with all that has a place in it moved from `sides` to there.

    Raises:
        SettingError: As `place`.
    """
    matrix = placement.matrix
    for name, value in example.items():
        if name not in ("image", *_MOVED) and getattr(value, "shape", ())[:2] == sides and (matrix != np.eye(3)).any():
            raise SettingError(
                f"{name!r} has the height and width of the picture, {sides[0]}x{sides[1]}, and would not move with it;"
                ' call it "masks" if it holds whole numbers, leave it out, or pass a read= of your own'
            )
    present = [name for name in _MOVED if name in example]
    if not present:
        return {**example, "image": pixels}
    if "matrix" in example:
        raise SettingError('the element "matrix" has the name of what moves boxes, masks and key points; rename it')
    for name in present:
        _check(name, example[name], sides)
    moved: dict[str, Any] = {"image": pixels, "matrix": matrix.astype(np.float32)}
    for name in ("boxes", "proposals"):
        if name in example:
            moved[name] = _move_boxes(example[name], matrix, placement.size)
    if "boxes" in example and "present" in example:
        moved["present"] = _still_present(example["present"], moved["boxes"])
    if "keypoints" in example:
        moved["keypoints"] = _move_points(example["keypoints"], matrix)
    if "masks" in example:
        moved["masks"] = _move_masks(example["masks"], placement)
    return {**example, **moved}


def _covering(height: int, width: int, size: Size, share: float) -> Window:
    """What "cover" shows, in pixels of the image before it is scaled."""
    rows, columns = round(size[0] / share), round(size[1] / share)
    # The side that fits is exact and the other is cut down to a whole number, as torchvision's Resize does.
    if height * columns <= width * rows:
        columns = rows * width // height
    else:
        rows = columns * height // width
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    tall, wide = height / rows, width / columns
    return top * tall, left * wide, size[0] * tall, size[1] * wide


def _centred(inner: Size, outer: Size) -> Box:
    """Where the inner of two sizes lies in the middle of the outer."""
    return Box((outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2, *inner)


def _show(image: np.ndarray, placement: Placement) -> np.ndarray:
    """What a placement makes of an image, in whose pixels its window is."""
    (top, left, height, width), onto, size = placement
    if (height, width) == image.shape[:2] == size:
        return image
    if (height, width) == (onto.height, onto.width) and (top, left) == (int(top), int(left)):
        part = image[int(top) : int(top) + onto.height, int(left) : int(left) + onto.width]
    elif image.dtype == np.uint8:
        part = _stretch(image, (onto.height, onto.width), placement.window)
    else:
        raise SettingError(f'only uint8 images are scaled, and this one is {image.dtype}; use "pad" or "crop"')
    below, beside = size[0] - onto.top - onto.height, size[1] - onto.left - onto.width
    if (onto.height, onto.width) == size:
        return part
    return np.pad(part, ((onto.top, below), (onto.left, beside), (0, 0)))


def _stretch(image: np.ndarray, size: Size, window: Window) -> np.ndarray:
    if image.shape[2] == 3:
        return pixels_of(resize_window(Image.fromarray(image), size, window))
    # Channel by channel, because Pillow would weigh the colours of a four-channel picture by its alpha.
    planes = [Image.fromarray(image[:, :, channel]) for channel in range(image.shape[2])]
    return np.concatenate([pixels_of(resize_window(plane, size, window)) for plane in planes], axis=-1)


def _check(name: str, value: Any, sides: Size) -> None:
    shape, dtype = np.shape(value), np.asarray(value).dtype
    if name == "masks":
        if len(shape) not in (2, 3) or shape[:2] != sides:
            raise SettingError(
                f'"masks" have the shape {shape}; expected that of the picture, {sides}, or one axis more:'
                " an array of its height and width, decoded"
            )
        return
    numbers = _NUMBERS[name]
    if len(shape) < 2 or shape[-1] != numbers or (numbers == 4 and len(shape) > 2):
        order = "(x_min, y_min, x_max, y_max)" if numbers == 4 else "(x, y)"
        raise SettingError(f'"{name}" have the shape {shape}; expected (n, {numbers}), {order} in pixels')
    if not np.issubdtype(dtype, np.floating):
        raise SettingError(
            f'"{name}" are {dtype}; expected floating point, because they move by parts of pixels:'
            f" {name}.astype(np.float32)"
        )


def _move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(points.dtype)


def _move_boxes(boxes: np.ndarray, matrix: np.ndarray, size: Size) -> np.ndarray:
    """Boxes cut at the border; those that are empty, or are now, become zeros."""
    corners = _move_points(boxes.reshape(-1, 2).astype(np.float64), matrix)
    moved = np.clip(corners, 0, size[::-1]).reshape(-1, 4)
    # Not "unless larger": boxes with a NaN are not empty, and stay NaN.
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(-1) | (moved[:, 2:] <= moved[:, :2]).any(-1)
    return np.where(empty[:, None], 0, moved).astype(boxes.dtype)


def _still_present(present: Any, boxes: np.ndarray) -> np.ndarray:
    """Which objects are left, by their moved boxes."""
    present = np.asarray(present)
    if present.shape != boxes.shape[:1] or present.dtype != bool:
        raise SettingError(
            f'"present" is {present.dtype} of shape {present.shape}; expected bool, one for each of {len(boxes)} boxes'
        )
    return present & ~(boxes[:, 2:] <= boxes[:, :2]).any(-1)


def _move_masks(masks: np.ndarray, placement: Placement) -> np.ndarray:
    """Masks at the points that come to the centres of pixels, by the nearest pixel; zero where there is no picture."""
    (top, left, height, width), onto, size = placement
    rows = np.floor((np.arange(size[0]) + 0.5 - onto.top) * height / onto.height + top).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5 - onto.left) * width / onto.width + left).astype(int)
    down, along = ((at >= 0) & (at < side) for at, side in zip((rows, columns), masks.shape[:2], strict=True))
    moved = np.zeros((*size, *masks.shape[2:]), masks.dtype)
    moved[np.ix_(down, along)] = masks[np.ix_(rows[down], columns[along])]
    return moved
