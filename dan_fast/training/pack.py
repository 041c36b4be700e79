"""Packs many images into one file that is read without decoding: a BigTIFF of uncompressed pages.

For a patch only its own pixels are read, and no run decodes the images again. TIFF is an old and open container with an
index; tifffile writes it image by image in little memory, and any viewer opens it.
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
    """One image of a pack.

    Attributes:
        offset: of its pixels in the file, bytes.
        shape: (H, W, 3).
        name: of the file that was packed.
    """

    pack: Path
    offset: int
    shape: tuple[int, int, int]
    name: str

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, a view of the mapped file."""
        return np.ndarray(self.shape, np.uint8, _mapped(self.pack), self.offset)

    def __str__(self) -> str:
        return f"{self.pack}: {self.name}"


def write_pack(images: Iterable[tuple[Path, str]], path: Path, on_skip: Callable[[str], None], *,
               most_bytes: int | None = None) -> int:
    """Write ``images``, pairs of file and name, with 8 bits to ``path``, whole or not at all. Return their number.

    Args:
        on_skip: called with the reason for each file that cannot be read and is left out.
        most_bytes: the largest size of the pack; nothing is written if it would be larger.

    Raises:
        DanFastError: ``path`` does not end in .tif or .tiff, no image can be read, or the pack is too large.
        OSError: the pack cannot be written.
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
    except Exception:  # tifffile raises nearly anything for a damaged file; reading it as an image says what is wrong
        return False


def packed_images(path: Path) -> list[PackedImage]:
    """Return the images of a pack in the order in which they were packed.

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
    """Map the file into the memory of this process."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
