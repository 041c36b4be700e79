"""Many images in one file that is read without decoding: a BigTIFF of uncompressed pages.

A patch then costs the reading of its own pixels, and nothing is decoded again in every run. TIFF is an old and open
container with an index of its own; tifffile writes it one image at a time, in little memory, and any viewer opens it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile

from ..errors import DanFastError, ImageError
from ..files import atomic_path
from ..image_files import read_image, to_8_bits

SOFTWARE = "dan_fast pack"


@dataclass(frozen=True)
class PackedImage:
    """One image of a pack: where its pixels lie, and which file it was."""

    pack: Path
    offset: int
    shape: tuple[int, int, int]
    name: str

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, a view of the file."""
        return np.ndarray(self.shape, np.uint8, _mapped(self.pack), self.offset)

    def __str__(self) -> str:
        return f"{self.pack}: {self.name}"


def write_pack(images: Iterable[tuple[Path, str]], path: Path, on_skip: Callable[[str], None], *,
               most_bytes: int | None = None) -> int:
    """Write ``images``, pairs of file and name, in 8 bit to ``path``: whole or not at all. Returns how many there are.

    Args:
        on_skip: called with the reason for a file that cannot be read, which is left out.
        most_bytes: of the pack; if it were larger, nothing is written.

    Raises:
        DanFastError: ``path`` is no name of a TIFF, no image can be read, or the pack is too large.
        OSError: it cannot be written.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise DanFastError(f"{path}: expected a name that ends in .tif; the packed file is a TIFF, but for "
                           "JPEGs (--jpeg)")
    count = 0
    with atomic_path(path) as temporary:
        with tifffile.TiffWriter(temporary, bigtiff=True) as writer:
            for file, name in images:
                try:
                    pixels = to_8_bits(read_image(file).visible().rgb)
                except ImageError as error:
                    on_skip(str(error))
                    continue
                writer.write(pixels, photometric="rgb", description=name.encode(), software=SOFTWARE, metadata=None)
                count += 1
        if not count:
            raise DanFastError("none of the images can be read")
        if most_bytes is not None and (size := temporary.stat().st_size) > most_bytes:
            raise DanFastError(f"{path}: the {count} images take {size / 2**20:.1f} MiB, the limit is "
                               f"{most_bytes / 2**20:.4g}: nothing is written; JPEGs (--jpeg), or about "
                               f"{int(count * most_bytes / size)} of the images, would fit")
    return count


def is_pack(path: Path) -> bool:
    """Whether ``write_pack`` wrote this file."""
    if not path.is_file() or path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with tifffile.TiffFile(path) as file:
            return file.pages.first.software == SOFTWARE
    except Exception:  # of a damaged file tifffile raises nearly anything; as an image it will say what is wrong
        return False


def packed_images(path: Path) -> list[PackedImage]:
    """The images of a pack, in the order in which they were packed.

    Raises:
        ImageError: the file was cut short.
    """
    size = path.stat().st_size
    images = []
    with tifffile.TiffFile(path) as file:
        for page in (any_page.aspage() for any_page in file.pages):
            height, width, channels = page.shape
            image = PackedImage(path, page.dataoffsets[0], (height, width, channels), page.description)
            if image.offset + height * width * channels > size:
                raise ImageError(f"{image}: the file was cut short; pack it again")
            images.append(image)
    return images


@lru_cache(maxsize=16)
def _mapped(path: Path) -> mmap.mmap:
    """The file's bytes; every process maps them for itself."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
