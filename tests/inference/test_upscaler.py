"""What people give an upscaler and get: whole images, tiles, kinds of images, options and refusals."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dan_fast import load
from dan_fast.blur_kernels.known import known_kernel
from dan_fast.config import DANConfig
from dan_fast.errors import DanFastError
from dan_fast.fast_model.reach import network_reach
from dan_fast.inference import Upscaler, engine
from dan_fast.inference.canvas import _Written
from dan_fast.inference.crop import most_textured
from dan_fast.inference.tiling import LARGEST_HALO, default_halo, room, tile_side, tiles
from dan_fast.model import DAN
from dan_fast.model.blocks import ChannelAttention

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
    assert np.allclose(whole.kernel, tiled.kernel, atol=1e-7)


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
    whole = Upscaler(model)(image)
    tiled = Upscaler(model, tile=32, halo=Upscaler.full_halo(model.config))(image)
    assert np.allclose(whole.kernel, tiled.kernel, atol=1e-7)
    # float32 adds up in another order: rounding may fall to the other side.
    assert abs(whole.image.astype(int) - tiled.image).max() <= 1


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_of_a_deeper_network_to_rounding(scale, upsampler):
    """In float32, where an 8-bit image would hide what is less than a step."""
    deep = DAN(DANConfig(**{**TINY, "groups": 2, "blocks": 2, "estimator_blocks": 2, "upsampler": upsampler,
                            "group_residual": "doubled"}, scale=scale)).eval()
    image = torch.rand(3, 90, 75)
    whole, tiled = Upscaler(deep)(image), Upscaler(deep, tile=16, halo=network_reach(deep.config))(image)
    assert np.allclose(whole.kernel, tiled.kernel, rtol=1e-5, atol=1e-9)
    assert abs(whole.image - tiled.image).max() <= 1e-5 * whole.image.abs().max()


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_full_halo_is_no_larger_than_it_must_be(version, blocks, upsampler, monkeypatch):
    """With it the Estimator's sums are those of the whole image; with one pixel less, something is missing in them."""
    config = DANConfig(**{**TINY, "version": version, "groups": 1 if version == "v2" else 0, "blocks": blocks,
                          "estimator_blocks": blocks, "upsampler": upsampler})
    deep = DAN(config).double().eval()
    with torch.no_grad():
        for weight in deep.parameters():
            if weight.dim() == 4:
                weight *= 4  # what comes from far away must not drown in rounding
        for module in deep.modules():
            if isinstance(module, ChannelAttention):  # it averages over a tile, whatever the halo: not any more
                module.body[2].weight.zero_()
    image = torch.rand(3, 20, 180, dtype=torch.float64)  # the middle one of three tiles sees its halo and no more

    def sums(halo):
        upscaler, kept = Upscaler(deep, tile=60, halo=halo, iterations=1), []
        original = upscaler.plan.estimate_pooled
        monkeypatch.setattr(upscaler.plan, "estimate_pooled",
                            lambda pooled, pixels: kept.append(pooled) or original(pooled, pixels))
        upscaler.estimate_kernel(image)
        return kept[0]

    whole, halo = sums(60), Upscaler.full_halo(config)  # with 60 every tile sees the whole image
    assert halo < 60
    rounding, missing = ((sums(pixels) - whole).abs().max() / whole.abs().max() for pixels in (halo, halo - 1))
    assert rounding <= 1e-13 and missing >= 1e-10


@pytest.mark.parametrize("name", ["random", "default"])
def test_a_deep_network_differs_little_where_tiles_meet(name):
    torch.manual_seed(0)
    if name == "random":
        deep = DAN(DANConfig(**{**TINY, "groups": 5, "blocks": 5})).eval()
        assert default_halo(deep.config) == LARGEST_HALO < 2 * 25
    else:
        deep = load("default")
    image = photo(160, 160)
    whole, tiled = Upscaler(deep)(image), Upscaler(deep, tile=80)(image)
    difference = abs(whole.image.astype(int) - tiled.image)
    assert difference.max() <= 1  # measured: 0 to 1
    # Nor do the steps across the seams: they are those of the untiled image.
    for axis in (0, 1):
        steps = [np.diff(np.take(result.image.astype(int), (319, 320), axis), axis=axis) for result in (whole, tiled)]
        assert abs(steps[0] - steps[1]).mean() <= 0.05


