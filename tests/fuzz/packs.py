"""Small sound packs of JPEGs, from which broken ones are made."""

import io
import zipfile
from pathlib import Path

import numpy as np

from dan_fast.errors import ImageError
from dan_fast.training.jpeg_pack import COMMENT, decoded_images

from . import images


def sound_files() -> dict[str, bytes]:
    """Return the files by name."""
    jpegs = {name: data for name, data in images.sound_files().items() if name.endswith(".jpg")}
    files = {}
    for name, inside in (("all", list(jpegs)), ("one", ["RGB.jpg"])):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.comment = COMMENT
            for jpeg in inside:
                archive.writestr(zipfile.ZipInfo(jpeg), jpegs[jpeg])
        files[f"{name}.zip"] = buffer.getvalue()
    return files


def read(path: Path) -> None:
    """Read one file, which must give images or an ``ImageError``; raise any other error."""
    with images.refused_in_one_line(path, ImageError):
        assert all(image.pixels().dtype == np.uint8 and image.pixels().size for image in decoded_images(path))
