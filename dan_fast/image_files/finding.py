"""Image files among paths and below folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import ImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff")


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """List the image files among ``paths``: files as they are, folders searched recursively.

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
