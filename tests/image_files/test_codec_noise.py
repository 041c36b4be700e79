"""Decoders print nothing about broken files, whichever way they read them."""

import io
import logging
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from dan_fast.errors import ImageError
from dan_fast.image_files import read_image

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def deflate_tiff_with_a_wrong_checksum():
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    data = bytearray(buffer.getvalue())
    with Image.open(io.BytesIO(data)) as image:
        end = image.tag_v2[273][0] + image.tag_v2[279][0]
    data[end - 1] ^= 255
    return bytes(data)


def test_libtiff_prints_nothing(tmp_path, capfd):
    (tmp_path / "a.tif").write_bytes(deflate_tiff_with_a_wrong_checksum())
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_image(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")


def test_libtiff_prints_again_afterwards(tmp_path, capfd):
    (tmp_path / "a.tif").write_bytes(deflate_tiff_with_a_wrong_checksum())

    def printed():
        with Image.open(tmp_path / "a.tif") as image, pytest.raises(OSError):
            image.load()
        return capfd.readouterr().err

    before = printed()
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.tif")
    assert before == capfd.readouterr().err + printed() != ""


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_16_bit_cmyk_is_refused_in_one_line(tmp_path, capfd, compression):
    level = cv2.utils.logging.getLogLevel()
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 7, 4), np.uint16), photometric="separated",
                     compression=compression)
    with pytest.raises(ImageError, match=r"a\.tif: a 16-bit image of an unsupported kind"):
        read_image(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "") and cv2.utils.logging.getLogLevel() == level


@pytest.mark.parametrize("place", [-1, 5, 0])
def test_broken_16_bit_files_print_nothing(tmp_path, capfd, place):
    deep = NOISE.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.tif"), deep)
    data = cv2.imencode(".png", deep)[1].tobytes()
    start = data.index(b"IDAT") + 4
    length, = struct.unpack(">I", data[start - 8:start - 4])
    content = bytearray(data[start:start + length])
    content[place] ^= 255
    end = struct.pack(">I", zlib.crc32(b"IDAT" + content))
    (tmp_path / "a.png").write_bytes(data[:start] + content + end + data[start + length + 4:])
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    whole[100:120] = bytes(20)
    (tmp_path / "a.tif").write_bytes(whole)
    for name in ("a.png", "a.tif"):
        try:
            read_image(tmp_path / name)
        except ImageError as error:
            assert "\n" not in str(error) and "OpenCV" not in str(error)
    assert capfd.readouterr() == ("", "")


def test_libpng_prints_nothing_about_a_broken_profile(tmp_path, capfd):
    data = cv2.imencode(".png", NOISE.astype(np.uint16))[1].tobytes()
    chunk = b"iCCP" + b"a profile\0\0" + zlib.compress(b"no profile at all")
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert read_image(tmp_path / "a.png").icc_profile == b"no profile at all"
    assert capfd.readouterr() == ("", "")


def test_pillows_warnings_and_logs_are_not_printed(tmp_path, capfd):
    Image.fromarray(NOISE).save(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    first, = struct.unpack_from("<I", data, 4)
    for entry in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == 277:  # samples per pixel
            struct.pack_into("<I", data, entry + 8, 1000)
    (tmp_path / "a.tif").write_bytes(data)
    handlers, logging.root.handlers = logging.root.handlers, []  # as in a program that sets up no logging
    try:
        with pytest.raises(ImageError):
            read_image(tmp_path / "a.tif")
    finally:
        logging.root.handlers = handlers
    assert capfd.readouterr() == ("", "")
