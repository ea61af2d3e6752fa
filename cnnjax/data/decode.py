"""Encoded pictures to arrays that mean what the picture shows, and arrays to one common size."""

import io
from typing import Literal, get_args

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

Fit = Literal["resize", "pad", "crop"]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA", "La", *_SIXTEEN_BIT)
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


def decode_image(
    data: bytes, *, channels: int | None = None, max_pixels: int = 100_000_000
) -> UInt8[np.ndarray, "height width channels"]:
    """Decodes JPEG, PNG, WEBP, BMP, GIF or TIFF bytes to uint8 grey or RGB, upright.

    Palettes are looked up, CMYK becomes RGB, one-bit pictures become 0 and 255, 16-bit grey is scaled to 8 bits,
    the EXIF orientation is applied, and transparency is composited onto white. Of an animation the first frame
    is taken. Colour profiles are not applied.

    Args:
        data: The encoded file.
        channels: 1 for grey, 3 for RGB; None keeps grey pictures grey and makes all others RGB.
        max_pixels: The largest width x height that is decoded. Pillow has a limit of its own beside it: it
            warns above `PIL.Image.MAX_IMAGE_PIXELS` (89 million) and refuses twice that number.

    Raises:
        ValueError: If the bytes are no such picture, are damaged, or hold more than `max_pixels` pixels.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels}; expected 1 (grey), 3 (RGB) or None (as the picture is)")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                raise Image.DecompressionBombError(f"it has {width} x {height} pixels")
            if opened.mode not in _GREY + _COLOUR:
                raise ValueError(f"pictures of Pillow's mode {opened.mode!r} have no exact 8-bit form")
            grey = opened.mode in _GREY
            picture = _opaque(_eight_bit(ImageOps.exif_transpose(opened)))
            mode = "L" if channels == 1 or (channels is None and grey) else "RGB"
            pixels = np.array(picture.convert(mode))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"the image is larger than max_pixels={max_pixels:,} allows ({error}); "
            "shrink it, or raise max_pixels if you trust the file"
        ) from error
    # Pillow's decoders raise whatever the damaged byte led them to: OSError, SyntaxError, IndexError, struct.error.
    except Exception as error:
        raise ValueError(
            f"{len(data):,} bytes do not decode as an image ({error}); "
            f"expected an undamaged {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} file"
        ) from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def fit_image(
    image: Shaped[np.ndarray, "height width channels"], size: tuple[int, int], how: Fit = "resize"
) -> Shaped[np.ndarray, "new_height new_width channels"]:
    """Brings an image of any number of channels to one size.

    Args:
        image: Height, width, channels. "resize" takes uint8 only; "pad" and "crop" take any dtype.
        size: The height and width wanted.
        how: "resize" stretches, bilinear with antialiasing; "pad" centres the image on zeros; "crop" takes
            the centre. Where the difference is odd, the extra row or column is at the bottom or the right.

    Raises:
        ValueError: If the image is larger than `size` when padding, or smaller when cropping, or not uint8
            when resizing.
    """
    if how not in get_args(Fit):
        raise ValueError(f"how is {how!r}; expected one of {', '.join(get_args(Fit))}")
    if min(size) < 1:
        raise ValueError(f"size is {size}; expected a height and a width of at least 1")
    height, width = image.shape[:2]
    if (height, width) == tuple(size):
        return image
    if how == "resize":
        return _resize(image, size)
    rows, columns = size[0] - height, size[1] - width
    if how == "pad":
        if rows < 0 or columns < 0:
            raise ValueError(
                f"an image of {height}x{width} does not fit into {size[0]}x{size[1]} by padding; "
                'use "resize" or "crop", or a larger size'
            )
        top, left = rows // 2, columns // 2
        return np.pad(image, ((top, rows - top), (left, columns - left), (0, 0)))
    if rows > 0 or columns > 0:
        raise ValueError(
            f"an image of {height}x{width} is too small to crop {size[0]}x{size[1]} from; "
            'use "resize" or "pad", or a smaller size'
        )
    top, left = -rows // 2, -columns // 2
    return image[top : top + size[0], left : left + size[1]]


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ValueError(f'"resize" takes uint8 images, this one is {image.dtype}; use "pad" or "crop"')
    # Channel by channel, because Pillow would weigh the colours of a four-channel picture by its alpha.
    planes = [Image.fromarray(image[:, :, channel]) for channel in range(image.shape[2])]
    resized = [plane.resize((size[1], size[0]), Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(plane) for plane in resized], axis=-1)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits, rounded to the nearest; any other as it is."""
    if picture.mode not in _SIXTEEN_BIT:
        return picture
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its grey values are outside 0..65535")
    scaled = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    scaled.info = picture.info
    return scaled


def _opaque(picture: Image.Image) -> Image.Image:
    """The picture composited onto white; unchanged where nothing is transparent."""
    if not picture.has_transparency_data:
        return picture
    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
