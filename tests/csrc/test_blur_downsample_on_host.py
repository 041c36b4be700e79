"""The CUDA kernels of ``blur_downsample`` compiled for the CPU: every thread, barrier and launch, without a GPU.

``cuda_on_host.h`` says how. This shows that the kernels compute the right thing and touch only their own memory;
how fast they are it does not.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dan_fast.ops.blur_downsample import blur_downsample_ref
from dan_fast.ops.resize import resize_taps

SOURCE = Path(__file__).with_name("blur_downsample_on_host.cpp")
BOUND = {torch.float32: 1e-5, torch.float64: 1e-12}


def build(folder: Path, sanitizers: str) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernels for the CPU")
    program = folder / "on_host"
    command = [compiler, "-std=c++17", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-pthread",
               f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", str(SOURCE), "-o", str(program)]
    result = subprocess.run(command, capture_output=True, text=True)
    if "cannot find" in result.stderr:
        pytest.skip(f"g++ has no -fsanitize={sanitizers} here")
    assert result.returncode == 0, result.stderr
    return program


@pytest.fixture(scope="module")
def on_host(tmp_path_factory) -> Path:
    """Stops at any access outside a buffer."""
    return build(tmp_path_factory.mktemp("address"), "address,undefined")


@pytest.fixture(scope="module")
def on_host_racecheck(tmp_path_factory) -> Path:
    """Stops when two threads use the same memory with no barrier between."""
    return build(tmp_path_factory.mktemp("thread"), "thread")


def run(program: Path, images: Tensor, kernel: Tensor, scale: int, size: tuple[int, int] | None = None,
        plain: bool = False) -> Tensor:
    """Forward, or with ``size``, the height and width of the gradient, backward."""
    height, width = size or images.shape[2:]
    # The taps of any pixel far from borders; the table leaves zeros out.
    weights, indices = resize_taps(64 * scale, Fraction(1, scale))
    used = weights[32].abs() > 1e-12
    offsets = indices[32, used] - 32 * scale
    first = int(offsets[0])
    taps = torch.zeros(int(offsets[-1]) - first + 1, dtype=torch.float64)
    taps[offsets - first] = weights[32, used]
    header = struct.pack("11q", images.dtype == torch.float64, size is not None, plain, *images.shape[:2], height,
                         width, kernel.shape[1], scale, first, len(taps))
    data = b"".join(x.to(images.dtype).contiguous().numpy().tobytes() for x in (taps, kernel, images))
    result = subprocess.run([str(program)], input=header + data, capture_output=True)
    if b"unexpected memory mapping" in result.stderr:
        pytest.skip("this kernel's address layout is not for g++'s thread sanitizer")
    assert result.returncode == 0, result.stderr.decode()
    out = torch.frombuffer(bytearray(result.stdout), dtype=images.dtype)
    return out.view(*images.shape[:2], *(size or (height // scale, width // scale)))


def check(program: Path, batch: int, channels: int, height: int, width: int, k: int, scale: int,
          dtype=torch.float32, plain: bool = False) -> None:
    """Forward and backward against the reference in double precision; kernels of any sign, sum 1."""
    hr = torch.rand(batch, channels, height, width, dtype=dtype)
    kernel = torch.rand(batch, k, k, dtype=dtype) - 0.2
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    exact_hr = hr.double().clone().requires_grad_()
    exact = blur_downsample_ref(exact_hr, kernel.double(), scale)
    grad = torch.rand(exact.shape, dtype=dtype)
    exact_grad = torch.autograd.grad(exact, exact_hr, grad.double())[0]
    assert (run(program, hr, kernel, scale, plain=plain) - exact).abs().max() <= BOUND[dtype]
    assert (run(program, grad, kernel, scale, (height, width), plain) - exact_grad).abs().max() <= BOUND[dtype]


# Sizes: more than one tile of 32 x 16 both ways, and a width that is a multiple of 4 or not.
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 5, 11, 12, 20, 31])
def test_tiles(on_host, k, scale):
    check(on_host, 1, 2, 18 * scale, 35 * scale, k, scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 4, 21])
def test_images_as_small_as_the_kernel_allows(on_host, k, scale):
    side = (k // 2 // scale + 1) * scale
    check(on_host, 2, 1, side, side + scale, k, scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("height", [1, 2, 4, 5])
def test_fewer_rows_than_classes(on_host, height, scale):
    check(on_host, 1, 1, height * scale, 9 * scale, 2, scale)
    check(on_host, 1, 1, 9 * scale, height * scale, 2, scale)


def test_every_image_has_its_own_filters(on_host):
    check(on_host, 3, 3, 28, 20, 7, 2)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_kernels(on_host, scale, dtype):
    check(on_host, 2, 2, 9 * scale, 11 * scale, 8, scale, dtype, plain=True)


def test_kernels_larger_than_any_tile(on_host):
    check(on_host, 1, 1, 40, 44, 37, 4)


@pytest.mark.parametrize("scale, k", [(1, 11), (2, 21), (3, 11), (4, 21), (4, 31)])
def test_no_races(on_host_racecheck, scale, k):
    check(on_host_racecheck, 1, 1, 18 * scale, 34 * scale, k, scale)
