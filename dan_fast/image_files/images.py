"""Image files in and out: everything becomes RGB of 8 or 16 bits, upright."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from ..errors import ImageError
from ..files import write_atomically
from ..runtime.silence import Silence, Undo
from .codec_noise import quiet_codecs
from .encoders import encode
from .limits import can_hold, exif_fits, objection
from .sixteen_bits import decode_png, decode_tiff
from .transparency import extend_colours

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 200_000_000

# What can be written: Pillow's name of the format and the longest side that it allows.
_WRITERS = {".png": ("PNG", 2**31 - 1), ".jpg": ("JPEG", 65_500), ".jpeg": ("JPEG", 65_500),
            ".webp": ("WEBP", 16_383), ".tif": ("TIFF", 2**31 - 1), ".tiff": ("TIFF", 2**31 - 1)}
_READERS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_MOST_FRAMES, _BAND = 100, 256  # frames that are counted, rows that are converted at once


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded image, upright (the EXIF orientation is applied).

    Attributes:
        rgb: HxWx3, uint8 or uint16, contiguous; a grey file's three channels are equal.
        alpha: HxW of the same type, or None.
        grey: the file held grey values.
        icc_profile: the file's colour profile, or None.
        notes: what the user should know of the decoding, one sentence each.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> np.ndarray:
        """What the file held: HxW if it is grey, else ``rgb``."""
        return self.rgb[..., 0] if self.grey else self.rgb

    def visible(self) -> Photo:
        """This photo as a network may see it: where it is transparent, the visible colours around go on."""
        return self if self.alpha is None else replace(self, rgb=extend_colours(self.rgb, self.alpha))


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files among ``paths``: files as they are, folders searched recursively.

    Within a folder files count by suffix (``SUFFIXES``, any case), sorted; hidden files and
    folders are skipped. No file is listed twice.

    Raises:
        ImageError: a path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()
                      and not any(part.startswith(".") for part in p.relative_to(path).parts)]
            if not inside:
                raise ImageError(f"{path}: the folder holds no image ({', '.join(s[1:] for s in SUFFIXES)})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ImageError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a PNG, JPEG, WebP, BMP or TIFF of 8 or 16 bits a channel.

    Raises:
        ImageError: the file is missing, no such image, broken, of another depth, or larger than
            ``max_pixels`` (known from its header, before anything is decoded).
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with _clear_errors(path), _checked_header(path, max_pixels) as header:
        return _decode(path, header)


class JpegBytes:
    """A JPEG in memory, which is read like the same file.

    Args:
        data: the file's bytes.
        name: what errors call it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name

    def __str__(self) -> str:
        return self._name

    def __len__(self) -> int:
        return len(self._data)

    def open(self, mode: str) -> BinaryIO:
        return io.BytesIO(self._data)

    def size(self, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
        """Height and width as stored, from the header. Raises ImageError as ``read_image``."""
        with self._checked(max_pixels) as header:
            return header.height, header.width

    def read(self, *, max_pixels: int = MAX_PIXELS) -> Photo:
        """Decode it. Raises ImageError as ``read_image``."""
        with self._checked(max_pixels) as header:
            return _decode(self, header)

    @contextmanager
    def _checked(self, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
        with _clear_errors(self):
            if not self._data.startswith(b"\xff\xd8\xff"):
                raise ImageError(f"{self}: expected a JPEG")
            with _checked_header(self, max_pixels) as header:
                yield header


@contextmanager
def _checked_header(path: Path | JpegBytes, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The image, not decoded yet, if its header is credible."""
    with quiet_codecs(), _open_header(path) as header:
        width, height = header.size
        if 0 in header.size:
            raise ImageError(f"{path}: an image of {width}x{height} pixels is empty")
        if width * height > max_pixels:
            raise ImageError(f"{path}: {width}x{height} pixels are more than the limit of "
                             f"{max_pixels / 1e6:g} million: crop or shrink it")
        _check_promise(path, header)
        yield header


@contextmanager
def _clear_errors(path: Path | JpegBytes) -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a readable PNG, JPEG, WebP, BMP or TIFF image of 8 or 16 bits") from error
    # Decoders of broken files raise nearly anything: OSError, SyntaxError, struct.error, EOFError …
    except Exception as error:
        raise ImageError(f"{path}: cannot be decoded: {_reason(error)}") from error


def check_writable(path: str | Path, height: int, width: int) -> None:
    """Whether an image of this size can be written to a file of this name.

    Raises:
        ImageError: the suffix is unknown or the format does not go up to this size.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise ImageError(f"{path}: cannot write {suffix or 'a file without suffix'}, expected {', '.join(_WRITERS)}")
    name, longest = _WRITERS[suffix]
    if max(height, width) > longest:
        raise ImageError(f"{path}: {width}x{height} pixels are too large for {name}, which ends at {longest}: use png")


def write_image(path: str | Path, rgb: np.ndarray, alpha: np.ndarray | None = None, *, grey: bool = False,
                icc_profile: bytes | None = None, quality: int = 95) -> tuple[str, ...]:
    """Write an image as its suffix says (png, jpg, webp, tif): the whole file or none.

    PNG and TIFF keep 16 bits and are lossless; JPEG and WebP take 8 bits; JPEG knows no alpha
    and shows the image on white.

    Args:
        rgb: HxWx3, or HxW for grey; uint8 or uint16.
        alpha: HxW of the same type.
        grey: write the brightness of ``rgb`` as a grey image (where it can be: not as WebP, and
            not 16-bit grey with alpha).
        icc_profile: colour profile to embed.
        quality: of JPEG and WebP, 1 to 100.

    Returns:
        What was lost, one sentence each, for the user.

    Raises:
        ImageError: the image or the suffix is not one of these, or the file cannot be written.
    """
    path = Path(path)
    _check_pixels(rgb, alpha)
    check_writable(path, *rgb.shape[:2])
    format_name = _WRITERS[path.suffix.lower()][0]
    notes = []
    if format_name in ("JPEG", "WEBP") and rgb.dtype == np.uint16:
        rgb, alpha = to_8_bits(rgb), None if alpha is None else to_8_bits(alpha)
        notes.append(f"{format_name} holds 8 bits: reduced from 16")
    if format_name == "JPEG" and alpha is not None:
        rgb, alpha = _on_white(rgb, alpha), None
        notes.append("JPEG holds no transparency: put on white")
    if grey and rgb.ndim == 3:
        rgb = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    pixels = _stack(rgb, alpha, keeps_grey=_keeps_grey(format_name, rgb.dtype, alpha))
    if icc_profile and pixels.shape[2] >= 3 and icc_profile[16:20] == b"GRAY":
        icc_profile = None
        notes.append(f"{format_name} holds this grey image as RGB: its grey colour profile is left out")
    try:
        write_atomically(path, encode(pixels, format_name, icc_profile, quality))
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error
    return tuple(notes)


def to_8_bits(image: np.ndarray) -> np.ndarray:
    """uint16 to uint8, rounded to nearest (65535 = 257 * 255); uint8 as it is."""
    if image.dtype == np.uint8:
        return image
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


# --- reading -----------------------------------------------------------------------------------


def _reason(error: Exception) -> str:
    """What a decoder's error says to a user, on one line."""
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "not enough memory"
    # Of other kinds are slips over damaged headers, whose text is about Pillow's code.
    if isinstance(error, (OSError, SyntaxError, ValueError)) and said.isprintable() and " " in said \
            and not said.startswith("decoder error"):
        return said[:200]
    return "it is damaged"


def _lift_pillows_limit() -> Undo:
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    return lambda: setattr(Image, "MAX_IMAGE_PIXELS", before)


_without_pillows_limit = Silence(_lift_pillows_limit)


@contextmanager
def _open_header(path: Path | JpegBytes) -> Iterator[ImageFile.ImageFile]:
    # Pillow's own limit on pixels is below ours and global; it is only read by Image.open.
    # A file rather than its path, as Pillow (13) maps files into memory that it opens itself, and
    # then garbles uncompressed TIFFs that need turning.
    with path.open("rb") as file:
        if reason := objection(file, _length(path)):
            raise ImageError(f"{path}: cannot be decoded: {reason}")
        file.seek(0)
        with _without_pillows_limit:
            image = Image.open(file, formats=_READERS)
        with image:
            yield image


def _length(path: Path | JpegBytes) -> int:
    return len(path) if isinstance(path, JpegBytes) else path.stat().st_size


def _check_promise(path: Path | JpegBytes, image: ImageFile.ImageFile) -> None:
    length = _length(path)
    with path.open("rb") as file:
        if not can_hold(image, file, length):
            raise ImageError(f"{path}: {image.width}x{image.height} pixels cannot be in a file of {length} bytes: "
                             "it is damaged or truncated")


def _decode(path: Path | JpegBytes, image: ImageFile.ImageFile) -> Photo:
    notes = []
    bits = _bits(image)
    # "I" is 32 bits, but also what Pillow before 12 makes of 16-bit grey PNGs.
    if bits not in (8, 16) or image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise ImageError(f"{path}: its samples are not whole numbers of 8 or 16 bits: convert it")
    # An MPO's further pictures are other views and gain maps, nothing that anyone misses.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append(f"only the first of {_frames(image)} frames is used")
    profile = image.info.get("icc_profile") or None
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB" + (" without its colour profile" if profile else ""))
        profile = None
    # Pillow opens a PNG of 16-bit grey + alpha as RGBA; only the raw mode tells.
    grey = image.mode in _GREY_MODES or (bits == 16 and "LA;16B" in _raw_mode(image))
    rgb, alpha = _decode_16_bits(image, path) if bits == 16 and isinstance(path, Path) else _decode_8_bits(image)
    return Photo(rgb, alpha, grey, profile, tuple(notes))


def _bits(image: ImageFile.ImageFile) -> int:
    """Bits of a sample in the file; Pillow's mode does not tell: it reads 16-bit colour as 8-bit."""
    if image.format == "PNG":
        return 16 if "16" in _raw_mode(image) else 8
    if image.format == "TIFF":
        return max(8, *getattr(image, "tag_v2", {}).get(258, (1,)))
    return 8


def _raw_mode(image: ImageFile.ImageFile) -> str:
    return str(image.tile[0][3]) if image.tile else ""


def _frames(image: ImageFile.ImageFile) -> str:
    """How many frames there are, as far as it is quick to count: Pillow's time grows with a TIFF's frames squared."""
    if image.format == "TIFF":
        try:
            for frame in range(1, _MOST_FRAMES + 1):  # all at once, Pillow counts wrongly
                image.seek(frame)
            return f"more than {_MOST_FRAMES}"
        except EOFError:
            pass
        except Exception:  # a later frame is broken, which is not asked for
            return "several"
        finally:
            image.seek(0)
    return str(getattr(image, "n_frames", "many"))


def _decode_8_bits(image: ImageFile.ImageFile) -> tuple[np.ndarray, np.ndarray | None]:
    image.load()  # Pillow turns a TIFF upright now, and forgets its orientation
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data
    pixels = _upright(_to_array(image, "RGBA" if has_alpha else "RGB"), _orientation(image))
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]) if has_alpha else None


def _to_array(image: Image.Image, mode: str) -> np.ndarray:
    """HxWxC uint8 of an image converted to ``mode``: by bands, as Pillow makes several copies of what it converts."""
    pixels = np.empty((image.height, image.width, len(mode)), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        pixels[top:top + _BAND] = np.asarray(band if band.mode == mode else band.convert(mode))
    return pixels


def _decode_16_bits(image: ImageFile.ImageFile, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if image.format == "PNG":
        image.load()  # what metadata comes after the pixels
        pixels = _upright(decode_png(lambda: _open_header(path)), _orientation(image))
    else:
        size, decoded = image.size, decode_tiff(path, image)
        if decoded is None or sorted(decoded.shape[:2]) != sorted(size):
            raise ImageError(f"{path}: a 16-bit image of an unsupported kind: convert it to 16-bit RGB PNG")
        pixels = decoded
    colours = pixels[..., :1] if pixels.shape[2] < 3 else pixels[..., :3]
    rgb = np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))
    return rgb, np.ascontiguousarray(pixels[..., -1]) if pixels.shape[2] in (2, 4) else None


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        if not exif_fits(image.info.get("exif", b"")):
            return 1
        return image.getexif().get(0x0112, 1)
    except Exception:  # broken metadata does not make the picture unreadable
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF: 2 to 4 mirror or turn by half; 5 to 8 are the same on the transposed image."""
    if orientation in (5, 6, 7, 8):
        pixels, orientation = pixels.swapaxes(0, 1), orientation - 4
    if orientation in (3, 4):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3) else pixels


# --- writing -----------------------------------------------------------------------------------


def _check_pixels(rgb: np.ndarray, alpha: np.ndarray | None) -> None:
    if rgb.dtype not in (np.uint8, np.uint16) or not (rgb.ndim == 2 or (rgb.ndim == 3 and rgb.shape[2] == 3)) \
            or 0 in rgb.shape:
        raise ImageError(f"image has shape {rgb.shape} and type {rgb.dtype}, "
                         "expected HxWx3 or HxW, uint8 or uint16, not empty")
    if alpha is not None and (alpha.shape != rgb.shape[:2] or alpha.dtype != rgb.dtype):
        raise ImageError(f"alpha has shape {alpha.shape} and type {alpha.dtype}, "
                         f"expected {rgb.shape[:2]} and {rgb.dtype} like the image")


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    cover = (alpha if rgb.ndim == 2 else alpha[..., None]).astype(np.float32) / 255
    return np.rint(rgb * cover + 255 * (1 - cover)).astype(np.uint8)


def _keeps_grey(format_name: str, dtype: np.dtype, alpha: np.ndarray | None) -> bool:
    # OpenCV cannot write 16-bit grey with alpha as PNG, and Pillow cannot open it as TIFF.
    return format_name != "WEBP" and not (dtype == np.uint16 and alpha is not None)


def _stack(rgb: np.ndarray, alpha: np.ndarray | None, *, keeps_grey: bool) -> np.ndarray:
    planes = [rgb] if rgb.ndim == 3 else [rgb[..., None]] * (1 if keeps_grey else 3)
    if alpha is not None:
        planes.append(alpha[..., None])
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
