"""The upscaler on a GPU against the model on the CPU: kernels, graphs, streams, tiles."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import dan_fast
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
    """At most twice the error of the plain model in that precision on the same GPU."""
    model = network(name)
    low = network(name).to("cuda", dtype)
    pixels = image(48, 64)
    _, exact = plain(model, pixels)
    lr = torch.from_numpy(pixels).permute(2, 0, 1)[None].to("cuda", dtype) / 255
    with torch.inference_mode():
        own = low(lr, 1).sr.cpu().float()
        expected = model(lr.cpu().float(), 1).sr
    found = dan_fast.Upscaler(model, device="cuda", dtype=dtype, iterations=1)(lr.float().cpu()).image[None]

    def error(result):
        return (result.clamp(0, 1) - expected.clamp(0, 1)).square().mean().sqrt()
    assert error(found) <= 2 * error(own) and exact.sr.isfinite().all()


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
