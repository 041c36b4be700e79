"""Arguments and results of an upscaler: whole images, kinds of images, options and refusals."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import tiny_config
from support.photos import photo

from dan_fast.blur_kernels.known import known_kernel
from dan_fast.config import DANConfig
from dan_fast.errors import DanFastError
from dan_fast.inference import Upscaler
from dan_fast.model import DAN


def reference(model, image):
    with torch.no_grad():
        out = model(torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max).permute(2, 0, 1)[None])
    return out.sr[0].permute(1, 2, 0).clamp(0, 1).numpy() * np.iinfo(image.dtype).max, out.kernel[0].numpy()


# --- whole images --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (5, 40), (64, 48)])
def test_a_small_image_gives_the_models_own_result(tiny_model, size, dtype):
    image = photo(*size, dtype=dtype)
    result = Upscaler(tiny_model)(image)
    sr, kernel = reference(tiny_model, image)
    assert result.image.shape == (4 * size[0], 4 * size[1], 3) and result.image.dtype == dtype
    # Half a step of rounding and a little of float32, in 16 bits up to half a step more.
    assert abs(result.image - sr).max() <= (0.51 if dtype == np.uint8 else 1)
    assert np.allclose(result.kernel, kernel, atol=1e-6)
    assert result.kernel.dtype == np.float32 and result.kernel.shape == (21, 21)


def test_the_model_is_left_alone(tiny_model):
    Upscaler(tiny_model, dtype=torch.float64)
    assert tiny_model.encoder.dtype == torch.float32 and next(tiny_model.parameters()).requires_grad


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales(scale):
    result = Upscaler(DAN(tiny_config(scale=scale)), tile=16)(photo(40, 30))
    assert result.image.shape == (40 * scale, 30 * scale, 3)


def test_v1_gives_a_kernel_that_is_a_distribution():
    small = DANConfig(version="v1", channels=16, blocks=1, estimator_channels=16, estimator_blocks=1)
    for image in (photo(24, 24), photo(24, 24, 1)):
        kernel = Upscaler(DAN(small))(image).kernel
        assert kernel.shape == (21, 21) and kernel.min() >= 0 and kernel.sum() == pytest.approx(1, abs=1e-5)


def test_one_iteration_starts_from_the_models_first_code():
    once = DAN(tiny_config(iterations=1)).eval()
    image = photo(40, 40)
    whole, tiled = Upscaler(once)(image), Upscaler(once, tile=16)(image)
    assert abs(whole.image.astype(int) - tiled.image).max() <= 1
    assert np.allclose(whole.kernel, tiled.kernel, atol=1e-7)


# --- grey ------------------------------------------------------------------------------------------


def test_grey_goes_through_a_colour_model(tiny_model):
    grey = photo(30, 20, 1)
    result = Upscaler(tiny_model)(grey)
    colour = Upscaler(tiny_model)(np.stack([grey] * 3, 2))
    assert result.image.shape == (120, 80) and np.array_equal(result.kernel, colour.kernel)
    luma = colour.image @ np.array([0.299, 0.587, 0.114])
    assert abs(result.image - luma).max() <= 1.01


def test_a_grey_model_takes_grey_only():
    grey_model = DAN(tiny_config(image_channels=1))
    assert Upscaler(grey_model)(photo(30, 20, 1)).image.shape == (120, 80)
    assert Upscaler(grey_model, tile=16)(photo(30, 20, 1)).image.shape == (120, 80)
    with pytest.raises(DanFastError, match="grey"):
        Upscaler(grey_model)(photo(30, 20))


# --- kinds of images ---------------------------------------------------------------------------------


def test_pil_images(tiny_model):
    image = photo(20, 30)
    expected = Upscaler(tiny_model)(image)
    for mode in ("RGB", "L"):
        pil = Image.fromarray(image).convert(mode)
        found = Upscaler(tiny_model)(pil)
        assert isinstance(found.image, Image.Image) and found.image.mode == mode and found.image.size == (120, 80)
        if mode == "RGB":
            assert np.array_equal(np.asarray(found.image), expected.image)
    deep = Image.fromarray(photo(20, 30, 1, np.uint16))
    assert deep.mode == "I;16" and Upscaler(tiny_model)(deep).image.mode == "I;16"
    with pytest.raises(DanFastError, match=r"RGBA.*convert"):
        Upscaler(tiny_model)(Image.fromarray(image).convert("RGBA"))


@pytest.mark.parametrize("tile", [None, 16])
def test_tensors(tiny_model, tile):
    image = photo(24, 20)
    expected = Upscaler(tiny_model, tile=tile)(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    one = Upscaler(tiny_model, tile=tile)(tensor)
    assert one.image.shape == (3, 96, 80) and one.image.dtype == torch.float32 and one.kernel.shape == (21, 21)
    assert abs(one.image.permute(1, 2, 0).numpy() * 255 - expected.image).max() <= 0.51
    assert one.image.min() >= 0 and one.image.max() <= 1
    other = torch.rand(3, 24, 20)
    both = Upscaler(tiny_model, tile=tile)(torch.stack([tensor, other]))
    assert both.image.shape == (2, 3, 96, 80) and both.kernel.shape == (2, 21, 21)
    for n, single in enumerate((one, Upscaler(tiny_model, tile=tile)(other))):
        assert torch.allclose(both.image[n], single.image, atol=1e-5)
        assert np.allclose(both.kernel[n], single.kernel, atol=1e-6)
    assert Upscaler(tiny_model)(tensor[:1]).image.shape == (1, 96, 80)
    assert Upscaler(tiny_model)(tensor.double()).image.dtype == torch.float64


def test_not_contiguous_and_read_only(tiny_model):
    image = photo(24, 40)
    for view in (image[:, ::-1], image[::2, 5:], image[..., ::-1], np.broadcast_to(image[:1], image.shape)):
        assert np.array_equal(Upscaler(tiny_model)(view).image, Upscaler(tiny_model)(view.copy()).image)


@pytest.mark.parametrize("tile", [None, 16])
def test_batches_of_one_size(tiny_model, tile):
    images = [photo(24, 20, seed=n) for n in range(3)]
    upscaler = Upscaler(tiny_model, tile=tile)
    for found, image in zip(upscaler.batch(images), images, strict=True):
        expected = upscaler(image)
        assert abs(found.image.astype(int) - expected.image).max() <= 1
        assert np.allclose(found.kernel, expected.kernel, atol=1e-6)
    assert upscaler.batch([]) == [] and upscaler.batch(images, wants_kernel=False)[0].kernel is None
    with pytest.raises(DanFastError, match="differ"):
        upscaler.batch([photo(24, 20), photo(20, 24)])


# --- options -----------------------------------------------------------------------------------------


def test_the_kernel_only_if_it_is_wanted(tiny_model):
    image = photo(40, 30)
    without = Upscaler(tiny_model)(image, wants_kernel=False)
    assert without.kernel is None and np.array_equal(without.image, Upscaler(tiny_model)(image).image)


@pytest.mark.parametrize("tile", [None, 16])
def test_a_known_kernel(tiny_model, tile):
    image = photo(40, 30)
    kernel = np.zeros((21, 21), np.float32)
    kernel[9:12, 8:13] = 1 / 15
    found = Upscaler(tiny_model, tile=tile)(image, kernel=kernel)
    with torch.no_grad():
        lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        expected = tiny_model.Restorer(lr, tiny_model.encode(torch.from_numpy(kernel)[None]))[0].permute(1, 2, 0)
    assert abs(found.image - expected.clamp(0, 1).numpy() * 255).max() <= (0.51 if tile is None else 1)
    assert np.allclose(found.kernel, kernel)
    small = kernel[8:13, 8:13]  # its middle stays the middle
    assert np.array_equal(Upscaler(tiny_model, tile=tile)(image, kernel=small).image, found.image)
    again = Upscaler(tiny_model, tile=tile)(image, kernel=known_kernel(small, 21))  # checked before
    assert np.array_equal(again.image, found.image) and np.array_equal(again.kernel, found.kernel)


@pytest.mark.parametrize(("kernel", "message"), [
    (np.ones((3, 3)), "sum is 9"), (np.ones((0, 0)), "square"), (np.ones((3, 5)) / 15, "square"),
    (np.ones((23, 23)) / 529, "at most 21"), (np.full((3, 3), np.nan), "not finite"),
    (np.array([["a"]]), "expected numbers"),
    (known_kernel(np.ones((3, 3)) / 9, 11), "kernel size 11, this one has 21")])
def test_refuses_other_kernels(tiny_model, kernel, message):
    with pytest.raises(DanFastError, match=message):
        Upscaler(tiny_model)(photo(8, 8), kernel=kernel)


def test_the_kernel_of_the_most_textured_crop(tiny_model):
    image = np.full((300, 320, 3), 128, np.uint8)
    image[96:224, 64:192] = photo(128, 128)
    crop = image[96:224, 64:192]
    for tile in (None, 100):
        upscaler = Upscaler(tiny_model, tile=tile, kernel_from="crop")
        found = upscaler(image)
        assert np.allclose(found.kernel, Upscaler(tiny_model)(crop).kernel, atol=1e-7)
        assert np.array_equal(upscaler.estimate_kernel(image), found.kernel)
        # The code is the one that the crop's own last pass used.
        with torch.no_grad():
            outputs = tiny_model.iterate(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255)
            lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            expected = tiny_model.Restorer(lr, outputs[-2].code)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        assert abs(found.image - expected).max() <= (0.51 if tile is None else 1)
    small = photo(60, 128)  # is its own crop
    assert np.array_equal(Upscaler(tiny_model, kernel_from="crop")(small).image, Upscaler(tiny_model)(small).image)


def test_iterations_and_tolerance(tiny_model):
    image = photo(40, 30)
    with torch.no_grad():
        outputs = tiny_model.iterate(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, 6)
    for count in (1, 6):
        found = Upscaler(tiny_model, iterations=count)(image)
        assert np.allclose(found.kernel, outputs[count - 1].kernel[0], atol=1e-6)
    stops_at_once = Upscaler(tiny_model, iterations=6, tolerance=2.0)(image)
    assert np.allclose(stops_at_once.kernel, outputs[0].kernel[0], atol=1e-6)
    tiled = Upscaler(tiny_model, iterations=6, tolerance=2.0, tile=16)(image)
    assert abs(tiled.image.astype(int) - stops_at_once.image).max() <= 1
    never = Upscaler(tiny_model, iterations=6, tolerance=0)(image)
    assert np.array_equal(never.image, Upscaler(tiny_model, iterations=6)(image).image)


@pytest.mark.parametrize("known", [False, True])
def test_the_ensemble_is_the_mean_over_turned_and_mirrored_images(tiny_model, known):
    image = photo(24, 31)
    kernel = np.random.default_rng(0).random((21, 21)).astype(np.float32) if known else None
    kernel = kernel / kernel.sum() if known else None
    total, kernels = 0, []
    for turns in range(4):
        for mirror in (lambda a: a, np.fliplr):
            turned = np.ascontiguousarray(mirror(np.rot90(image, turns)))
            tensor = torch.from_numpy(turned).permute(2, 0, 1).float() / 255
            its = None if kernel is None else np.ascontiguousarray(mirror(np.rot90(kernel, turns)))
            found = Upscaler(tiny_model)(tensor, kernel=its)
            total = total + np.rot90(mirror(found.image.permute(1, 2, 0).numpy()), -turns)
            kernels.append(np.rot90(mirror(found.kernel), -turns))
    result = Upscaler(tiny_model, ensemble=True)(image, kernel=kernel)
    assert abs(result.image - total / 8 * 255).max() <= 0.51
    assert np.allclose(result.kernel, np.mean(kernels, 0), atol=1e-6)
    tiled = Upscaler(tiny_model, ensemble=True, tile=16)(image, kernel=kernel)
    assert abs(tiled.image.astype(int) - result.image).max() <= 1


def test_stats_say_what_was_done(tiny_model):
    upscaler = Upscaler(tiny_model)
    assert upscaler.stats().images == 0
    upscaler(photo(20, 20))
    upscaler.batch([photo(20, 20)] * 2)
    stats = upscaler.stats()
    assert stats.images == 3 and stats.graphs.captured == 0
    parts = sum(seconds for stage, seconds in stats.seconds.items() if stage != "total")
    assert {"heads", "condition", "body", "upsampler", "estimator head", "estimator body"} <= set(stats.seconds)
    assert 0.3 * stats.seconds["total"] < parts <= stats.seconds["total"]


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [
    [[1, 2]], np.full((4, 4, 3), 2.0), np.zeros((4, 4, 3), np.int16), np.zeros((4, 4, 4), np.uint8),
    np.zeros((4, 4, 1), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros(4, np.uint8)])
def test_refuses_other_images(tiny_model, image):
    with pytest.raises(DanFastError, match="expected"):
        Upscaler(tiny_model)(image)


@pytest.mark.parametrize("tile", [0, 15, -1, 64.0, True, "64"])
def test_refuses_a_tile_that_is_too_small_or_no_number(tiny_model, tile):
    with pytest.raises(DanFastError, match="tile="):
        Upscaler(tiny_model, tile=tile)


@pytest.mark.parametrize("options", [
    {"halo": -1}, {"halo": 2.0}, {"iterations": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")},
    {"kernel_from": "tile"}], ids=str)
def test_refuses_impossible_options(tiny_model, options):
    with pytest.raises(DanFastError, match=next(iter(options))):
        Upscaler(tiny_model, **options)


@pytest.mark.parametrize("tensor", [
    torch.zeros(3, 4), torch.zeros(2, 4, 4), torch.zeros(3, 0, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)], ids=str)
def test_refuses_other_tensors(tiny_model, tensor):
    with pytest.raises(DanFastError, match="expected"):
        Upscaler(tiny_model)(tensor)


def test_refuses_an_integer_dtype(tiny_model):
    with pytest.raises(DanFastError, match="dtype"):
        Upscaler(tiny_model, dtype=torch.int32)


@pytest.mark.parametrize("tile", [None, 16])
def test_weights_that_give_nan_are_an_error(tile):
    broken = DAN(tiny_config())
    torch.nn.init.constant_(broken.Restorer.fusion.bias, float("nan"))
    with pytest.raises(DanFastError, match="not finite"):
        Upscaler(broken, tile=tile)(photo(40, 40))
    with pytest.raises(DanFastError, match="not finite"):
        Upscaler(broken, tile=tile).estimate_kernel(photo(40, 40))


def test_half_precision_stays_close(tiny_model):
    image = photo(40, 40)
    exact, half = Upscaler(tiny_model)(image), Upscaler(tiny_model, dtype=torch.bfloat16)(image)
    assert abs(exact.image.astype(int) - half.image).mean() < 2 and half.kernel.dtype == np.float32
