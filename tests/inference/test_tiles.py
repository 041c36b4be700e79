"""Large images in tiles: the same result, within the memory there is."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.networks import REFINER, tiny_config, tiny_network
from support.photos import photo

from dan_fast import load
from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.config import DANConfig
from dan_fast.errors import DanFastError
from dan_fast.fast_model.reach import network_reach
from dan_fast.inference import Upscaler, engine
from dan_fast.inference.canvas import _Written
from dan_fast.inference.crop import most_textured
from dan_fast.inference.tiling import LARGEST_HALO, default_halo, room, tile_side, tiles
from dan_fast.model import DAN
from dan_fast.model.blocks import ChannelAttention


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(100, 70), (33, 129), (16, 190)])
def test_tiles_equal_the_whole_when_the_halo_reaches_as_far_as_the_network(tiny_model, size, dtype):
    image = photo(*size, dtype=dtype)
    whole = Upscaler(tiny_model)(image)
    tiled = Upscaler(tiny_model, tile=32, halo=Upscaler.full_halo(tiny_model.config))(image)
    assert np.allclose(whole.kernel, tiled.kernel, atol=1e-7)
    # float32 adds up in another order: rounding may fall to the other side.
    assert abs(whole.image.astype(int) - tiled.image).max() <= 1


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_tiles_of_a_deeper_network_to_rounding(scale, upsampler):
    """In float32, where an 8-bit image would hide what is less than a step."""
    deep = DAN(tiny_config(groups=2, blocks=2, estimator_blocks=2, upsampler=upsampler, group_residual="doubled",
                           scale=scale)).eval()
    image = torch.rand(3, 90, 75)
    whole, tiled = Upscaler(deep)(image), Upscaler(deep, tile=16, halo=network_reach(deep.config))(image)
    assert np.allclose(whole.kernel, tiled.kernel, rtol=1e-5, atol=1e-9)
    assert abs(whole.image - tiled.image).max() <= 1e-5 * whole.image.abs().max()


@pytest.mark.parametrize("known", [False, True])
def test_tiles_of_a_network_with_a_refiner(known):
    refining = tiny_network(**REFINER).eval()
    image = torch.rand(3, 90, 75)
    kernel = gaussian_kernels(torch.tensor([1.5]), 21)[0].numpy() if known else None
    whole, tiled = (Upscaler(refining, **options)(image, kernel=kernel) for options in (
        {}, {"tile": 16, "halo": Upscaler.full_halo(refining.config)}))
    assert abs(whole.image - tiled.image).max() <= 1e-5 * whole.image.abs().max()
    narrow = Upscaler(refining, tile=16, halo=4)(image, kernel=kernel)
    assert abs(whole.image - narrow.image).max() > 1e-4


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_full_halo_is_no_larger_than_it_must_be(version, blocks, upsampler, monkeypatch):
    """With it the Estimator's sums are those of the whole image; with one pixel less, something is missing in them."""
    config = tiny_config(version=version, groups=1 if version == "v2" else 0, blocks=blocks, estimator_blocks=blocks,
                         upsampler=upsampler)
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
        upscaler, found = Upscaler(deep, tile=60, halo=halo, iterations=1), []
        original = upscaler.plan.estimate_pooled
        monkeypatch.setattr(upscaler.plan, "estimate_pooled",
                            lambda pooled, pixels: found.append(pooled) or original(pooled, pixels))
        upscaler.estimate_kernel(image)
        return found[0]

    whole, halo = sums(60), Upscaler.full_halo(config)  # with 60 every tile sees the whole image
    assert halo < 60
    rounding, missing = ((sums(pixels) - whole).abs().max() / whole.abs().max() for pixels in (halo, halo - 1))
    assert rounding <= 1e-13 and missing >= 1e-10


@pytest.mark.parametrize("name", ["random", "default"])
def test_a_deep_network_differs_little_where_tiles_meet(name):
    torch.manual_seed(0)
    if name == "random":
        deep = DAN(tiny_config(groups=5, blocks=5)).eval()
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


