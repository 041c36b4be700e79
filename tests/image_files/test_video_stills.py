"""AVIF and HEIC: pictures of video codecs."""

import io
import sys

import numpy as np
import pytest
from PIL import Image
from support.image_files import noise
from support.photos import photo as smooth

from dan_fast.errors import ImageError
from dan_fast.image_files import read_image, write_image
from dan_fast.image_files.limits import can_hold
from dan_fast.image_files.video_stills import avif_is_supported, stored_samples

needs_avif = pytest.mark.skipif(not avif_is_supported(), reason="this Pillow has no AVIF")


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "a maker"
    return exif.tobytes()


def heic(path, pixels, mode=None, **options):
    heif = pytest.importorskip("pillow_heif")
    if pixels.dtype == np.uint16:
        image = heif.from_bytes("RGB;16", (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
    else:
        image = heif.from_pillow(Image.fromarray(pixels))
    image.save(path, quality=95, chroma=444, **options)
    return path


@needs_avif
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_avif_is_written_and_read(tmp_path, has_alpha, dtype):
    pixels = smooth(40, 60, dtype=dtype)
    alpha = smooth(40, 60, 1, dtype=dtype) if has_alpha else None
    profile = bytes(16) + b"RGB " + b"p" * 200
    notes = write_image(tmp_path / "a.avif", pixels, alpha, icc_profile=profile, quality=95)
    photo = read_image(tmp_path / "a.avif")
    eight = (pixels if dtype == np.uint8 else np.rint(pixels / 257)).astype(int)
    assert np.abs(photo.rgb - eight).mean() < 3 and photo.icc_profile == profile and photo.notes == ()
    assert (photo.alpha is not None) is has_alpha
    assert notes == (() if dtype == np.uint8 else ("AVIF holds 8 bits: reduced from 16",))


@needs_avif
def test_avif_keeps_colours_at_full_resolution(tmp_path):
    """Red and blue columns become purple where colours are stored at half the resolution."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2, 0] = pixels[:, 1::2, 2] = 200
    write_image(tmp_path / "a.avif", pixels)
    assert np.abs(read_image(tmp_path / "a.avif").rgb.astype(int) - pixels).max() < 40


@needs_avif
def test_quality_changes_the_size_of_avif(tmp_path):
    for quality in (20, 95):
        write_image(tmp_path / f"{quality}.avif", noise(64, 64, 3), quality=quality)
    assert (tmp_path / "20.avif").stat().st_size < (tmp_path / "95.avif").stat().st_size / 2


@needs_avif
def test_avif_sequences_give_their_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), (c, 0, 0)) for c in (200, 100)]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
    photo = read_image(tmp_path / "a.avif")
    assert abs(int(photo.rgb[0, 0, 0]) - 200) < 5 and "first of 2 frames" in photo.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_is_turned_once(tmp_path, suffix, orientation):
    pixels = smooth(40, 60)
    pixels[:20, :30] = 255
    path = tmp_path / f"a.{suffix}"
    if suffix == "avif":
        if not avif_is_supported():
            pytest.skip("this Pillow has no AVIF")
        Image.fromarray(pixels).save(path, quality=100, subsampling="4:4:4", exif=exif_of(orientation))
    else:
        heic(path, pixels, exif=exif_of(orientation))
    reference = tmp_path / "reference.png"
    Image.fromarray(pixels).save(reference, exif=exif_of(orientation))
    photo, upright = read_image(path), read_image(reference)
    assert photo.rgb.shape == upright.rgb.shape and np.abs(photo.rgb.astype(int) - upright.rgb).mean() < 5
    assert b"a maker\0" in photo.metadata.exif


def test_heic_is_read(tmp_path):
    pixels = smooth(40, 60, 4)
    photo = read_image(heic(tmp_path / "a.heic", pixels, xmp=b"<x/>"))
    assert np.abs(photo.rgb.astype(int) - pixels[..., :3]).mean() < 5 and photo.alpha is not None
    assert (photo.notes, photo.metadata.xmp, photo.grey) == ((), b"<x/>", False)
    assert read_image(heic(tmp_path / "grey.heif", smooth(40, 60, 1))).grey


def test_deep_heic_is_reduced_and_says_so(tmp_path):
    pixels = smooth(40, 60, dtype=np.uint16)
    photo = read_image(heic(tmp_path / "a.heic", pixels))
    assert photo.rgb.dtype == np.uint8 and photo.notes == ("its 10 bits per channel are read as 8",)
    assert np.abs(photo.rgb - pixels / 257).mean() < 5


@pytest.mark.parametrize(("box", "expected"), [
    (b"av1C\x81\x00\x0c\x00", (8, False)), (b"av1C\x81\x00\x4c\x00", (10, False)),
    (b"av1C\x81\x40\x6c\x00", (12, False)), (b"av1C\x81\x00\x1c\x00", (8, True)),
    (b"av1C\x81\x00\x0c\x00 av1C\x81\x00\x1c\x00", (8, False)), (b"", (8, False)), (b"av1C\x81", (8, False))])
def test_boxes_tell_bits_and_grey(box, expected):
    assert stored_samples(io.BytesIO(b"\0\0\0\x1cftypavif" + box)) == expected


def test_heic_without_its_extra_is_refused_in_one_line(tmp_path, monkeypatch):
    path = heic(tmp_path / "a.heic", noise(16, 16, 3))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"a\.heic: HEIC photos need pillow-heif: pip install 'dan_fast\[heic\]'$"):
        read_image(path)


def test_avif_without_support_is_refused_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0mif1miafMA1B")
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    monkeypatch.delattr("PIL.AvifImagePlugin", raising=False)
    for use in (lambda: read_image(tmp_path / "a.avif"), lambda: write_image(tmp_path / "b.avif", noise(4, 4, 3))):
        with pytest.raises(ImageError, match=r"AVIF needs Pillow 11\.3 or later with AVIF: pip install -U pillow$"):
            use()


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "heic":
        heic(path, noise(64, 64, 3))
    elif avif_is_supported():
        write_image(path, noise(64, 64, 3))
    else:
        pytest.skip("this Pillow has no AVIF")
    whole = path.read_bytes()
    for kept in (12, 40, 200, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:kept])
        with pytest.raises(ImageError, match=path.name):
            read_image(path)


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_blank_images_open_and_impossible_sizes_do_not(tmp_path, suffix):
    def write(side):
        blank = np.full((side, side, 3), 9, np.uint8)
        if suffix == "heic":
            heic(path, blank)
        elif avif_is_supported():
            write_image(path, blank, quality=1)
        else:
            pytest.skip("this Pillow has no AVIF")

    path = tmp_path / f"a.{suffix}"
    write(1500)
    assert read_image(path).rgb.shape == (1500, 1500, 3)
    write(64)
    data = path.read_bytes()
    for side, reason in ((14_000, "cannot be in a file of"), (100_000, "")):
        path.write_bytes(data.replace((64).to_bytes(4, "big") * 2, side.to_bytes(4, "big") * 2))
        with pytest.raises(ImageError, match=f"{path.name}: .*{reason}"):
            read_image(path)


def test_what_a_file_can_hold():
    image = Image.new("1", (14_000, 14_000))
    for kind, length in (("AVIF", 700), ("HEIF", 5600)):
        image.format = kind
        assert can_hold(image, io.BytesIO(), length) and not can_hold(image, io.BytesIO(), length * 9 // 10)
