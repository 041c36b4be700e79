"""Whole images, tiles, types and refusals of the upscaler."""

import numpy as np
import pytest
import torch

from dan_fast.config import DANConfig
from dan_fast.errors import DanFastError
from dan_fast.inference import Upscaler
from dan_fast.inference.tiling import LARGEST_HALO, halo_of, most_textured, tile_side, tiles
from dan_fast.model import DAN

TINY = {"channels": 16, "groups": 1, "blocks": 1, "estimator_channels": 16, "estimator_blocks": 1,
        "upsampler": "direct", "group_residual": "plain"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DAN(DANConfig(**TINY)).eval()


def photo(height, width, channels=3, dtype=np.uint8, seed=0):
    """Smooth shapes and noise, unlike from place to place."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[:height, :width]
    waves = np.stack([np.sin(down / (3 + c)) + np.cos(right * down / 900 + c) for c in range(channels)], 2)
    values = np.clip(0.5 + 0.2 * waves + 0.05 * random.standard_normal(waves.shape), 0, 1)
    image = np.rint(values * np.iinfo(dtype).max).astype(dtype)
    return image[..., 0] if channels == 1 else image


def reference(model, image):
    with torch.no_grad():
        out = model(torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max).permute(2, 0, 1)[None])
    return out.sr[0].permute(1, 2, 0).clamp(0, 1).numpy() * np.iinfo(image.dtype).max, out.kernel[0].numpy()


# --- whole images --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (64, 48)])
def test_a_small_image_gives_the_models_own_result(model, size, dtype):
    image = photo(*size, dtype=dtype)
    result = Upscaler(model)(image)
    sr, kernel = reference(model, image)
    assert result.image.shape == (4 * size[0], 4 * size[1], 3) and result.image.dtype == dtype
    # Half a step of rounding and a little of float32, in 16 bits up to half a step more.
    assert abs(result.image - sr).max() <= (0.51 if dtype == np.uint8 else 1)
    assert np.allclose(result.kernel, kernel, atol=1e-6)
    assert result.kernel.dtype == np.float32 and result.kernel.shape == (21, 21)


def test_the_model_is_left_alone(model):
    Upscaler(model, dtype=torch.float64)
    assert model.encoder.dtype == torch.float32 and next(model.parameters()).requires_grad


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales(scale):
    result = Upscaler(DAN(DANConfig(scale=scale, **TINY)), tile=16)(photo(40, 30))
    assert result.image.shape == (40 * scale, 30 * scale, 3)


def test_v1_gives_a_kernel_that_is_a_distribution():
    small = DANConfig(version="v1", channels=16, blocks=1, estimator_channels=16, estimator_blocks=1)
    for image in (photo(24, 24), photo(24, 24, 1)):
        kernel = Upscaler(DAN(small))(image).kernel
        assert kernel.shape == (21, 21) and kernel.min() >= 0 and kernel.sum() == pytest.approx(1, abs=1e-5)


def test_one_iteration_starts_from_the_models_first_code():
    once = DAN(DANConfig(iterations=1, **TINY)).eval()
    image = photo(40, 40)
    whole, tiled = Upscaler(once)(image), Upscaler(once, tile=16)(image)
    assert abs(whole.image.astype(int) - tiled.image).max() <= 1
    assert np.array_equal(whole.kernel, tiled.kernel)


# --- grey ------------------------------------------------------------------------------------------


def test_grey_goes_through_a_colour_model(model):
    grey = photo(30, 20, 1)
    result = Upscaler(model)(grey)
    colour = Upscaler(model)(np.stack([grey] * 3, 2))
    assert result.image.shape == (120, 80) and np.array_equal(result.kernel, colour.kernel)
    luma = colour.image @ np.array([0.299, 0.587, 0.114])
    assert abs(result.image - luma).max() <= 1.01


def test_a_grey_model_takes_grey_only():
    grey_model = DAN(DANConfig(image_channels=1, **TINY))
    assert Upscaler(grey_model)(photo(30, 20, 1)).image.shape == (120, 80)
    assert Upscaler(grey_model, tile=16)(photo(30, 20, 1)).image.shape == (120, 80)
    with pytest.raises(DanFastError, match="grey"):
        Upscaler(grey_model)(photo(30, 20))


# --- tiles -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(100, 70), (33, 129), (16, 190)])
def test_tiles_equal_the_whole_when_the_halo_reaches_as_far_as_the_network(model, size, dtype):
    image = photo(*size, dtype=dtype)
    whole, tiled = Upscaler(model)(image), Upscaler(model, tile=32)(image)
    assert np.array_equal(whole.kernel, tiled.kernel)
    # float32 adds up in another order: rounding may fall to the other side.
    assert abs(whole.image.astype(int) - tiled.image).max() <= 1


def test_a_deep_network_differs_little_where_tiles_meet():
    torch.manual_seed(0)
    deep = DAN(DANConfig(**{**TINY, "groups": 5, "blocks": 5})).eval()
    assert halo_of(deep.config) == LARGEST_HALO < 2 * 25
    image = photo(160, 160)
    difference = abs(Upscaler(deep)(image).image.astype(int) - Upscaler(deep, tile=80)(image).image)
    assert difference.max() <= 1  # measured: 0 to 1


def test_a_large_image_uses_one_kernel_from_its_textured_crop(model):
    image = np.full((300, 320, 3), 128, np.uint8)
    image[96:288, 64:256] = photo(192, 192)
    engine = Upscaler(model, tile=200)
    assert np.allclose(engine(image).kernel, engine(image[96:288, 64:256]).kernel)
    assert np.array_equal(engine.estimate_kernel(image), engine(image).kernel)
    assert not np.allclose(engine(image).kernel, Upscaler(model)(image).kernel, rtol=1e-3)  # which sees it whole
    # The same code everywhere: cutting differently changes nothing but rounding.
    other = Upscaler(model, tile=100)(image)
    assert abs(engine(image).image.astype(int) - other.image).max() <= 1


def test_the_code_of_tiles_is_the_one_of_the_last_iteration(model):
    image = photo(80, 80)  # the crop is the whole image
    sr, kernel = reference(model, image)
    result = Upscaler(model, tile=79)(image)
    assert abs(result.image - sr).max() <= 0.51 and np.allclose(result.kernel, kernel, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "side"), [(100, 70, 32), (5, 200, 16), (33, 33, 33), (34, 67, 33)])
def test_cores_partition_the_image(height, width, side):
    covered = np.zeros((height, width), int)
    for tile in tiles(height, width, side, halo=7):
        covered[tile.core] += 1
        for core, window, length in zip(tile.core, tile.window, (height, width), strict=True):
            assert core.stop - core.start <= side
            assert window == slice(max(0, core.start - 7), min(length, core.stop + 7))
        assert np.zeros((height * 2, width * 2))[tile.core_in_output(2)].shape == \
            np.zeros([2 * (w.stop - w.start) for w in tile.window])[tile.core_in_window(2)].shape
    assert (covered == 1).all()


@pytest.mark.parametrize(("height", "width"), [(300, 500), (50, 500), (200, 193), (192, 192), (100, 40)])
def test_most_textured_window_lies_inside(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[height - 30:, width - 30:] = photo(30, 30)
    rows, columns = most_textured(image, 192)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (min(height, 192), min(width, 192))
    assert (rows.stop, columns.stop) == (height, width)


def test_the_automatic_tile_follows_the_budget_and_the_network():
    published, small = DANConfig(), DANConfig(**TINY)
    assert 64 <= tile_side(published, 10**9) < tile_side(published, 4 * 10**9) < tile_side(small, 4 * 10**9)
    assert tile_side(published, 1) == 64


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [
    [[1, 2]], np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.int16), np.zeros((4, 4, 4), np.uint8),
    np.zeros((4, 4, 1), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)])
def test_refuses_other_images(model, image):
    with pytest.raises(DanFastError, match="expected"):
        Upscaler(model)(image)


@pytest.mark.parametrize("tile", [0, 15, -1, 64.0, True, "64"])
def test_refuses_a_tile_that_is_too_small_or_no_number(model, tile):
    with pytest.raises(DanFastError, match="tile="):
        Upscaler(model, tile=tile)


def test_refuses_an_integer_dtype(model):
    with pytest.raises(DanFastError, match="dtype"):
        Upscaler(model, dtype=torch.int32)


@pytest.mark.parametrize("tile", [None, 16])
def test_weights_that_give_nan_are_an_error(tile):
    broken = DAN(DANConfig(**TINY))
    torch.nn.init.constant_(broken.Restorer.fusion.bias, float("nan"))
    with pytest.raises(DanFastError, match="not finite"):
        Upscaler(broken, tile=tile)(photo(40, 40))


def test_half_precision_stays_close(model):
    image = photo(40, 40)
    exact, half = Upscaler(model)(image), Upscaler(model, dtype=torch.bfloat16)(image)
    assert abs(exact.image.astype(int) - half.image).mean() < 2 and half.kernel.dtype == np.float32
