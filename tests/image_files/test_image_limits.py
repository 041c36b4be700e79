"""Files whose headers promise too much are refused before memory is taken; blank images open."""

import io
import os
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.image_files import png_chunk

from dan_fast.errors import ImageError
from dan_fast.image_files import read_image

# A process that reads the files that it is given and prints by how many megabytes that raised its peak.
MEASURE = """
import sys, torch
from dan_fast.errors import ImageError
from dan_fast.image_files import read_image
from dan_fast.runtime.devices import peak_memory
before = peak_memory(torch.device("cpu"))
for path in sys.argv[1:]:
    try:
        read_image(path)
    except ImageError:
        print("refused", end=" ")
    else:
        print("read", end=" ")
print((peak_memory(torch.device("cpu")) - before) / 1e6)
"""
SIDE = 13_000  # 169 million pixels, below the limit
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(side):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    whole = encoded(Image.fromarray(NOISE), "PNG")
    return whole[:8] + header + whole[33:]


def jpeg(side, **options):
    whole = encoded(Image.fromarray(NOISE), "JPEG", **options)
    start = whole.index(b"\xff\xc2" if options.get("progressive") else b"\xff\xc0") + 5
    return whole[:start] + struct.pack(">HH", side, side) + whole[start + 4:]


def webp(side):
    whole = encoded(Image.fromarray(NOISE), "WEBP", quality=80)
    start = whole.index(b"\x9d\x01\x2a") + 3
    return whole[:start] + struct.pack("<HH", side, side) + whole[start + 4:]


def animated_webp(side):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    whole = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    sides = (side - 1).to_bytes(3, "little") * 2
    return whole[:24] + sides + whole[30:]


def lossless_webp(side):
    whole = encoded(Image.new("RGB", (8, 8)), "WEBP", lossless=True)
    start = whole.index(b"VP8L") + 9
    bits, = struct.unpack_from("<I", whole, start)
    return whole[:start] + struct.pack("<I", bits & 0xF0000000 | (side - 1) << 14 | side - 1) + whole[start + 4:]


def bmp(side):
    whole = encoded(Image.fromarray(NOISE), "BMP")
    return whole[:18] + struct.pack("<ii", side, side) + whole[26:]


def tiff(side, mode="RGB", **options):
    """A TIFF with ``side`` in its tags of width and height."""
    return with_tags(encoded(Image.fromarray(NOISE).convert(mode), "TIFF", **options),
                     {256: side, 257: side, 278: 2**32 - 1})


def with_tags(whole, values):
    whole = bytearray(whole)
    first, = struct.unpack_from("<I", whole, 4)
    for entry in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", whole, first)[0], 12):
        tag, = struct.unpack_from("<H", whole, entry)
        if tag in values:
            struct.pack_into("<HII", whole, entry + 2, 4, 1, values[tag])
    return bytes(whole)


def tiled(**options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, NOISE, photometric="rgb", tile=(32, 32), **options)
    return with_tags(buffer.getvalue(), {322: SIDE - SIDE % 16, 323: SIDE - SIDE % 16})


PROMISES = {
    "a.png": png(SIDE), "a.jpg": jpeg(SIDE), "p.jpg": jpeg(SIDE, progressive=True), "a.webp": webp(SIDE),
    "b.webp": animated_webp(SIDE), "l.webp": lossless_webp(SIDE),
    "a.bmp": bmp(SIDE), "t.tif": tiled(), "tz.tif": tiled(compression="zlib"),
    **{f"{c}-{m}.tif": tiff(SIDE, m, compression=c) for m in ("L", "RGB", "CMYK")
       for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")},
}


@pytest.mark.parametrize("name", PROMISES)
def test_refuses_a_header_that_promises_more_than_the_file_can_hold(tmp_path, name):
    (tmp_path / name).write_bytes(PROMISES[name])
    with pytest.raises(ImageError, match=f"{name}: .* cannot be in a file of {len(PROMISES[name])} bytes"):
        read_image(tmp_path / name)


def test_refusing_takes_no_memory(tmp_path):
    pytest.importorskip("resource")
    for name, content in PROMISES.items():
        (tmp_path / name).write_bytes(content)
    printed = subprocess.run([sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in PROMISES)],
                          capture_output=True, text=True, check=True)
    *verdicts, megabytes = printed.stdout.split()
    assert printed.stderr == "" and set(verdicts) == {"refused"} and float(megabytes) < 100


BLANK = Image.new("RGB", (3000, 3000), (9, 9, 9))


