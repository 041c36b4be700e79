"""Damaged and malicious metadata never makes a picture unreadable; what is lost is said."""

import struct
import time

import numpy as np
import pytest
from PIL import Image
from support.image_files import noise, png_chunk, save

from dan_fast.image_files import Metadata, read_image, read_note, write_image

NOISE = noise(4, 6, 3)
MAKER = (0x010F, 2, 4, b"abc\0")  # tag, type, number and value, which is right in each of these files
EXIF, GPS = 0x8769, 0x8825
LOST, PARTLY = "its EXIF data is damaged and is left out", "a part of its EXIF data is damaged and is left out"


def exif(*entries, order="<", next_directory=0, behind=b""):
    """A directory of ``entries``, and ``behind`` it more bytes, from 14 + 12 * len(entries) on."""
    mark = b"II" if order == "<" else b"MM"
    table = b"".join(struct.pack(order + "HHI", *entry[:3]) + (
        entry[3] if isinstance(entry[3], bytes) else struct.pack(order + "I", entry[3])) for entry in entries)
    return (mark + struct.pack(order + "HIH", 42, 8, len(entries)) + table + struct.pack(order + "I", next_directory)
            + behind)


def png_with(path, data):
    save(path, NOISE)
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + png_chunk(b"eXIf", data) + whole[33:])
    return path


DAMAGED = {
    "offset beyond the end": exif(MAKER, (0x0110, 2, 100, 2**31)),
    "offset at the last byte": exif(MAKER, (0x0110, 2, 100, 40)),
    "huge number": exif(MAKER, (0x0110, 5, 2**32 - 1, 8)),
    "unknown type": exif(MAKER, (0x0110, 99, 1, 8)),
    "directory beyond the end": exif(MAKER, (EXIF, 4, 1, 2**32 - 1)),
    "directory of another type": exif(MAKER, (EXIF, 2, 1, 8)),
    "two directories in one place": exif(MAKER, (EXIF, 4, 2, 8)),
    "fewer entries than promised": exif(MAKER)[:8] + b"\xff\xff" + exif(MAKER)[10:],
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_sound_is_kept(tmp_path, name, order):
    data = DAMAGED[name]
    if order == ">":
        data = swapped(data)
    photo = read_image(png_with(tmp_path / "a.png", data))
    assert np.array_equal(photo.rgb, NOISE) and photo.notes == (PARTLY,)
    write_image(tmp_path / "b.tif", photo.rgb, metadata=photo.metadata)
    assert Image.open(tmp_path / "b.tif").tag_v2[0x010F] == "abc"
    assert read_image(tmp_path / "b.tif").notes == ()


def swapped(data):
    """A little-endian directory of four-byte values as a big-endian one."""
    number, = struct.unpack_from("<H", data, 8)
    out = b"MM" + struct.pack(">HIH", *struct.unpack_from("<HIH", data, 2))
    for place in range(10, min(len(data) - 4, 10 + 12 * number), 12):
        tag, kind, count = struct.unpack_from("<HHI", data, place)
        value = data[place + 8:place + 12]
        out += struct.pack(">HHI", tag, kind, count) + (value if value == b"abc\0" else value[::-1])
    return out + bytes(4)


@pytest.mark.parametrize("data", [b"rubbish that is no TIFF", b"II", b"II*\0", b"MM\0*\xff\xff\xff\xff",
                                  b"II*\0\x08\0\0\0", exif((0x010F, 2, 100, 2**31))])
def test_where_nothing_is_sound_all_is_left_out(tmp_path, data):
    photo = read_image(png_with(tmp_path / "a.png", data))
    assert photo.notes == (LOST,) and photo.metadata == Metadata()
    assert read_note(tmp_path / "a.png") is None


@pytest.mark.parametrize("target", [8, 26, 9])
def test_directories_that_hold_themselves_end(tmp_path, target):
    data = exif(MAKER, (EXIF, 4, 1, target), (GPS, 4, 1, target))
    photo = read_image(png_with(tmp_path / "a.png", data))
    assert np.array_equal(photo.rgb, NOISE) and b"abc\0" in photo.metadata.exif and len(photo.metadata.exif) < 2000


def test_a_megabyte_named_by_thousands_of_entries_is_not_copied(tmp_path):
    entries = [(tag, 7, 1 << 20, 14) for tag in range(0x9000, 0x9000 + 5000)]
    data = exif(MAKER, *entries, behind=bytes(1 << 20))
    start = time.process_time()
    photo = read_image(png_with(tmp_path / "a.png", data))
    assert np.array_equal(photo.rgb, NOISE) and photo.notes == (PARTLY,)
    assert len(photo.metadata.exif) < 5 << 20 and time.process_time() - start < 1
    start = time.process_time()
    notes = write_image(tmp_path / "a.jpg", NOISE, metadata=photo.metadata.noted("a note"))
    assert "largest values" in notes[0] and read_note(tmp_path / "a.jpg") == "a note"
    assert time.process_time() - start < 1


def test_xmp_of_megabytes_is_left_out_and_strange_xmp_is_quick(tmp_path):
    path = tmp_path / "a.png"
    for text, notes in ((b"x" * (5 << 20), 1), (b"<xmp:Thumbnails" * 200_000, 0), (b"tiff:Orientation= " * 200_000, 0),
                        (b"tiff:Orientation" + b" " * ((4 << 20) - 99), 0)):
        save(path, NOISE)
        whole = path.read_bytes()
        path.write_bytes(whole[:33] + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + text) + whole[33:])
        start = time.process_time()
        photo = read_image(path)
        assert len(photo.notes) == notes and photo.metadata.xmp == (None if notes else text)
        assert time.process_time() - start < 1


def test_impossible_resolutions_are_ignored(tmp_path):
    for x, y in ((0, 1), (1, 0), (2**32 - 1, 1)):
        save(tmp_path / "a.png", NOISE)
        whole = (tmp_path / "a.png").read_bytes()
        chunk = png_chunk(b"pHYs", struct.pack(">IIB", x * 40_000_000 if x < 2 else x, y, 1))
        (tmp_path / "a.png").write_bytes(whole[:33] + chunk + whole[33:])
        assert read_image(tmp_path / "a.png").metadata.dpi is None
