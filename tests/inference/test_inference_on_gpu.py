"""The upscaler on a GPU against the model on the CPU: kernels, graphs, streams, tiles."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.rounding import RoundedTo

import dan_fast
from dan_fast.errors import DanFastError
from dan_fast.model import DAN

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

NETWORKS = ["default", "v1", "v2"]


def network(name):
    torch.manual_seed(0)
    if name == "default":
        return dan_fast.load("default")
    return DAN(dan_fast.DANConfig(version=name, blocks=3, **({"groups": 2} if name == "v2" else {}))).eval()


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def plain(model, pixels):
    with torch.inference_mode():
        out = model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    return out.sr[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255, out


@pytest.fixture(autouse=True)
def exact_convolutions():
    before = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "ieee"
    yield
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_and_its_graphs(name):
    model = network(name)
    upscaler = dan_fast.Upscaler(model, device="cuda")
    for seed in range(4):
        pixels = image(40, 56, seed)
        found, (expected, out) = upscaler(pixels), plain(model, pixels)
        assert abs(found.image - expected).max() <= 1
        if out.kernel is not None:
            assert np.allclose(found.kernel, out.kernel[0], atol=1e-5)
    stats = upscaler.stats()
    assert stats.graphs.captured == 1 and stats.graphs.hits == 2 and stats.graphs.memory >= 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_low_precision(name, dtype):
    """At most twice the error of rounding after every layer."""
    exact = network(name).double()
    lr = torch.from_numpy(image(48, 64)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        expected = exact(lr.double(), 1).sr
        with RoundedTo(dtype):
            rounded = copy.deepcopy(exact).to(dtype).double()(lr.double(), 1).sr
    found = dan_fast.Upscaler(network(name), device="cuda", dtype=dtype, iterations=1)(lr).image[None]

    def error(result):
        return (result.clamp(0, 1) - expected.clamp(0, 1)).square().mean().sqrt()
    assert error(found.double()) <= 2 * error(rounded)


def test_tiles():
    model = network("v2")
    pixels = image(150, 130)
    whole = dan_fast.Upscaler(model, device="cuda")(pixels)
    halo = dan_fast.Upscaler.full_halo(model.config)
    tiled = dan_fast.Upscaler(model, device="cuda", tile=64, halo=halo)(pixels)
    assert abs(whole.image.astype(int) - tiled.image).max() <= 1
    assert np.allclose(whole.kernel, tiled.kernel, atol=1e-5)


def test_threads_and_streams():
    model = network("default")
    upscaler = dan_fast.Upscaler(model, device="cuda")
    images = [image(32 + 8 * (n % 3), 40, n) for n in range(6)]
    expected = [plain(model, pixels)[0] for pixels in images]
    wrong = []

    def work(stream):
        with torch.cuda.stream(stream):
            for _ in range(5):
                for pixels, right in zip(images, expected, strict=True):
                    if abs(upscaler(pixels).image - right).max() > 1:
                        wrong.append(pixels.shape)
    threads = [threading.Thread(target=work, args=(torch.cuda.Stream(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_tensors_stay_on_the_gpu():
    upscaler = dan_fast.Upscaler(network("default"), device="cuda")
    found = upscaler(torch.rand(2, 3, 20, 24, device="cuda"))
    assert found.image.is_cuda and found.image.shape == (2, 3, 80, 96) and found.kernel.shape == (2, 21, 21)
    deep = upscaler(np.random.default_rng(0).integers(0, 65536, (20, 24, 3), np.uint16))
    assert deep.image.dtype == np.uint16


def test_two_upscalers_in_two_threads():
    """One captures while the other replays."""
    upscalers = [dan_fast.Upscaler(network("default"), device="cuda") for _ in range(2)]
    images = [image(32 + 8 * n, 40, n) for n in range(6)]
    expected = [plain(network("default"), pixels)[0] for pixels in images]
    wrong = []

    def work(upscaler):
        for pixels, right in zip(images, expected, strict=True):
            for _ in range(5):
                if abs(upscaler(pixels).image - right).max() > 1:
                    wrong.append(pixels.shape)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, upscalers))  # raises what a thread raised
    assert not wrong and all(upscaler.stats().graphs.captured for upscaler in upscalers)


def test_a_replayed_graph_reports_all_iterations_at_once():
    upscaler, pixels = dan_fast.Upscaler(network("default"), device="cuda"), image(32, 40, 0)
    for _ in range(3):  # launched one by one, captured, replayed
        seen = []
        upscaler(pixels, progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == [(4 * 32 * 40,) * 2]


def test_a_dropped_upscaler_gives_its_memory_back():
    gc.collect()
    upscaler = dan_fast.Upscaler(network("default"), device="cuda")
    for _ in range(3):
        upscaler(image(64, 64))
    assert upscaler.stats().graphs.captured == 1
    gone, held = weakref.ref(upscaler._engine.graphs), torch.cuda.memory_allocated()
    del upscaler
    assert gone() is None and torch.cuda.memory_allocated() < held


def test_results_are_written_by_the_gpu_into_pinned_memory():
    canvas = dan_fast.Upscaler(network("default"), device="cuda")._canvas(torch.zeros(1, 3, 8, 9, dtype=torch.uint8))
    canvas = canvas.with_result()
    assert canvas.result.is_pinned()
    canvas.write(torch.full((1, 3, 32, 36), 0.5, device="cuda").contiguous(memory_format=torch.channels_last))
    canvas.write(torch.full((1, 3, 4, 4), torch.nan, device="cuda"), slice(0, 4), slice(0, 4))
    with pytest.raises(DanFastError, match="not finite"):
        canvas.complete()
    assert (canvas.result[..., 4:, 4:] == 128).all()


@pytest.mark.parametrize("left_out", ["inference_graphs", "conv3x3,convolution,upsampler,condition_path,estimator_tail",
                                      "descriptors", "programmatic_launch"])
def test_parts_that_are_left_out(monkeypatch, left_out):
    model, pixels = network("v2"), image(40, 56)
    expected = dan_fast.Upscaler(model, device="cuda")(pixels)
    monkeypatch.setenv("DAN_FAST_WITHOUT", left_out)
    upscaler = dan_fast.Upscaler(model, device="cuda")
    for _ in range(3):
        assert abs(upscaler(pixels).image.astype(int) - expected.image).max() <= 1
    assert bool(upscaler.stats().graphs.captured) == (left_out != "inference_graphs")
