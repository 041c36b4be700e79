import numpy as np
import pytest
from support.image_files import noise

from dan_fast.errors import ImageError
from dan_fast.image_files import encode_image, read_image, write_image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_writes_losslessly(tmp_path, suffix, grey, has_alpha, dtype):
    rgb = noise(150, 7, dtype=dtype) if grey else noise(150, 7, 3, dtype=dtype)
    alpha = noise(150, 7, dtype=dtype)[::-1] if has_alpha else None
    profile = bytes(16) + (b"GRAY" if grey else b"RGB ") + b"profile" * 99
    path = tmp_path / "new" / "folder" / f"a.{suffix}"
    notes = write_image(path, rgb, alpha, icc_profile=profile)
    photo = read_image(path)
    as_colour = grey and has_alpha and dtype == np.uint16
    assert photo.grey is (grey and not as_colour)
    assert np.array_equal(photo.rgb[..., 0] if grey else photo.rgb, rgb) and photo.rgb.dtype == dtype
    assert photo.alpha is None if alpha is None else np.array_equal(photo.alpha, alpha)
    assert photo.icc_profile == (None if as_colour else profile)
    assert ("profile" in notes[0]) if as_colour else notes == ()


def test_grey_takes_the_brightness_of_rgb(tmp_path):
    pixels = noise(5, 7)
    write_image(tmp_path / "a.png", np.stack([pixels] * 3, 2), grey=True)
    photo = read_image(tmp_path / "a.png")
    assert photo.grey and np.array_equal(photo.pixels, pixels)


@pytest.mark.parametrize("name", ["out/a.png", ".png", "a.JPG", ".jfif", ".webp", ".tif"])
def test_encodes_what_it_writes(tmp_path, name):
    pixels, alpha = noise(5, 7, 3), noise(5, 7)
    data, notes = encode_image(name, pixels, alpha)
    path = tmp_path / f"b{name[-5:].replace('a', '')}"
    assert write_image(path, pixels, alpha) == notes and path.read_bytes() == data


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_reduce_16_bits_and_say_so(tmp_path, suffix):
    notes = write_image(tmp_path / f"a.{suffix}", np.full((8, 8, 3), 40_000, np.uint16), icc_profile=b"p" * 200)
    photo = read_image(tmp_path / f"a.{suffix}")
    assert abs(photo.rgb.astype(int) - 156).max() <= 2 and "8 bits" in notes[0] and photo.icc_profile == b"p" * 200


def test_quality_changes_the_size_of_jpeg(tmp_path):
    for quality in (20, 95):
        write_image(tmp_path / f"{quality}.jpg", noise(64, 64, 3), quality=quality)
    assert (tmp_path / "20.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size / 2


def test_jpeg_puts_transparency_on_white_and_says_so(tmp_path):
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:, 8:] = 255
    notes = write_image(tmp_path / "a.jpg", np.zeros((16, 16, 3), np.uint8), alpha)
    rgb = read_image(tmp_path / "a.jpg").rgb
    assert rgb[:, :8].min() > 250 and rgb[:, 8:].max() < 5 and "white" in notes[0]


@pytest.mark.parametrize(("name", "rgb", "alpha"), [
    ("a.bmp", noise(4, 4, 3), None),
    ("a", noise(4, 4, 3), None),
    ("a.png", noise(4, 4, 3).astype(np.float32), None),
    ("a.png", noise(4, 4, 4), None),
    ("a.png", noise(0, 4, 3), None),
    ("a.png", noise(4, 4, 3), noise(4, 5)),
    ("a.png", noise(4, 4, 3), noise(4, 4, dtype=np.uint16)),
    ("a.webp", noise(1, 16_384, 3), None),
])
def test_refuses_to_write(tmp_path, name, rgb, alpha):
    with pytest.raises(ImageError):
        write_image(tmp_path / name, rgb, alpha)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_image(path, noise(4, 4, 3))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ImageError, match=r"a\.png.*No space"):
        write_image(path, noise(8, 8, 3))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_an_image_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", noise(4, 4, 3))