def test_every_tile_uses_the_kernel_of_the_whole_image(model):
    """Texture on one side, none on the other: tiles by themselves would not agree."""
    image = np.full((64, 128, 3), 128, np.uint8)
    image[:, :64] = photo(64, 64)
    upscaler = Upscaler(model, tile=64, halo=network_reach(model.config))
    kernel = upscaler(image).kernel
    assert np.allclose(kernel, Upscaler(model)(image).kernel, atol=1e-7)
    for half in image[:, :64], image[:, 64:]:
        assert not np.allclose(kernel, Upscaler(model)(half).kernel, rtol=1e-3)
    assert np.array_equal(upscaler.estimate_kernel(image), kernel)


def test_tiles_are_computed_in_batches(model, monkeypatch):
    sizes = []
    original = Upscaler(model, tile=16).plan.__class__.prepare
    monkeypatch.setattr(Upscaler(model).plan.__class__, "prepare",
                        lambda plan, lr: sizes.append(tuple(lr.shape)) or original(plan, lr))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    Upscaler(model, tile=16, halo=4, iterations=1)(photo(64, 64), wants_kernel=False)
    assert sizes == [(3, 3, 24, 24)] * 5 + [(1, 3, 24, 24)]


def test_too_little_gpu_memory_halves_the_tile(model, monkeypatch):
    image = photo(100, 70)
    expected = Upscaler(model)(image)
    upscaler = Upscaler(model, tile=100, halo=network_reach(model.config))
    original = upscaler.plan.prepare

    def prepare(lr):
        if lr.shape[2] > 60:
            raise torch.OutOfMemoryError("out of memory")
        return original(lr)
    monkeypatch.setattr(upscaler.plan, "prepare", prepare)
    with pytest.warns(UserWarning, match="smaller tiles"):
        result = upscaler(image)
    assert abs(result.image.astype(int) - expected.image).max() <= 1
    monkeypatch.setattr(upscaler.plan, "prepare", lambda lr: prepare(torch.empty(1, 3, 100, 100)))
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning):
        upscaler(image)


def test_what_fitted_into_a_gpu_once_is_not_asked_for_again(model, monkeypatch):
    own, asked, given = Upscaler(model)._engine, [], []
    own.plan = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(own, "limits", lambda: asked.append(1) or engine.Limits(4000, None))
    for pixels in (50, 50, 40, 60, 60):
        own._within_memory(given.append, pixels)
    assert len(asked) == 2 and given == [engine.Limits(4000, None)] * 5

    def too_much(limits):
        if limits.room > 2000:
            raise torch.OutOfMemoryError("out of memory")
        return "done"
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(UserWarning, match="smaller tiles"):
        assert own._within_memory(too_much, 60) == "done"
    own._within_memory(given.append, 60)
    assert len(asked) == 3  # what does not fit any more is


def test_what_a_gpu_wrote_is_looked_at_when_it_is_complete(model):
    """Nothing waits for it before. The flags of views are the whole's."""
    canvas = Upscaler(model)._canvas(torch.zeros(2, 3, 4, 5, dtype=torch.uint8)).with_result()
    _, part = canvas.split()
    part.written.extend(_Written(torch.tensor(finite), torch.float16) for finite in (True, False))
    with pytest.raises(DanFastError, match=r"torch.float16 is too small for them: use float32"):
        canvas.complete()
    canvas.complete()  # said once
    canvas.write(torch.zeros(2, 3, 16, 20))  # a CPU has nothing to wait for
    assert not part.written


