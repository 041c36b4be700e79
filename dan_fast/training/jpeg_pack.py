"""Packs many images into one small file: JPEGs in an uncompressed zip, all decoded when training begins.

This is for sets that have to be copied to other machines. A zip has an index and a checksum of every file, and any tool
opens it.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import psutil
from tqdm import tqdm

from ..errors import DanFastError, ImageError
from ..files import atomic_path
from ..image_files import JpegBytes, read_image, to_8_bits
from ..image_files.encoders import encode

COMMENT = b"dan_fast pack of JPEGs"
SUFFIX = ".zip"
# The share of the free memory that the decoded pixels may take.
SHARE = 0.8


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One decoded image of a pack."""

    pack: Path
    name: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.array

    def __str__(self) -> str:
        return f"{self.pack}: {self.name}"


def write_jpeg_pack(images: Iterable[tuple[Path, str]], path: Path, quality: int, on_skip: Callable[[str], None], *,
                    most_bytes: int | None = None) -> int:
    """Write ``images``, pairs of file and name, as JPEGs to ``path``, whole or not at all. Return their number.

    Args:
        quality: 1 to 100, of JPEGs without colour subsampling. A file that is a JPEG already is copied, without a
            second loss, where encoding it again would not make it smaller.
        on_skip: called with the reason for each file that cannot be read and is left out.
        most_bytes: the largest size of the pack; nothing is written if it would be larger.

    Raises:
        DanFastError: ``path`` does not end in .zip, no image can be read, ``quality`` is not in its range, or the pack
            is too large.
        OSError: the pack cannot be written.
    """
    if path.suffix.lower() != SUFFIX:
        raise DanFastError(f"{path}: expected a name that ends in {SUFFIX}; a packed file of JPEGs is a zip")
    if not 1 <= quality <= 100:
        raise DanFastError(f"quality={quality} of JPEG: expected 1 to 100")
    count = 0
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            archive.comment = COMMENT
            for file, name in images:
                try:
                    data = _as_jpeg(file, quality)
                except ImageError as error:
                    on_skip(str(error))
                    continue
                # With a number, so that the unpacked files have the same order, and without a date, so that the same
                # set gives the same file.
                flat = PurePosixPath(name).with_suffix(".jpg").as_posix().replace("/", "_")
                archive.writestr(zipfile.ZipInfo(f"{count:06d}_{flat}"), data)
                count += 1
        if not count:
            raise DanFastError("none of the images can be read")
        if most_bytes is not None and (size := temporary.stat().st_size) > most_bytes:
            raise DanFastError(
                f"{path}: the {count} images take {size / 2**20:.1f} MiB with JPEG quality {quality}, the limit is "
                f"{most_bytes / 2**20:.4g}: nothing is written; a lower quality than that, or about "
                f"{int(count * most_bytes / size)} of the images, would fit")
    return count


def _as_jpeg(file: Path, quality: int) -> bytes:
    data = encode(to_8_bits(read_image(file).visible().rgb), "JPEG", None, quality)
    if file.stat().st_size <= len(data):
        with open(file, "rb") as own:
            if own.read(3) == b"\xff\xd8\xff":
                own.seek(0)
                return own.read()
    return data


def is_jpeg_pack(path: Path) -> bool:
    """Whether ``path`` looks like a file of ``write_jpeg_pack``, damaged or not."""
    if path.suffix.lower() != SUFFIX or not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(2) == b"PK"


def decoded_images(path: Path) -> list[DecodedImage]:
    """Decode all images of a pack of JPEGs and return them in the order in which they were packed.

    Raises:
        ImageError: the file or an image in it is damaged, or the images do not fit the free memory.
    """
    try:
        jpegs = _jpegs(path)
    except Exception as error:  # Python raises many kinds for a damaged zip
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"{path}: cannot be read as a packed file: {reason}; pack it again") from None
    pixel_bytes = 3 * sum(height * width for height, width in (jpeg.size() for _, jpeg in jpegs))
    if pixel_bytes > (free := int(SHARE * psutil.virtual_memory().available)):
        raise ImageError(f"{path}: its {len(jpegs)} images take {pixel_bytes / 2**30:.1f} GiB in memory, of which "
                         f"{free / 2**30:.1f} GiB can be had: pack fewer of them")

    def decode(named: tuple[str, JpegBytes]) -> DecodedImage:
        name, jpeg = named
        return DecodedImage(path, name, jpeg.read().rgb)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as pool:  # Pillow lets other threads run while it decodes
        return list(tqdm(pool.map(decode, jpegs), "decode", len(jpegs), unit="image", leave=None, delay=1))


def _jpegs(path: Path) -> list[tuple[str, JpegBytes]]:
    with zipfile.ZipFile(path) as archive:
        if archive.comment != COMMENT:
            raise ValueError("not a zip that dan-fast pack --jpeg wrote")
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"{entry.filename[:100]!r} is compressed")
        # Entries of a malicious zip can share their bytes, so that a small file holds many large images.
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("its images are longer than the file")
        named = [(entry, " ".join(repr(entry.filename[:200])[1:-1].split())) for entry in entries]
        return [(name, JpegBytes(archive.read(entry), f"{path}: {name}")) for entry, name in named]
