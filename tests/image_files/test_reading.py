"""Image files of every kind are read, all others refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.image_files import noise, png_chunk, save

from dan_fast.errors import ImageError
from dan_fast.image_files import ImageBytes, read_image, write_image

# --- 8 bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_reads_rgb_exactly(tmp_path, suffix):
    pixels = noise(5, 7, 3)
    photo = read_image(save(tmp_path / f"a.{suffix}", pixels, **({"lossless": True} if suffix == "webp" else {})))
    assert np.array_equal(photo.rgb, pixels) and photo.rgb.flags.c_contiguous
    assert (photo.alpha, photo.grey, photo.icc_profile, photo.notes) == (None, False, None, ())


def test_reads_jpeg(tmp_path):
    photo = read_image(save(tmp_path / "a.jpg", np.full((9, 9, 3), (10, 100, 200), np.uint8)))
    assert abs(photo.rgb.astype(int) - (10, 100, 200)).max() <= 3 and not photo.grey


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_reads_grey_as_three_equal_channels(tmp_path, suffix):
    pixels = noise(5, 7)
    photo = read_image(save(tmp_path / f"a.{suffix}", pixels))
    assert photo.grey and np.array_equal(photo.rgb, np.stack([pixels] * 3, 2)) and np.array_equal(photo.pixels, pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_reads_one_bit(tmp_path, suffix):
    pixels = noise(5, 9) > 127
    photo = read_image(save(tmp_path / f"a.{suffix}", pixels.astype(np.uint8) * 255, "1"))
    assert photo.grey and np.array_equal(photo.pixels, pixels * 255)


def test_reads_alpha_of_colour_and_grey(tmp_path):
    rgba, la = noise(5, 7, 4), noise(5, 7, 2)
    photo = read_image(save(tmp_path / "a.png", rgba))
    assert np.array_equal(photo.rgb, rgba[..., :3]) and np.array_equal(photo.alpha, rgba[..., 3])
    Image.merge("LA", [Image.fromarray(la[..., i]) for i in (0, 1)]).save(tmp_path / "b.png")
    photo = read_image(tmp_path / "b.png")
    assert photo.grey and np.array_equal(photo.pixels, la[..., 0]) and np.array_equal(photo.alpha, la[..., 1])


def test_reads_palettes_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "plain.png")
    palette.save(tmp_path / "see.png", transparency=bytes([255, 0, 128]))
    plain, see = read_image(tmp_path / "plain.png"), read_image(tmp_path / "see.png")
    assert plain.rgb.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]] and plain.alpha is None
    assert np.array_equal(see.rgb, plain.rgb) and see.alpha.tolist() == [[255, 0], [128, 0]]


@pytest.mark.parametrize(("mode", "key", "expected"), [("RGB", (10, 20, 30), False), ("L", 7, True)])
def test_reads_a_transparent_colour(tmp_path, mode, key, expected):
    image = Image.new(mode, (3, 2), key)
    image.putpixel((0, 0), 99 if mode == "L" else (9, 9, 9))
    image.save(tmp_path / "a.png", transparency=key)
    photo = read_image(tmp_path / "a.png")
    assert photo.alpha.tolist() == [[255, 0, 0], [0, 0, 0]] and photo.grey is expected


def test_converts_cmyk_and_says_so(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=b"cmyk profile")
    photo = read_image(tmp_path / "a.jpg")
    assert photo.rgb[0, 0, 0] > 200 > 60 > photo.rgb[0, 0, 1]
    assert "CMYK" in photo.notes[0] and photo.icc_profile is None


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_takes_the_first_frame_and_says_so(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), (c, 0, 0)) for c in (200, 100)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    photo = read_image(tmp_path / f"a.{suffix}")
    assert abs(int(photo.rgb[0, 0, 0]) - 200) < 5 and "first of 2 frames" in photo.notes[0]


# --- 16 bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_reads_16_bits_of_other_writers(tmp_path, suffix, channels):
    pixels = noise(5, 7, channels, dtype=np.uint16)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), pixels[..., order])
    photo = read_image(tmp_path / f"a.{suffix}")
    assert photo.rgb.dtype == np.uint16 and photo.rgb.flags.c_contiguous and photo.grey is (channels == 1)
    assert np.array_equal(photo.rgb, np.broadcast_to(pixels[..., :3], (5, 7, 3)))
    assert photo.alpha is None if channels < 4 else np.array_equal(photo.alpha, pixels[..., 3])


def test_reads_16_bit_grey_of_pillow_in_both_byte_orders(tmp_path):
    pixels = noise(5, 7, dtype=np.uint16)
    assert np.array_equal(read_image(save(tmp_path / "a.tif", pixels)).pixels, pixels)
    header = struct.pack(">2sHI", b"MM", 42, 8 + pixels.nbytes)
    tags = [(256, 3, 7), (257, 3, 5), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 3, 5), (279, 4, pixels.nbytes)]
    entries = b"".join(struct.pack(">HHI", tag, kind, 1) + struct.pack(*((">HH", v, 0) if kind == 3 else (">I", v)))
                       for tag, kind, v in tags)
    directory = struct.pack(">H", len(tags)) + entries + bytes(4)
    (tmp_path / "b.tif").write_bytes(header + pixels.astype(">u2").tobytes() + directory)
    photo = read_image(tmp_path / "b.tif")
    assert photo.grey and np.array_equal(photo.pixels, pixels)


def test_reads_16_bit_grey_where_white_is_zero(tmp_path):
    pixels = noise(5, 7, dtype=np.uint16)
    path = save(tmp_path / "a.tif", pixels)
    black, white = (struct.pack("<HHIHH", 262, 3, 1, zero, 0) for zero in (1, 0))
    path.write_bytes(path.read_bytes().replace(black, white))
    assert np.array_equal(read_image(path).pixels, 65535 - pixels)


def interlaced(pixels):
    """The Adam7 rows of HxWxC big-endian samples, unfiltered."""
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    return b"".join(b"\0" + row.tobytes() for y, dy, x, dx in passes for row in pixels[y::dy, x::dx] if row.size)


def png16(pixels, is_interlaced=False, before=b""):
    """A PNG by hand: OpenCV and Pillow write no grey with alpha and no interlacing."""
    samples = pixels.astype(">u2")
    rows = interlaced(samples) if is_interlaced else b"".join(b"\0" + row.tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, (None, 0, 4, 2, 6)[pixels.shape[2]], 0, 0,
                         int(is_interlaced))
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + before + png_chunk(b"IDAT", zlib.compress(rows))
            + png_chunk(b"IEND", b""))


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_reads_16_bit_png_of_all_kinds(tmp_path, channels, is_interlaced):
    pixels = noise(11, 13, channels, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png16(pixels, is_interlaced))
    photo = read_image(tmp_path / "a.png")
    assert photo.rgb.dtype == np.uint16 and photo.grey is (channels < 3)
    assert np.array_equal(photo.rgb, np.broadcast_to(pixels[..., :1] if channels < 3 else pixels[..., :3], (11, 13, 3)))
    assert np.array_equal(photo.alpha, pixels[..., -1]) if channels in (2, 4) else photo.alpha is None


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_a_transparent_colour_of_16_bits(tmp_path, channels):
    pixels = np.full((2, 3, channels), 1000, np.uint16)
    pixels[0, 0] = 1001  # the same as the transparent one in 8 bits
    key = png_chunk(b"tRNS", struct.pack(">H", 1000) * channels)
    (tmp_path / "a.png").write_bytes(png16(pixels, before=key))
    photo = read_image(tmp_path / "a.png")
    assert photo.alpha.tolist() == [[65535, 0, 0], [0, 0, 0]] and photo.rgb[0, 0].tolist() == [1001] * 3


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True, "rowsperstrip": 2},
                                     {"tile": (16, 16)}, {"byteorder": ">", "rowsperstrip": 3}, {"bigtiff": True}])
@pytest.mark.parametrize("channels", [3, 4])
def test_reads_planes_of_16_bits(tmp_path, channels, options):
    pixels = noise(20, 33, channels, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pixels, 2, 0).copy(), photometric="rgb", planarconfig="separate",
                     extrasamples=["unassalpha"] if channels == 4 else None, **options)
    photo = read_image(tmp_path / "a.tif")
    assert np.array_equal(photo.rgb, pixels[..., :3])
    assert photo.alpha is None if channels == 3 else np.array_equal(photo.alpha, pixels[..., 3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_reads_premultiplied_alpha(tmp_path, dtype):
    largest = np.iinfo(dtype).max
    straight, alpha = noise(9, 7, 3, dtype=dtype), np.full((9, 7), largest // 2, dtype)
    alpha[0], alpha[1] = largest, 0
    stored = np.dstack([np.rint(straight * (alpha[..., None] / largest)).astype(dtype), alpha])
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    photo = read_image(tmp_path / "a.tif")
    assert np.array_equal(photo.alpha, alpha) and np.array_equal(photo.rgb[0], straight[0])
    # Half of the alpha doubles the error of rounding, and dividing rounds once more.
    assert np.abs(photo.rgb[2:].astype(int) - straight[2:]).max() <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_fourth_channel_of_unspecified_meaning_is_no_alpha(tmp_path, dtype):
    pixels = noise(9, 7, 4, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    photo = read_image(tmp_path / "a.tif")
    assert photo.alpha is None and np.array_equal(photo.rgb, pixels[..., :3])
    assert photo.notes == ("a channel of unspecified meaning is left out",)


# --- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_reads_from_memory(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", noise(5, 7, 3))
    assert np.array_equal(read_image(ImageBytes(path.read_bytes(), "-")).rgb, read_image(path).rgb)
    with pytest.raises(ImageError, match=r"^standard input: "):
        read_image(ImageBytes(path.read_bytes()[:60], "standard input"))


# --- refusing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "dtype"), [
    *((suffix, np.uint8) for suffix in ("png", "jpg", "webp", "tif", "bmp")), ("png", np.uint16), ("tif", np.uint16)])
def test_refuses_truncated_files(tmp_path, suffix, dtype):
    path = tmp_path / f"a.{suffix}"
    save(path, noise(64, 64, 3)) if dtype == np.uint8 else write_image(path, noise(64, 64, 3, dtype=dtype))
    whole = path.read_bytes()
    for kept in (0, 10, 40, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match=f"a.{suffix}"):
            read_image(path)


def test_refuses_what_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    for path in (tmp_path / "a.png", tmp_path, tmp_path / "nowhere.png"):
        with pytest.raises(ImageError) as error:
            read_image(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_refuses_float_and_32_bit_tiff(tmp_path, dtype):
    with pytest.raises(ImageError, match="8 or 16 bits"):
        read_image(save(tmp_path / "a.tif", np.zeros((4, 4), dtype)))
    cv2.imwrite(str(tmp_path / "b.tif"), np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ImageError, match="8 or 16 bits"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize(("side", "reason"), [(100_000, "limit of 200 million"), (20_000, "limit"), (0, "a.png")])
def test_refuses_a_header_that_claims_a_bomb_or_nothing(tmp_path, side, reason):
    path = save(tmp_path / "a.png", noise(4, 4, 3))
    data = path.read_bytes()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(data[:8] + header + data[33:])
    with pytest.raises(ImageError, match=reason):
        read_image(path)


def test_the_limit_of_pixels_is_inclusive_and_leaves_pillow_alone(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = save(tmp_path / "a.png", noise(4, 5, 3))
    assert read_image(path, max_pixels=20).rgb.shape == (4, 5, 3)
    with pytest.raises(ImageError, match="5x4"):
        read_image(path, max_pixels=19)
    assert before == Image.MAX_IMAGE_PIXELS
