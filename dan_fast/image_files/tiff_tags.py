"""Directories of tags, of which TIFF files and EXIF data consist: read with care, and written.

Values stay the bytes that they are in the file, so that whatever is not changed is the same afterwards.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple, Union

# Bytes per value, by its type.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
# Tags whose value is the place of another directory, and the tags of this kind that stand there.
_POINTERS: dict[int, Any] = {EXIF: {INTEROP: {}}, GPS: {}}
_LONGEST = 4 << 20  # bytes of all values, several times what cameras write


class Value(NamedTuple):
    """Values of one tag: ``number`` of type ``kind``, as bytes in the order of their directory."""

    kind: int
    number: int
    data: bytes


Directory = dict[int, Union[Value, "Directory"]]


@dataclass
class Tags:
    """The first directory of a file, in which pointers are replaced by the directories that they point at.

    Attributes:
        order: "<" or ">", the order of bytes.
        root: values by tag.
        damaged: a part could not be read.
    """

    order: str = "<"
    root: Directory = field(default_factory=dict)
    damaged: bool = False

    def number(self, tag: int) -> float | None:
        """The first number of ``tag`` in ``root``, or None."""
        value = self.root.get(tag)
        if not isinstance(value, Value) or not value.number:
            return None
        if value.kind == RATIONAL:
            above, below = struct.unpack_from(self.order + "II", value.data)
            return above / below if below else None
        kind = {SHORT: "H", LONG: "I"}.get(value.kind)
        return struct.unpack_from(self.order + kind, value.data)[0] if kind else None

    def short(self, number: int) -> Value:
        return Value(SHORT, 1, struct.pack(self.order + "H", number))

    def long(self, number: int) -> Value:
        return Value(LONG, 1, struct.pack(self.order + "I", number))

    def rational(self, number: float) -> Value:
        fraction = Fraction(number).limit_denominator(1000)
        return Value(RATIONAL, 1, struct.pack(self.order + "II", fraction.numerator, fraction.denominator))

    def to_bytes(self) -> bytes:
        """The tags as EXIF data: a TIFF file without an image."""
        mark = b"II" if self.order == "<" else b"MM"
        return mark + struct.pack(self.order + "HI", 42, 8) + _written(self.root, _CLASSIC, self.order, 8)


class _Layout(NamedTuple):
    """Formats of a directory: the number of its entries, an entry, the place of values; where its place stands."""

    number: str
    entry: str
    place: str
    first: int
    pointer: int  # type of the value that is a place


_CLASSIC, _BIG = _Layout("H", "HHI4s", "I", 4, LONG), _Layout("Q", "HHQ8s", "Q", 8, 16)


class _Damage(ValueError):
    """A part of the tags lies outside the file, or is longer than all of it."""


def read_tags(file: BinaryIO, without: Collection[int] = (), *, longest: int = _LONGEST) -> Tags:
    """Read the first directory of a TIFF file or of EXIF data, and what it points at.

    Parts that are damaged are left out, and ``damaged`` is set. No more than ``longest`` bytes are read.

    Args:
        file: open at any position.
        without: tags that are not read, and are no damage.

    Raises:
        ValueError: it does not begin as TIFF files do.
    """
    order, layout = _header(file)
    file.seek(layout.first)
    try:
        reader = _Reader(file, order, layout, without, longest)
        root = reader.directory(reader.place(file.read(struct.calcsize(layout.place))), _POINTERS)
    except _Damage:
        return Tags(order, {}, True)
    return Tags(order, root, reader.damaged)


def _header(file: BinaryIO) -> tuple[str, _Layout]:
    file.seek(0)
    start = file.read(4)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    layout = {42: _CLASSIC, 43: _BIG}.get(struct.unpack(order + "H", start[2:])[0]) if order and start[3:] else None
    if order is None or layout is None:
        raise ValueError("expected a TIFF structure, which begins with II or MM and 42")
    return order, layout


class _Reader:
    """Reads directories of one file, and adds up what it reads."""

    def __init__(self, file: BinaryIO, order: str, layout: _Layout, without: Collection[int], longest: int) -> None:
        self.file, self.order, self.layout, self.without, self.left = file, order, layout, without, longest
        self.length = file.seek(0, os.SEEK_END)
        file.seek(layout.first)
        self.damaged = False

    def directory(self, place: int, pointers: dict[int, Any]) -> Directory:
        """The directory at ``place``. Directories are as deep as ``pointers``, so that a cycle ends."""
        found: Directory = {}
        for tag, kind, count, inside in self._entries(place):
            if tag in self.without:
                continue
            try:
                if tag in pointers:
                    if kind not in (LONG, 13, 16, 18) or count != 1:
                        raise _Damage
                    found[tag] = self.directory(self.place(inside), pointers[tag])
                else:
                    found[tag] = Value(kind, count, self._values(kind, count, inside))
            except _Damage:
                self.damaged = True
        return found

    def place(self, inside: bytes) -> int:
        size = struct.calcsize(self.layout.place)
        if len(inside) < size:
            raise _Damage
        return struct.unpack(self.order + self.layout.place, inside[:size])[0]

    def _entries(self, place: int) -> Iterator[tuple[int, int, int, bytes]]:
        number_format, entry = self.order + self.layout.number, self.order + self.layout.entry
        number, = struct.unpack(number_format, self._bytes(place, struct.calcsize(number_format)))
        start, size = place + struct.calcsize(number_format), struct.calcsize(entry)
        whole = max(0, min(number, (self.length - start) // size))
        self.damaged |= whole < number
        return struct.iter_unpack(entry, self._bytes(start, whole * size))

    def _values(self, kind: int, count: int, inside: bytes) -> bytes:
        if kind not in WIDTHS:
            raise _Damage
        size = count * WIDTHS[kind]
        return inside[:size] if size <= len(inside) else self._bytes(self.place(inside), size)

    def _bytes(self, place: int, size: int) -> bytes:
        if place + size > self.length or size > self.left:
            raise _Damage
        self.left -= size
        self.file.seek(place)
        return self.file.read(size)


def _written(directory: Directory, layout: _Layout, order: str, place: int) -> bytes:
    """The bytes of ``directory``, which begins at ``place``, and behind it all that it points at."""
    entry, inside = order + layout.entry, struct.calcsize(layout.place)
    table = struct.pack(order + layout.number, len(directory))
    end = place + len(table) + len(directory) * struct.calcsize(entry) + inside
    behind = bytearray()
    for tag, value in sorted(directory.items()):
        here = end + len(behind)
        if isinstance(value, dict):
            kind, count, data = layout.pointer, 1, struct.pack(order + layout.place, here)
            behind += _written(value, layout, order, here)
        else:
            kind, count, data = value
            if len(data) > inside:
                behind += data
                data = struct.pack(order + layout.place, here)
        behind += bytes(len(behind) % 2)  # places are even
        table += struct.pack(entry, tag, kind, count, data)
    return table + bytes(inside) + bytes(behind)


def append_tags(file: BinaryIO, change: Directory, without: Collection[int]) -> None:
    """Give the first directory of a TIFF file more tags: a new directory at the end of the file takes its place.

    Args:
        file: open for reading and writing.
        change: what is added, in the file's order of bytes; tags that the file has keep their value.
        without: tags of the file that are dropped.
    """
    order, layout = _header(file)
    length = file.seek(0, os.SEEK_END)
    own = read_tags(file, without, longest=length)
    place = length + length % 2
    file.seek(length)
    file.write(bytes(length % 2) + _written({**change, **own.root}, layout, order, place))
    file.seek(layout.first)
    file.write(struct.pack(order + layout.place, place))
