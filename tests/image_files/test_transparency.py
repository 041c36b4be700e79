"""Transparent images: hidden colours do not matter, and alpha gets no rings."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support.networks import tiny_config

import dan_fast
from dan_fast.cli import main
from dan_fast.evaluation.degraded_set import DegradedSet, isotropic
from dan_fast.image_files import read_image, write_image
from dan_fast.image_files.transparency import extend_colours, upscale_alpha
from dan_fast.training.data import PatchDataset
from dan_fast.training.pack import packed_images, write_pack

HIDDEN = [(0, 0, 0), (255, 255, 255), (0, 255, 0)]
DEPTHS = pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
COLOUR = np.array([200, 40, 40])


def disc(size: int, radius: float, blur: float, dtype=np.uint8) -> np.ndarray:
    """The alpha of a disc with a blurred edge."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    largest = np.iinfo(dtype).max
    return np.rint(np.clip((radius - np.hypot(y, x)) / blur + 0.5, 0, 1) * largest).astype(dtype)


def coloured(alpha: np.ndarray, hidden) -> np.ndarray:
    """``COLOUR`` where alpha is above 0, ``hidden`` elsewhere."""
    scale = np.iinfo(alpha.dtype).max // 255
    return np.where(alpha[..., None] > 0, COLOUR * scale, np.array(hidden) * scale).astype(alpha.dtype)


