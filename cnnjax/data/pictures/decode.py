"""Encoded pictures to arrays that mean what the picture shows."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError, features
from PIL.JpegImagePlugin import JpegImageFile

# The formats that are read, by the suffixes of their files.
_SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
# Pillow can be built without it, and knew nothing of it before 11.3.
if "avif" in features.modules and features.check_module("avif"):
    _SUFFIXES_OF["AVIF"] = (".avif", ".avifs")
_FORMATS = tuple(_SUFFIXES_OF)
SUFFIXES = tuple(sorted(suffix for suffixes in _SUFFIXES_OF.values() for suffix in suffixes))

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_GREY = ("1", "L", "LA", "La", *_SIXTEEN_BIT)
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
MAX_PIXELS = 100_000_000


# Top, left, height and width in pixels, or parts of pixels.
Window: TypeAlias = tuple[float, float, float, float]


class Box(NamedTuple):
    """A part of a picture: its first row and column, and how many rows and columns it has."""

    top: int
    left: int
    height: int
    width: int


def decode_image(
    data: bytes,
    *,
    channels: int | None = None,
    max_pixels: int = MAX_PIXELS,
    at_least: tuple[int, int] | None = None,
) -> UInt8[np.ndarray, "height width channels"]:
    """Decodes JPEG, PNG, WEBP, BMP, GIF, TIFF or (where Pillow can) AVIF bytes to uint8 grey or RGB, upright.

    Palettes are looked up, CMYK becomes RGB (in a JPEG inverted as Adobe does, whoever wrote it), one-bit pictures
    become 0 and 255, 16-bit grey is scaled to 8 bits and rounded, of 16-bit colour the upper 8 bits are taken, the EXIF
    orientation is applied, and transparency is composited onto white. Of an animation the first frame is taken. Colour
    profiles are not applied. Grey of 32 bits or floating point, which says no range, is refused.

    Args:
        data: The encoded file.
        channels: 1 for grey, 3 for RGB; None keeps grey pictures grey and makes all others RGB.
        max_pixels: The largest width x height that is decoded. Pillow has a limit of its own beside it: it
            warns above `PIL.Image.MAX_IMAGE_PIXELS` (89 million) and refuses twice that number.
        at_least: A height and a width that suffice. A JPEG is then decoded at a half, a quarter or an eighth of
            its size, rounded up, the smallest that is no smaller; all else comes at full size.

    Raises:
        ValueError: If the bytes are no such picture, are damaged, or hold more than `max_pixels` pixels.
    """
    return open_picture(data, channels=channels, max_pixels=max_pixels).whole(at_least)[0]


def resize_window(picture: Image.Image, size: tuple[int, int], window: Window) -> Image.Image:
    """A window of a grey or RGB picture stretched to a height and a width, bilinear with antialiasing."""
    top, left, height, width = window
    # The sums of floats may pass the last pixel by an ulp, which Pillow refuses.
    box = left, top, min(left + width, picture.width), min(top + height, picture.height)
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)


@dataclass(frozen=True)
class _Turn:
    """How a stored picture is made upright: its rows or columns reversed, then rows and columns exchanged."""

    method: Image.Transpose | None = None
    rows_reversed: bool = False
    columns_reversed: bool = False
    exchanged: bool = False

    def sides(self, sides: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the upright picture from the stored one's, or the reverse."""
        return sides[::-1] if self.exchanged else sides

    def box(self, upright: Box, sides: tuple[int, int]) -> Box:
        """Where a part of the upright picture lies in the stored one, whose height and width are `sides`."""
        top, left, height, width = upright
        if self.exchanged:
            top, left, height, width = left, top, width, height
        top = sides[0] - top - height if self.rows_reversed else top
        left = sides[1] - left - width if self.columns_reversed else left
        return Box(top, left, height, width)

    def shown(self, sides: tuple[int, int], factor: int) -> Window:
        """The part of an upright picture that was decoded at 1 / factor which the stored one, of `sides`, fills.

        Its last row and column are filled in part only where the sides are no multiples of the factor.
        """
        height, width = sides[0] / factor, sides[1] / factor
        top = -(-sides[0] // factor) - height if self.rows_reversed else 0.0
        left = -(-sides[1] // factor) - width if self.columns_reversed else 0.0
        return (left, top, width, height) if self.exchanged else (top, left, height, width)


_ORIENTATION_TAG = 0x0112
_AS_STORED = _Turn()
_TURNS = {
    2: _Turn(Image.Transpose.FLIP_LEFT_RIGHT, columns_reversed=True),
    3: _Turn(Image.Transpose.ROTATE_180, rows_reversed=True, columns_reversed=True),
    4: _Turn(Image.Transpose.FLIP_TOP_BOTTOM, rows_reversed=True),
    5: _Turn(Image.Transpose.TRANSPOSE, exchanged=True),
    6: _Turn(Image.Transpose.ROTATE_270, rows_reversed=True, exchanged=True),
    7: _Turn(Image.Transpose.TRANSVERSE, rows_reversed=True, columns_reversed=True, exchanged=True),
    8: _Turn(Image.Transpose.ROTATE_90, columns_reversed=True, exchanged=True),
}


@dataclass(frozen=True, eq=False)
class OpenPicture:
    """An encoded picture of which the header is read, to be decoded once: the whole of it, or a part.

    Attributes:
        sides: height and width of the picture, upright.
        image: as it lies in its file.
        mode: what it is wanted in, "L" or "RGB".
        turn: how it is made upright.
        data: the encoded file.
        max_pixels: as for `decode_image`.
    """

    sides: tuple[int, int]
    image: Image.Image
    mode: str
    turn: "_Turn"
    data: bytes
    max_pixels: int

    def whole(
        self, at_least: tuple[int, int] | None = None
    ) -> tuple[UInt8[np.ndarray, "height width channels"], Window]:
        """All pixels, and the part of them that the picture fills: a little less than all if it is decoded smaller.

        Raises:
            ValueError: As `decode_image`.
        """
        if at_least is not None:
            check_size("at_least", at_least)
        with _explained(self.data, self.max_pixels):
            sides = self.image.size[::-1]
            factor = 1 if at_least is None else self._reduce(self.turn.sides(at_least), sides)
            return pixels_of(_in_mode(self.image, self.mode), self.turn), self.turn.shown(sides, factor)

    def part(self, box: Box, size: tuple[int, int]) -> UInt8[np.ndarray, "height width channels"]:
        """A part of the upright picture, stretched to `size`.

        It is the part of `decode_image(data)`, resized, with the work left out that does not show: colours are
        converted in the part alone, and a JPEG whose part is at least twice `size` each way is decoded at a half, a
        quarter or an eighth of its size. Without such a reduction the two are equal; with it they differ by one to two
        grey levels of 255 in the mean (0.8 to 1.7 over the crops of two photographs, 4 in the one that differed most).

        Raises:
            ValueError: As `decode_image`, or if the part is empty or not within the picture.
        """
        check_size("size", size)
        check_box(box, self.sides)
        with _explained(self.data, self.max_pixels):
            part, wanted = self.turn.box(box, self.image.size[::-1]), self.turn.sides(size)
            factor = self._reduce(wanted, (part.height, part.width))
            # The pixels that the part touches: at a reduced size its edges may lie within pixels.
            top, left = part.top // factor, part.left // factor
            bottom, right = -(-(part.top + part.height) // factor), -(-(part.left + part.width) // factor)
            touched = self.image.crop((left, top, right, bottom))
            window = part.top / factor - top, part.left / factor - left, part.height / factor, part.width / factor
            return pixels_of(resize_window(_in_mode(touched, self.mode), wanted, window), self.turn)

    def _reduce(self, wanted: tuple[int, int], part: tuple[int, int]) -> int:
        """Has a JPEG decoded at 1/2, 1/4 or 1/8 if a part of it stays as large as wanted; returns 2, 4 or 8, or 1."""
        height, width = self.image.size[::-1]
        for factor in (8, 4, 2):
            if part[0] >= factor * wanted[0] and part[1] >= factor * wanted[1]:
                # Without a mode, which would have grey taken from other values than a full decode's.
                return factor if self.image.draft(None, (width // factor, height // factor)) else 1
        return 1


def open_picture(data: bytes, *, channels: int | None = None, max_pixels: int = MAX_PIXELS) -> OpenPicture:
    """Reads the header of a JPEG, and all of any other format; the arguments are those of `decode_image`.

    Raises:
        ValueError: As `decode_image`.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is {channels}; expected 1 (grey), 3 (RGB) or None (as the picture is)")
    with _explained(data, max_pixels):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.width * image.height > max_pixels:
            raise Image.DecompressionBombError(f"it has {image.width} x {image.height} pixels")
        if image.mode not in _GREY + _COLOUR:
            raise ValueError(f"pictures of Pillow's mode {image.mode!r} have no exact 8-bit form")
        packing = str(image.tile[0].args) if image.format == "PNG" and image.tile else ""
        grey = image.mode in _GREY or packing.startswith("LA")
        _scale_clear(image, packing)
        if not isinstance(image, JpegImageFile):
            # Only then PNG knows its EXIF, which may follow the pixels, and TIFF is upright by itself.
            image.load()
        mode, turn = "L" if channels == 1 or (channels is None and grey) else "RGB", _turn(image)
        return OpenPicture(turn.sides(image.size[::-1]), image, mode, turn, data, max_pixels)


@contextlib.contextmanager
def _explained(data: bytes, max_pixels: int) -> Iterator[None]:
    """Whatever goes wrong with these bytes is told as a ValueError."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"the image is larger than max_pixels={max_pixels:,} allows ({error}); "
            "shrink it, or raise max_pixels if you trust the file"
        ) from error
    # Pillow's decoders raise whatever the damaged byte led them to: OSError, SyntaxError, IndexError, struct.error.
    except Exception as error:
        # Pillow's own words are the address of a buffer.
        unknown = f"no format is recognised; they begin with {data[:12]!r}" if data else "the file is empty"
        raise ValueError(
            f"{len(data):,} bytes do not decode as an image "
            f"({unknown if isinstance(error, UnidentifiedImageError) else error}); "
            f"expected an undamaged {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} file"
        ) from error


def _turn(image: Image.Image) -> _Turn:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION_TAG, 1), _AS_STORED)
    # EXIF that cannot be read says nothing; Pillow passes over it in a JPEG and stumbles over it elsewhere.
    except Exception:
        return _AS_STORED


def _scale_clear(image: Image.Image, packing: str) -> None:
    """Brings the one transparent value of a PNG, which Pillow leaves as it is in the file, to the pixels' scale."""
    clear = image.info.get("transparency")
    if clear is not None and packing in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if packing == "L;2" else 17)
    if clear is not None and packing == "RGB;16B":
        raise ValueError("its transparent colour is of 16 bits, of which Pillow gives 8")


def _in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The picture in 8 bits, opaque, grey or RGB."""
    picture = _opaque(_eight_bit(picture))
    return picture if picture.mode == mode else picture.convert(mode)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits, rounded to the nearest; any other as it is."""
    if picture.mode not in _SIXTEEN_BIT:
        return picture
    values = np.asarray(picture).astype(np.int64)
    scaled = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if "transparency" not in picture.info:
        return scaled
    seen = np.where(values == picture.info["transparency"], 0, 255).astype(np.uint8)
    return Image.merge("LA", (scaled, Image.fromarray(seen)))


def _opaque(picture: Image.Image) -> Image.Image:
    """The picture composited onto white; unchanged where nothing is transparent."""
    if not picture.has_transparency_data:
        return picture
    seen = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)


def pixels_of(picture: Image.Image, turn: _Turn = _AS_STORED) -> np.ndarray:
    """Height x width x channels, upright."""
    pixels = np.array(picture if turn.method is None else picture.transpose(turn.method))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def check_size(name: str, size: tuple[int, int]) -> None:
    """Does nothing if a height and a width are both at least 1.

    Raises:
        ValueError: If not; it calls them `name`.
    """
    if min(size) < 1:
        raise ValueError(f"{name} is {size}; expected a height and a width of at least 1")


def check_box(box: Box, sides: tuple[int, int]) -> None:
    """Does nothing if a box is a part of a picture of a height and a width.

    Raises:
        ValueError: If it is empty, or not within the picture.
    """
    if min(box) < 0 or 0 in box[2:] or box.top + box.height > sides[0] or box.left + box.width > sides[1]:
        raise ValueError(f"{box} was chosen of a picture of {sides[0]}x{sides[1]}; expected a part of it, not empty")
