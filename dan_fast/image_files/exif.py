"""EXIF data carried from a photo to its result: what describes the photo stays, what describes its pixels does not.

EXIF data is a TIFF structure, without the mark ``Exif`` that stands before it in JPEG files.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, Literal

from .tiff_tags import ASCII, EXIF, UNDEFINED, Directory, Tags, Value, append_tags, read_tags

_WIDTH, _HEIGHT, _ORIENTATION = 0x100, 0x101, 0x112
_EXIF_WIDTH, _EXIF_HEIGHT = 0xA002, 0xA003
_NOTE = 0x000B  # ProcessingSoftware
X_RESOLUTION, Y_RESOLUTION, _UNIT = 0x11A, 0x11B, 0x128
_CENTIMETRES = {2: 1.0, 3: 2.54}  # per inch; what a resolution is multiplied with, by its unit
# Places in the file: strips, tiles, further directories, the thumbnail.
_PLACES = {273, 279, 324, 325, 330, 513, 514}
# How a TIFF holds its pixels: compression, bits, colours, palettes, planes, halftones, profile; XMP, which is kept
# apart; places on a map, Photoshop's layers, and all that raw files and private writers added to TIFF since 2000.
_LAYOUT = {*_PLACES, 254, 255, *range(256, 260), *range(262, 267), 274, *range(277, 282), 284, *range(288, 294), 297,
           301, *range(317, 348), *range(512, 522), *range(529, 533), 559, 700, 33421, 33422, 33550, 33922, 34264,
           34377, 34675, *range(34735, 34738), 37724, 42112, 42113, *range(50255, 50341), *range(50342, 65536)}


def read_exif(file: BinaryIO, *, of_tiff: bool) -> Tags:
    """Read the EXIF data in ``file``, or the tags of a TIFF image that describe the photo.

    The orientation becomes 1, as pixels are turned upright, and the thumbnail is dropped.

    Raises:
        ValueError: it is neither.
    """
    tags = read_tags(file, _LAYOUT if of_tiff else _PLACES)
    if _ORIENTATION in tags.root:
        tags.root[_ORIENTATION] = tags.short(1)
    return tags


def changed(exif: bytes | None, change: Callable[[Tags], object]) -> bytes | None:
    """``exif``, None for none, after ``change``; None if nothing is left."""
    tags = read_tags(io.BytesIO(exif)) if exif else Tags()
    change(tags)
    return tags.to_bytes() if tags.root else None


def with_size(exif: bytes | None, height: int, width: int) -> bytes | None:
    """Correct the image's size where ``exif`` tells it."""
    def change(tags: Tags) -> None:
        sub = tags.root.get(EXIF)
        places: list[tuple[Directory, int, int]] = [(tags.root, _WIDTH, width), (tags.root, _HEIGHT, height)]
        if isinstance(sub, dict):
            places += [(sub, _EXIF_WIDTH, width), (sub, _EXIF_HEIGHT, height)]
        for directory, tag, size in places:
            if tag in directory:
                directory[tag] = tags.long(size)
    return changed(exif, change)


def with_note(exif: bytes | None, text: str) -> bytes | None:
    """Set the tag ProcessingSoftware; characters outside ASCII become question marks."""
    data = text.encode("ascii", "replace") + b"\0"
    return changed(exif, lambda tags: tags.root.update({_NOTE: Value(ASCII, len(data), data)}))


def note_of(tags: Tags) -> str | None:
    """The text of the tag ProcessingSoftware, or None."""
    value = tags.root.get(_NOTE)
    if not isinstance(value, Value) or value.kind not in (ASCII, UNDEFINED):
        return None
    return value.data.rstrip(b"\0").decode("ascii", "replace")


def without_orientation(exif: bytes | None) -> bytes | None:
    """Drop the orientation, which is 1."""
    return changed(exif, lambda tags: tags.root.pop(_ORIENTATION, None))


def resolution_of(tags: Tags) -> tuple[float, float] | None:
    """Pixels per inch, horizontal and vertical, or None."""
    factor = _CENTIMETRES.get(int(tags.number(_UNIT) or 2))
    x, y = tags.number(X_RESOLUTION), tags.number(Y_RESOLUTION)
    return (x * factor, y * factor) if x and y and factor else None


def with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes | None:
    """Set the resolution to ``dpi``, unless that is what ``exif`` says."""
    def change(tags: Tags) -> None:
        now = resolution_of(tags)
        if now is None or max(abs(a - b) for a, b in zip(now, dpi, strict=True)) > 0.01:
            tags.root.update({X_RESOLUTION: tags.rational(dpi[0]), Y_RESOLUTION: tags.rational(dpi[1]),
                              _UNIT: tags.short(2)})
    return changed(exif, change)


def fitted(exif: bytes, longest: int) -> tuple[bytes, int]:
    """``exif`` without its largest values, so that it has at most ``longest`` bytes; and how many values that cost."""
    tags, dropped = read_tags(io.BytesIO(exif)), 0
    excess = len(tags.to_bytes()) - longest
    for size, directory, tag in sorted(_sizes(tags.root), key=lambda found: -found[0]):
        if excess <= 0:
            break
        del directory[tag]
        excess -= size + 12  # bytes of the value and its entry
        dropped += 1
    return tags.to_bytes(), dropped


def _sizes(directory: Directory) -> list[tuple[int, Directory, int]]:
    """Bytes outside its entry, directory and tag of every value in ``directory`` and below."""
    found: list[tuple[int, Directory, int]] = []
    for tag, value in directory.items():
        if isinstance(value, dict):
            found += _sizes(value)
        else:  # up to four bytes stand in the entry itself
            found.append((len(value.data) if len(value.data) > 4 else 0, directory, tag))
    return found


def order_of(exif: bytes | None) -> Literal["<", ">"]:
    """The order of bytes, "<" or ">"; "<" for None."""
    return ">" if exif and exif.startswith(b"MM") else "<"


def embed_in_tiff(file: BinaryIO, exif: bytes | None, xmp: bytes | None) -> None:
    """Add EXIF tags and XMP to a TIFF ``file`` that has the same order of bytes, in place of the writer's own texts."""
    root: Directory = read_tags(io.BytesIO(exif), _LAYOUT).root if exif else {}
    if xmp:
        root[700] = Value(1, len(xmp), xmp)
    append_tags(file, root, {270, X_RESOLUTION, Y_RESOLUTION, _UNIT, 305, 306})
