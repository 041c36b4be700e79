"""Small sound image files of every kind that is read, from which broken ones are made."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from dan_fast.errors import ImageError
from dan_fast.image_files import Metadata, Photo, encode_image, read_image, read_note
from dan_fast.image_files.video_stills import avif_is_supported


def sound_files() -> dict[str, bytes]:
    """Return the files by name; the suffix tells the format."""
    rng = np.random.default_rng(0)
    # Smooth and noisy halves, so that codecs have runs and matches as well as literals.
    rgb = np.repeat(rng.integers(0, 256, (40, 1, 3)), 56, 1).astype(np.uint8)
    rgb[:, 28:] = rng.integers(0, 256, (40, 28, 3))
    deep = rgb.astype(np.uint16) * 257 ^ 5
    files = {}

    def pillow(name: str, mode: str = "RGB", **options) -> None:
        buffer = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name.split(".")[1], name.split(".")[1].upper())
        Image.fromarray(rgb).convert(mode).save(buffer, kind, **options)
        files[name] = buffer.getvalue()

    def tiff(name: str, pixels: np.ndarray, **options) -> None:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **options)
        files[name] = buffer.getvalue()

    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    exif.get_ifd(0x8769).update({0x829A: 0.004, 0x9286: b"UNICODE\0" + bytes(40), 0xA002: 56})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 3.5)})
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6" exif:PixelXDimension="56"/>'
    profile = bytes(16) + b"RGB " + bytes(300)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        pillow(f"{mode}.png", mode)
    pillow("told.png", exif=exif, icc_profile=profile, dpi=(72, 72))
    pillow("key.png", transparency=(1, 2, 3))
    pillow("animated.png", save_all=True, append_images=[Image.new("RGB", (56, 40))])
    for name, pixels in (("grey16", deep[..., 0]), ("rgb16", deep), ("rgba16", np.dstack([deep, deep[..., :1]]))):
        files[f"{name}.png"] = cv2.imencode(".png", pixels)[1].tobytes()
        files[f"{name}-lzw.tif"] = cv2.imencode(".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    for mode in ("L", "RGB", "CMYK"):
        pillow(f"{mode}.jpg", mode, exif=exif, icc_profile=profile)
        pillow(f"progressive-{mode}.jpg", mode, progressive=True)
    pillow("restarts.jpg", restart_marker_rows=1, subsampling=2)
    pillow("lossy.webp", exif=exif, icc_profile=profile)
    pillow("lossless.webp", lossless=True)
    pillow("alpha.webp", "RGBA")
    pillow("animated.webp", save_all=True, append_images=[Image.new("RGB", (56, 40))])
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        pillow(f"{mode}.bmp", mode)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        for mode in ("L", "RGB", "CMYK"):
            pillow(f"{compression}-{mode}.tif", mode, compression=compression)
    pillow("group3.tif", "1", compression="group3")
    pillow("group4.tif", "1", compression="group4")
    pillow("zstd.tif", compression="zstd")
    pillow("alpha.tif", "RGBA", compression="tiff_lzw", exif=exif, icc_profile=profile)
    pillow("grey-alpha.tif", "LA", compression="packbits")
    pillow("palette.tif", "P", compression="tiff_lzw")
    pillow("frames.tif", save_all=True, append_images=[Image.new("RGB", (56, 40))])
    for suffix in ("png", "jpg", "webp", "tif", "avif") if avif_is_supported() else ("png", "jpg", "webp", "tif"):
        metadata = Metadata(exif.tobytes().removeprefix(b"Exif\0\0"), xmp, (300, 300)).noted("a note")
        files[f"kept.{suffix}"], _ = encode_image(f".{suffix}", deep, metadata=metadata, icc_profile=profile)
    if avif_is_supported():
        pillow("alpha.avif", "RGBA", exif=exif, icc_profile=profile)
        pillow("animated.avif", save_all=True, append_images=[Image.new("RGB", (56, 40))])
    with suppress(ImportError):
        from pillow_heif import from_pillow

        for mode in ("RGB", "RGBA", "L"):
            buffer = io.BytesIO()
            from_pillow(Image.fromarray(rgb).convert(mode)).save(buffer, exif=exif.tobytes(), xmp=xmp)
            files[f"{mode}.heic"] = buffer.getvalue()
    for name, options in (("none", {}), ("deflate", {"compression": "zlib", "predictor": True})):
        for depth, pixels in (("8", rgb), ("16", deep)):
            tiff(f"strips-{name}-{depth}.tif", pixels, photometric="rgb", rowsperstrip=7, **options)
            tiff(f"tiles-{name}-{depth}.tif", pixels, photometric="rgb", tile=(16, 32), **options)
            tiff(f"planes-{name}-{depth}.tif", np.moveaxis(pixels, 2, 0).copy(), photometric="rgb",
                 planarconfig="separate", **options)
            tiff(f"cmyk-{name}-{depth}.tif", np.dstack([pixels, pixels[..., :1]]), photometric="separated", **options)
            tiff(f"big-{name}-{depth}.tif", pixels[..., 0], photometric="miniswhite", bigtiff=True, byteorder=">",
                 **options)
    return files


def read(path: Path) -> None:
    """Read one file, which must give a photo or an ``ImageError``; raise any other error.

    Its metadata, however damaged, must be fit to be written.
    """
    assert isinstance(read_note(path), str | None)
    with refused_in_one_line(path, ImageError):
        photo = read_image(path)
        assert isinstance(photo, Photo) and photo.rgb.dtype in (np.uint8, np.uint16) and photo.rgb.size
        for suffix in (".png", ".jpg", ".tif"):
            encode_image(suffix, photo.rgb[:1, :1], metadata=photo.metadata.noted("a note"))


@contextmanager
def refused_in_one_line(path: Path, refusal: type[Exception]) -> Iterator[None]:
    """Accept an error of type ``refusal`` if it is one clear line about ``path``."""
    try:
        yield
    except refusal as error:
        message = str(error)
        assert message.isprintable() and str(path) in message and len(message) < 500, f"not one clear line: {message!r}"