def on(background: int, rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The image over a plain background, 0 to 255."""
    largest = np.iinfo(alpha.dtype).max
    cover = alpha[..., None] / largest
    return rgb.astype(float) * 255 / largest * cover + background * (1 - cover)


@DEPTHS
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_the_rim_of_a_disc(tmp_path, dtype, suffix):
    """The result, over white and black as a user sees it, is close to the disc drawn four times as large."""
    alpha = disc(48, 15, 5, dtype)
    results = []
    for hidden in HIDDEN:
        path = tmp_path / f"disc{hidden}.{suffix}"
        write_image(path, coloured(alpha, hidden), alpha)
        assert main(["upscale", str(path), "-o", str(tmp_path / "out"), "--compare", "--save-kernel"]) == 0
        photo = read_image(tmp_path / "out" / f"disc{hidden}_x4.{suffix}")
        assert photo.rgb.dtype == dtype and photo.alpha is not None
        results.append((photo.rgb, photo.alpha))
        for background in (0, 255):
            plain = np.broadcast_to(COLOUR * (np.iinfo(dtype).max // 255), photo.rgb.shape)
            expected = on(background, plain, photo.alpha)
            assert np.abs(on(background, photo.rgb, photo.alpha) - expected).max() <= 3
            # Enlarging alpha has an error of its own.
            drawn = on(background, np.broadcast_to(COLOUR.astype(np.uint8), photo.rgb.shape), disc(192, 60, 20))
            assert np.abs(expected - drawn).max() <= 12
        largest = np.iinfo(dtype).max
        # Also where nothing is visible: the result for a plain colour, up to the image's border.
        assert np.abs(photo.rgb * (255 / largest) - COLOUR).max() <= 20
    first, *others = results
    assert all(np.array_equal(a, b) for other in others for a, b in zip(first, other, strict=True))
    for extra in ("compare.png", "kernel.png", "kernel.npy"):
        assert len({(tmp_path / "out" / f"disc{hidden}_x4_{extra}").read_bytes() for hidden in HIDDEN}) == 1


@pytest.mark.parametrize("command", [["kernel"], ["upscale", "--format", "jpg"], ["upscale", "--format", "webp"]],
                         ids=str)
def test_other_outputs_do_not_depend_on_hidden_colours_either(tmp_path, command, capsys):
    alpha = disc(40, 12, 3)
    found = set()
    for n, hidden in enumerate(HIDDEN):
        folder = tmp_path / str(n)
        folder.mkdir()
        write_image(folder / "disc.png", coloured(alpha, hidden), alpha)
        assert main([command[0], str(folder / "disc.png"), "-o", str(folder / "out"), *command[1:]]) == 0
        found.add(tuple(contents(path) for path in sorted((folder / "out").iterdir())))
    assert len(found) == 1


def contents(path):
    """The file's bytes; of a result the pixels, as it carries a note that depends on when its photo was written."""
    if not path.name.startswith("disc_x4.") and not path.name.startswith("grey_x4."):
        return path.read_bytes()
    photo = read_image(path)
    return photo.rgb.tobytes(), None if photo.alpha is None else photo.alpha.tobytes()


def test_grey_with_alpha(tmp_path):
    alpha = disc(40, 12, 4)
    found = set()
    for hidden in (0, 90, 255):
        write_image(tmp_path / "grey.png", np.where(alpha > 0, 180, hidden).astype(np.uint8), alpha, grey=True)
        assert main(["upscale", str(tmp_path / "grey.png"), "-o", str(tmp_path / "out")]) == 0
        photo = read_image(tmp_path / "out" / "grey_x4.png")
        assert photo.grey
        for background in (0, 255):
            expected = on(background, np.full_like(photo.rgb, 180), photo.alpha)
            assert np.abs(on(background, photo.rgb, photo.alpha) - expected).max() <= 3
        found.add(contents(tmp_path / "out" / "grey_x4.png"))
    assert len(found) == 1


@pytest.mark.parametrize("grey", [False, True])
def test_hidden_colours_are_neither_trained_on_nor_measured(tmp_path, grey):
    """Photos that are degraded, packed or trained on do not depend on their hidden colours."""
    alpha = disc(48, 15, 5)
    found = set()
    for n, hidden in enumerate(HIDDEN if not grey else [(0,) * 3, (90,) * 3, (255,) * 3]):
        photo, pack = tmp_path / str(n) / "disc.png", tmp_path / f"{n}.tif"
        pixels = coloured(alpha, hidden)
        write_image(photo, pixels[..., 0] if grey else pixels, alpha, grey=grey)
        write_pack([(photo, "disc.png")], pack, pytest.fail)
        case, = DegradedSet.from_folder(photo.parent, 4, isotropic(2.0)).cases()
        trained_on, packed = PatchDataset([photo], 48).mirrored(0), packed_images(pack)[0].pixels()
        assert np.array_equal(trained_on, packed) and np.array_equal(trained_on, case.hr)
        found.add((case.lr.tobytes(), trained_on.tobytes()))
    assert len(found) == 1


# --- colours ---------------------------------------------------------------------------------------------


@DEPTHS
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 3), (5, 5), (33, 20), (64, 64)])
@pytest.mark.parametrize("channels", [None, 3])
def test_extends_whatever_the_size(dtype, shape, channels):
    random = np.random.default_rng(shape[1])
    largest = np.iinfo(dtype).max
    full = shape if channels is None else (*shape, channels)
    pixels = random.integers(0, largest, full, dtype, endpoint=True)
    alpha = random.choice(np.array([0, 0, largest // 3, largest], dtype), shape)
    other = pixels.copy()
    other[alpha == 0] = random.integers(0, largest, dtype=dtype)
    found = extend_colours(pixels, alpha)
    assert found.dtype == dtype and found.shape == full
    assert np.array_equal(found, extend_colours(other, alpha))
    assert np.array_equal(found[alpha > largest // 8], pixels[alpha > largest // 8])
    if (alpha > 0).any():
        assert found.min() >= pixels[alpha > 0].min() and found.max() <= pixels[alpha > 0].max()


def test_opaque_images_are_left_alone():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert extend_colours(pixels, np.full((20, 30), 255, np.uint8)) is pixels


def test_nothing_visible_is_black():
    assert not extend_colours(np.full((9, 6, 3), 77, np.uint8), np.zeros((9, 6), np.uint8)).any()


def test_the_nearest_colour_is_extended():
    """Red on the left, blue on the right, transparent between: each colour continues, and the middle blends them."""
    pixels, alpha = np.zeros((16, 64, 3), np.uint8), np.zeros((16, 64), np.uint8)
    pixels[:, :8], pixels[:, -8:] = (255, 0, 0), (0, 0, 255)
    alpha[:, :8] = alpha[:, -8:] = 255
    found = extend_colours(pixels, alpha).astype(int)
    assert (found[:, 9, 0] > 200).all() and (found[:, -10, 2] > 200).all()
    assert (np.abs(np.diff(found, axis=1)) < 100).all()


def test_faint_colours_weigh_little():
    """A pixel of alpha 1/255, whose colour is lost in files that once held alpha * colour, does not colour others."""
    pixels, alpha = np.full((17, 17, 3), 100, np.uint8), np.zeros((17, 17), np.uint8)
    alpha[:, :8] = 255
    alpha[:, 8] = 1
    pixels[:, 8] = 255
    assert (np.abs(extend_colours(pixels, alpha)[:, 8:].astype(int) - 100) <= 10).all()


# --- alpha -----------------------------------------------------------------------------------------------


@DEPTHS
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_alpha_stays_between_its_neighbours(dtype, scale):
    random = np.random.default_rng(scale)
    largest = np.iinfo(dtype).max
    for shape in ((1, 1), (1, 9), (9, 1), (2, 3), (40, 31), (300, 5), (517, 4)):
        alpha = random.choice(np.array([0, largest // 2, largest], dtype), shape)
        found = upscale_alpha(alpha, scale)
        assert found.dtype == dtype and found.shape == (shape[0] * scale, shape[1] * scale)
        padded = np.pad(alpha, 1, mode="edge")
        near = np.stack([padded[y:y + shape[0], x:x + shape[1]] for y in range(3) for x in range(3)])
        low, high = (function(near, axis=0).repeat(scale, 0).repeat(scale, 1) for function in (np.min, np.max))
        assert (found >= low).all() and (found <= high).all()


@DEPTHS
def test_a_constant_alpha_stays_constant(dtype):
    for value in (0, 1, 77, np.iinfo(dtype).max):
        assert (upscale_alpha(np.full((9, 13), value, dtype), 4) == value).all()


def test_a_hard_edge_has_no_rings():
    alpha = np.zeros((12, 12), np.uint8)
    alpha[:, 6:] = 200
    row = upscale_alpha(alpha, 4)[20].astype(int)
    assert (np.diff(row) >= 0).all() and set(row[:20]) == {0} and set(row[-20:]) == {200}


def test_smooth_alpha_is_bicubic():
    alpha = disc(32, 9, 8)
    plain = cv2.resize(alpha, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC).astype(int)
    assert np.abs(upscale_alpha(alpha, 4) - plain).max() <= 14


def test_parts_make_no_seams():
    alpha = np.random.default_rng(0).integers(0, 256, (600, 3), np.uint8)
    assert np.array_equal(upscale_alpha(alpha, 2)[200:1000], upscale_alpha(alpha[50:550], 2)[100:-100])


def test_an_opaque_image_is_as_without_alpha(tmp_path):
    model = dan_fast.DAN(tiny_config())
    dan_fast.save(model, tmp_path / "m.safetensors")
    rgb = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    write_image(tmp_path / "with.png", rgb, np.full((20, 24), 255, np.uint8))
    write_image(tmp_path / "without.png", rgb)
    assert main(["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "--weights",
                 str(tmp_path / "m.safetensors")]) == 0
    found, plain = (read_image(tmp_path / "out" / f"{name}_x4.png") for name in ("with", "without"))
    assert np.array_equal(found.rgb, plain.rgb) and (found.alpha == 255).all()