def test_memory_does_not_grow_with_the_image():
    """But for the image and the result."""
    program = """
import sys, numpy as np, torch
from dan_fast import DAN, DANConfig, Upscaler
from dan_fast.runtime.devices import peak_memory
torch.set_num_threads(2)
model = DAN(DANConfig(channels=16, groups=1, blocks=1, estimator_channels=16, estimator_blocks=1,
                      upsampler="direct", group_residual="plain"))
side = int(sys.argv[1])
Upscaler(model, tile=128, iterations=1)(np.zeros((side, side, 3), np.uint8), wants_kernel=False)
print(peak_memory(torch.device("cpu")))
"""
    small, large = (int(subprocess.run([sys.executable, "-c", program, str(side)], capture_output=True, text=True,
                                       check=True).stdout) for side in (300, 1200))
    assert large - small <= 3 * 1200**2 * 17 + 50_000_000


@pytest.mark.parametrize(("height", "width", "side"), [(100, 70, 32), (5, 200, 16), (33, 33, 33), (34, 67, 33)])
def test_cores_partition_the_image(height, width, side):
    covered = np.zeros((height, width), int)
    for tile in tiles(height, width, side, halo=7):
        covered[tile.core] += 1
        for core, window, length in zip(tile.core, tile.window, (height, width), strict=True):
            assert core.stop - core.start <= side
            assert 0 <= window.start <= max(0, core.start - 7)
            assert min(length, core.stop + 7) <= window.stop <= length
        assert np.zeros((height * 2, width * 2))[tile.core_in_output(2)].shape == \
            np.zeros([2 * (w.stop - w.start) for w in tile.window])[tile.core_in_window(2)].shape
    assert (covered == 1).all()
    windows = [tile.window for tile in tiles(height, width, side, halo=7)]
    assert len({(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in windows}) == 1


@pytest.mark.parametrize(("height", "width"), [(300, 500), (50, 500), (200, 193), (192, 192), (100, 40)])
def test_most_textured_window_lies_inside(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    image[height - 30:, width - 30:] = photo(30, 30)
    rows, columns = most_textured(image, 192)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (min(height, 192), min(width, 192))
    assert (rows.stop, columns.stop) == (height, width)


def test_the_automatic_tile_follows_the_budget_and_the_network():
    published, small = DANConfig(), DANConfig(**TINY)

    def side(config, budget, value_bytes=4):
        return tile_side(room(config, budget, value_bytes), default_halo(config))
    assert 64 <= side(published, 10**9) < side(published, 4 * 10**9) < side(small, 4 * 10**9)
    assert side(published, 10**9) < side(published, 10**9, 2) and side(published, 1) == 64


def test_what_is_free_of_the_memory_decides(model, monkeypatch):
    image, seen = photo(200, 200), []
    original = engine.tiles
    monkeypatch.setattr(engine, "tiles", lambda *args: seen.append(args) or original(*args))
    Upscaler(model)(image)
    assert not seen
    monkeypatch.setattr(engine, "budget", lambda device: 200 * 200 * 4 * 200)
    Upscaler(model)(image)
    assert seen and seen[0][2] < 200


# --- kinds of images ---------------------------------------------------------------------------------


def test_pil_images(model):
    image = photo(20, 30)
    expected = Upscaler(model)(image)
    for mode in ("RGB", "L"):
        pil = Image.fromarray(image).convert(mode)
        found = Upscaler(model)(pil)
        assert isinstance(found.image, Image.Image) and found.image.mode == mode and found.image.size == (120, 80)
        if mode == "RGB":
            assert np.array_equal(np.asarray(found.image), expected.image)
    deep = Image.fromarray(photo(20, 30, 1, np.uint16))
    assert deep.mode == "I;16" and Upscaler(model)(deep).image.mode == "I;16"
    with pytest.raises(DanFastError, match=r"RGBA.*convert"):
        Upscaler(model)(Image.fromarray(image).convert("RGBA"))


@pytest.mark.parametrize("tile", [None, 16])
def test_tensors(model, tile):
    image = photo(24, 20)
    expected = Upscaler(model, tile=tile)(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    one = Upscaler(model, tile=tile)(tensor)
    assert one.image.shape == (3, 96, 80) and one.image.dtype == torch.float32 and one.kernel.shape == (21, 21)
    assert abs(one.image.permute(1, 2, 0).numpy() * 255 - expected.image).max() <= 0.51
    assert one.image.min() >= 0 and one.image.max() <= 1
    other = torch.rand(3, 24, 20)
    both = Upscaler(model, tile=tile)(torch.stack([tensor, other]))
    assert both.image.shape == (2, 3, 96, 80) and both.kernel.shape == (2, 21, 21)
    for n, single in enumerate((one, Upscaler(model, tile=tile)(other))):
        assert torch.allclose(both.image[n], single.image, atol=1e-5)
        assert np.allclose(both.kernel[n], single.kernel, atol=1e-6)
    assert Upscaler(model)(tensor[:1]).image.shape == (1, 96, 80)
    assert Upscaler(model)(tensor.double()).image.dtype == torch.float64


def test_not_contiguous_and_read_only(model):
    image = photo(24, 40)
    for view in (image[:, ::-1], image[::2, 5:], image[..., ::-1], np.broadcast_to(image[:1], image.shape)):
        assert np.array_equal(Upscaler(model)(view).image, Upscaler(model)(view.copy()).image)


@pytest.mark.parametrize("tile", [None, 16])
def test_batches_of_one_size(model, tile):
    images = [photo(24, 20, seed=n) for n in range(3)]
    upscaler = Upscaler(model, tile=tile)
    for found, image in zip(upscaler.batch(images), images, strict=True):
        expected = upscaler(image)
        assert abs(found.image.astype(int) - expected.image).max() <= 1
        assert np.allclose(found.kernel, expected.kernel, atol=1e-6)
    assert upscaler.batch([]) == [] and upscaler.batch(images, wants_kernel=False)[0].kernel is None
    with pytest.raises(DanFastError, match="differ"):
        upscaler.batch([photo(24, 20), photo(20, 24)])


# --- options -----------------------------------------------------------------------------------------


def test_the_kernel_only_if_it_is_wanted(model):
    image = photo(40, 30)
    without = Upscaler(model)(image, wants_kernel=False)
    assert without.kernel is None and np.array_equal(without.image, Upscaler(model)(image).image)


@pytest.mark.parametrize("tile", [None, 16])
def test_a_known_kernel(model, tile):
    image = photo(40, 30)
    kernel = np.zeros((21, 21), np.float32)
    kernel[9:12, 8:13] = 1 / 15
    found = Upscaler(model, tile=tile)(image, kernel=kernel)
    with torch.no_grad():
        lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        expected = model.Restorer(lr, model.encode(torch.from_numpy(kernel)[None]))[0].permute(1, 2, 0)
    assert abs(found.image - expected.clamp(0, 1).numpy() * 255).max() <= (0.51 if tile is None else 1)
    assert np.allclose(found.kernel, kernel)
    small = kernel[8:13, 8:13]  # its middle stays the middle
    assert np.array_equal(Upscaler(model, tile=tile)(image, kernel=small).image, found.image)
    again = Upscaler(model, tile=tile)(image, kernel=known_kernel(small, 21))  # checked before
    assert np.array_equal(again.image, found.image) and np.array_equal(again.kernel, found.kernel)


@pytest.mark.parametrize(("kernel", "message"), [
    (np.ones((3, 3)), "sum is 9"), (np.ones((0, 0)), "square"), (np.ones((3, 5)) / 15, "square"),
    (np.ones((23, 23)) / 529, "at most 21"), (np.full((3, 3), np.nan), "not finite"),
    (np.array([["a"]]), "expected numbers"),
    (known_kernel(np.ones((3, 3)) / 9, 11), "kernel size 11, this one has 21")])
def test_refuses_other_kernels(model, kernel, message):
    with pytest.raises(DanFastError, match=message):
        Upscaler(model)(photo(8, 8), kernel=kernel)


def test_the_kernel_of_the_most_textured_crop(model):
    image = np.full((300, 320, 3), 128, np.uint8)
    image[96:224, 64:192] = photo(128, 128)
    crop = image[96:224, 64:192]
    for tile in (None, 100):
        upscaler = Upscaler(model, tile=tile, kernel_from="crop")
        found = upscaler(image)
        assert np.allclose(found.kernel, Upscaler(model)(crop).kernel, atol=1e-7)
        assert np.array_equal(upscaler.estimate_kernel(image), found.kernel)
        # The code is the one that the crop's own last pass used.
        with torch.no_grad():
            outputs = model.iterate(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255)
            lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            expected = model.Restorer(lr, outputs[-2].code)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
        assert abs(found.image - expected).max() <= (0.51 if tile is None else 1)
    small = photo(60, 128)  # is its own crop
    assert np.array_equal(Upscaler(model, kernel_from="crop")(small).image, Upscaler(model)(small).image)


def test_iterations_and_tolerance(model):
    image = photo(40, 30)
    with torch.no_grad():
        outputs = model.iterate(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255, 6)
    for count in (1, 6):
        found = Upscaler(model, iterations=count)(image)
        assert np.allclose(found.kernel, outputs[count - 1].kernel[0], atol=1e-6)
    stops_at_once = Upscaler(model, iterations=6, tolerance=2.0)(image)
    assert np.allclose(stops_at_once.kernel, outputs[0].kernel[0], atol=1e-6)
    tiled = Upscaler(model, iterations=6, tolerance=2.0, tile=16)(image)
    assert abs(tiled.image.astype(int) - stops_at_once.image).max() <= 1
    never = Upscaler(model, iterations=6, tolerance=0)(image)
    assert np.array_equal(never.image, Upscaler(model, iterations=6)(image).image)


@pytest.mark.parametrize("known", [False, True])
def test_the_ensemble_is_the_mean_over_turned_and_mirrored_images(model, known):
    image = photo(24, 31)
    kernel = np.random.default_rng(0).random((21, 21)).astype(np.float32) if known else None
    kernel = kernel / kernel.sum() if known else None
    total, kernels = 0, []
    for turns in range(4):
        for mirror in (lambda a: a, np.fliplr):
            turned = np.ascontiguousarray(mirror(np.rot90(image, turns)))
            tensor = torch.from_numpy(turned).permute(2, 0, 1).float() / 255
            its = None if kernel is None else np.ascontiguousarray(mirror(np.rot90(kernel, turns)))
            found = Upscaler(model)(tensor, kernel=its)
            total = total + np.rot90(mirror(found.image.permute(1, 2, 0).numpy()), -turns)
            kernels.append(np.rot90(mirror(found.kernel), -turns))
    result = Upscaler(model, ensemble=True)(image, kernel=kernel)
    assert abs(result.image - total / 8 * 255).max() <= 0.51
    assert np.allclose(result.kernel, np.mean(kernels, 0), atol=1e-6)
    tiled = Upscaler(model, ensemble=True, tile=16)(image, kernel=kernel)
    assert abs(tiled.image.astype(int) - result.image).max() <= 1


def test_stats_say_what_was_done(model):
    upscaler = Upscaler(model)
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
def test_refuses_other_images(model, image):
    with pytest.raises(DanFastError, match="expected"):
        Upscaler(model)(image)


@pytest.mark.parametrize("tile", [0, 15, -1, 64.0, True, "64"])
def test_refuses_a_tile_that_is_too_small_or_no_number(model, tile):
    with pytest.raises(DanFastError, match="tile="):
        Upscaler(model, tile=tile)


@pytest.mark.parametrize("options", [
    {"halo": -1}, {"halo": 2.0}, {"iterations": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")},
    {"kernel_from": "tile"}], ids=str)
def test_refuses_impossible_options(model, options):
    with pytest.raises(DanFastError, match=next(iter(options))):
        Upscaler(model, **options)


@pytest.mark.parametrize("tensor", [
    torch.zeros(3, 4), torch.zeros(2, 4, 4), torch.zeros(3, 0, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)], ids=str)
def test_refuses_other_tensors(model, tensor):
    with pytest.raises(DanFastError, match="expected"):
        Upscaler(model)(tensor)


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