@pytest.mark.parametrize(("name", "image", "options"), [
    ("a.png", BLANK, {}), ("one.png", BLANK.convert("1"), {}), ("grey.png", BLANK.convert("L"), {}),
    ("best.png", BLANK, {"compress_level": 9}), ("a.jpg", BLANK, {"quality": 1, "optimize": True}),
    ("grey.jpg", BLANK.convert("L"), {"quality": 1, "optimize": True}), ("p.jpg", BLANK, {"progressive": True}),
    ("a.webp", BLANK, {"quality": 1}), ("lossless.webp", BLANK, {"lossless": True}),
    ("fast.webp", BLANK, {"lossless": True, "method": 0}), ("a.bmp", BLANK, {}),
    *((f"{c}-{m}.tif", BLANK.convert(m), {"compression": c}) for m in ("L", "RGB", "CMYK")
      for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")),
    ("4.tif", BLANK.convert("1"), {"compression": "group4"}), ("3.tif", BLANK.convert("1"), {"compression": "group3"}),
])
def test_opens_blank_images_however_small_their_files(tmp_path, name, image, options):
    try:
        (tmp_path / name).write_bytes(encoded(image, {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name[-3:].replace(
            "ebp", "WEBP").upper()), **options))
    except (OSError, RuntimeError) as error:
        pytest.skip(f"this Pillow does not write it: {error}")
    assert read_image(tmp_path / name).rgb.shape == (3000, 3000, 3)


@pytest.mark.parametrize("options", [{"tile": (1024, 1024)}, {"planarconfig": "separate"}, {"predictor": True}])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opens_blank_tiles_and_planes(tmp_path, options, dtype):
    pixels = np.zeros((3, 2100, 1030) if "planarconfig" in options else (2100, 1030, 3), dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="zlib", **options)
    assert read_image(tmp_path / "a.tif").rgb.shape == (2100, 1030, 3)


def test_opens_a_blank_image_of_the_largest_kind(tmp_path):
    """64 million pixels in a file of 8 kB: one bit per pixel, compressed as well as deflate can."""
    Image.new("1", (8000, 8000)).save(tmp_path / "a.png", compress_level=9)
    assert os.path.getsize(tmp_path / "a.png") < 20_000 and not read_image(tmp_path / "a.png").rgb.any()


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP"])
def test_metadata_cannot_unpack_to_more_than_a_few_megabytes(tmp_path, name):
    bomb = png_chunk(name, b"name\0\0" + zlib.compress(bytes(300_000_000), 9))
    whole = encoded(Image.fromarray(NOISE), "PNG")
    (tmp_path / "a.png").write_bytes(whole[:33] + bomb + whole[33:])
    pytest.importorskip("resource")
    printed = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path / "a.png")],
                          capture_output=True, text=True, check=True)
    assert printed.stderr == "" and float(printed.stdout.split()[1]) < 100


def crowded_directory(size=200_000):
    """A TIFF directory of 5000 tags, all with the same value: the bytes that follow the directory."""
    tags = [struct.pack("<HHII", 40_000 + number, 7, size, 8 + 2 + 12 * 5000 + 4) for number in range(5000)]
    return struct.pack("<2sHIH", b"II", 42, 8, 5000) + b"".join(tags) + bytes(4) + bytes(size)


def test_tags_cannot_share_a_megabyte_thousands_of_times(tmp_path):
    (tmp_path / "a.tif").write_bytes(crowded_directory())
    whole = encoded(Image.fromarray(NOISE), "JPEG")
    exif = crowded_directory()
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", 8 + len(part)) + b"Exif\0\0" + part
                        for part in (exif[i:i + 60_000] for i in range(0, len(exif), 60_000)))
    (tmp_path / "a.jpg").write_bytes(whole[:2] + segments + whole[2:])
    for name in ("a.tif", "a.jpg"):
        with pytest.raises(ImageError, match=f"{name}: .* directory of tags promises more"):
            read_image(tmp_path / name)


def test_a_jpeg_cannot_have_thousands_of_scans(tmp_path):
    """A scan of 33 bytes goes over all pixels. Behind the picture scans do not count: phones store films there."""
    whole = encoded(BLANK, "JPEG", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda"):-2]
    (tmp_path / "many.jpg").write_bytes(whole[:-2] + scan * 5000 + whole[-2:])
    (tmp_path / "film.jpg").write_bytes(whole + scan * 5000)
    with pytest.raises(ImageError, match=r"many\.jpg: .* 5010 scans"):
        read_image(tmp_path / "many.jpg")
    assert read_image(tmp_path / "film.jpg").rgb.shape == (3000, 3000, 3)


def test_a_crowded_exif_is_not_read(tmp_path):
    whole = encoded(Image.fromarray(NOISE), "PNG")
    (tmp_path / "a.png").write_bytes(whole[:33] + png_chunk(b"eXIf", crowded_directory()) + whole[33:])
    assert np.array_equal(read_image(tmp_path / "a.png").rgb, NOISE)


def test_counts_frames_only_as_long_as_that_is_quick(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(150):
            writer.write(np.zeros((4, 4), np.uint8), contiguous=False)
    assert read_image(tmp_path / "a.tif").notes == ("only the first of more than 100 frames is used",)


def test_a_broken_second_frame_does_not_matter(tmp_path):
    image = Image.new("RGB", (4, 4), (200, 0, 0))
    image.save(tmp_path / "a.tif", save_all=True, append_images=[image])
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    first, = struct.unpack_from("<I", whole, 4)
    struct.pack_into("<I", whole, first + 2 + 12 * struct.unpack_from("<H", whole, first)[0], len(whole) - 3)
    (tmp_path / "a.tif").write_bytes(whole)
    assert read_image(tmp_path / "a.tif").rgb[0, 0].tolist() == [200, 0, 0]


def test_opens_run_lengths_of_bmp(tmp_path):
    """Written by hand, as Pillow cannot: each of 64 rows is one run of 64 pixels of colour 7."""
    rows = b"\x40\x07\x00\x00" * 63 + b"\x40\x07\x00\x01"
    start = 14 + 40 + 1024
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    (tmp_path / "a.bmp").write_bytes(
        b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start)
        + struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, len(rows), 0, 0, 256, 0) + palette + rows)
    assert (read_image(tmp_path / "a.bmp").rgb == 7).all()


def test_opencv_and_pillow_agree_on_16_bits(tmp_path):
    """The high and the low bytes of 16-bit PNGs are read separately, and must meet again, interlaced or not."""
    deep = np.random.default_rng(1).integers(0, 65536, (23, 37, 4), np.uint16)
    for pixels in (deep, deep[..., :3], deep[..., 0]):
        cv2.imwrite(str(tmp_path / "a.png"), pixels)
        photo = read_image(tmp_path / "a.png")
        assert np.array_equal(photo.pixels, pixels if pixels.ndim == 2 else pixels[..., 2::-1])
        assert photo.alpha is None if pixels.shape[2:] != (4,) else np.array_equal(photo.alpha, pixels[..., 3])