def test_every_tile_uses_the_kernel_of_the_whole_image(tiny_model):
    """Texture on one side, none on the other: tiles by themselves would not agree."""
    image = np.full((64, 128, 3), 128, np.uint8)
    image[:, :64] = photo(64, 64)
    upscaler = Upscaler(tiny_model, tile=64, halo=network_reach(tiny_model.config))
    kernel = upscaler(image).kernel
    assert np.allclose(kernel, Upscaler(tiny_model)(image).kernel, atol=1e-7)
    for half in image[:, :64], image[:, 64:]:
        assert not np.allclose(kernel, Upscaler(tiny_model)(half).kernel, rtol=1e-3)
    assert np.array_equal(upscaler.estimate_kernel(image), kernel)


def test_tiles_are_computed_in_batches(tiny_model, monkeypatch):
    sizes = []
    original = Upscaler(tiny_model, tile=16).plan.__class__.prepare
    monkeypatch.setattr(Upscaler(tiny_model).plan.__class__, "prepare",
                        lambda plan, lr: sizes.append(tuple(lr.shape)) or original(plan, lr))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    Upscaler(tiny_model, tile=16, halo=4, iterations=1)(photo(64, 64), wants_kernel=False)
    assert sizes == [(3, 3, 24, 24)] * 5 + [(1, 3, 24, 24)]


def test_too_little_gpu_memory_halves_the_tile(tiny_model, monkeypatch):
    image = photo(100, 70)
    expected = Upscaler(tiny_model)(image)
    upscaler = Upscaler(tiny_model, tile=100, halo=network_reach(tiny_model.config))
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


def test_what_fitted_into_a_gpu_once_is_not_asked_for_again(tiny_model, monkeypatch):
    upscaler, asked, used = Upscaler(tiny_model), [], []
    own = upscaler._engine

    def canvas(pixels):
        return upscaler._canvas(torch.zeros(1, 3, 1, pixels, dtype=torch.uint8))
    own.plan = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(own, "limits", lambda: asked.append(1) or engine.Limits(4000, None))
    for pixels in (50, 50, 40, 60, 60):
        own._within_memory(used.append, canvas(pixels))
    assert len(asked) == 2 and used == [engine.Limits(4000, None)] * 5

    def too_much(limits):
        if limits.room > 2000:
            raise torch.OutOfMemoryError("out of memory")
        return "done"
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(UserWarning, match="smaller tiles"):
        assert own._within_memory(too_much, canvas(60)) == "done"
    own._within_memory(used.append, canvas(60))
    assert len(asked) == 3  # limits that did not fit are forgotten


def test_what_a_gpu_wrote_is_looked_at_when_it_is_complete(tiny_model):
    """Nothing waits for it before. Views share the list of what was written."""
    canvas = Upscaler(tiny_model)._canvas(torch.zeros(2, 3, 4, 5, dtype=torch.uint8)).with_result()
    _, part = canvas.split()
    part.written.extend(_Written(torch.tensor(finite), torch.float16) for finite in (True, False))
    with pytest.raises(DanFastError, match=r"torch.float16 is too small for them: use float32"):
        canvas.complete()
    canvas.complete()  # raised once only
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
    published, small = DANConfig(), tiny_config()

    def side(config, budget, value_bytes=4):
        return tile_side(room(config, budget, value_bytes), default_halo(config))
    assert 64 <= side(published, 10**9) < side(published, 4 * 10**9) < side(small, 4 * 10**9)
    assert side(published, 10**9) < side(published, 10**9, 2) and side(published, 1) == 64


def test_what_is_free_of_the_memory_decides(tiny_model, monkeypatch):
    image, seen = photo(200, 200), []
    original = engine.tiles
    monkeypatch.setattr(engine, "tiles", lambda *args: seen.append(args) or original(*args))
    Upscaler(tiny_model)(image)
    assert not seen
    monkeypatch.setattr(engine, "budget", lambda device: 200 * 200 * 4 * 200)
    Upscaler(tiny_model)(image)
    assert seen and seen[0][2] < 200
