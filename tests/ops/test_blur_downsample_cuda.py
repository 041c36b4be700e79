"""``blur_downsample`` on a GPU against the reference in double precision, and its place in streams and graphs.

Without a GPU, ``test_blur_downsample_on_host.py`` runs the same kernels on the CPU.
"""

from __future__ import annotations

import dan_fast_kernels
import pytest
import torch
from torch import Tensor

from dan_fast.ops import blur_downsample
from dan_fast.ops.blur_downsample import blur_downsample_ref

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)
if dan_fast_kernels.EXTENSION is None or not hasattr(torch.ops.dan_fast, "blur_downsample_backward_hr"):
    pytest.skip("the extension is not built with CUDA", allow_module_level=True)

BOUND = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}


def case(batch: int, channels: int, height: int, width: int, k: int, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    kernel = torch.rand(batch, k, k)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    return torch.rand(batch, channels, height, width).to("cuda", dtype), kernel.to("cuda", dtype)


def exact(hr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The reference on the CPU, as cuDNN may compute in TF32."""
    return blur_downsample_ref(hr.cpu().double().contiguous(), kernel.cpu().double(), scale)


def backward(grad: Tensor, kernel: Tensor, scale: int, height: int, width: int) -> Tensor:
    return torch.ops.dan_fast.blur_downsample_backward_hr(grad, kernel, scale, height, width)


def assert_like_reference(hr: Tensor, kernel: Tensor, scale: int) -> None:
    out = blur_downsample(hr, kernel, scale)
    assert out.dtype == hr.dtype and out.is_contiguous()
    assert (out.cpu() - exact(hr, kernel, scale)).abs().max() <= BOUND[hr.dtype]

    grad = torch.rand(out.shape).to(hr)
    on_cpu = hr.cpu().double().requires_grad_()
    expected = torch.autograd.grad(exact_with_gradient(on_cpu, kernel, scale), on_cpu, grad.cpu().double())[0]
    found = backward(grad, kernel, scale, *hr.shape[2:])
    assert found.dtype == hr.dtype and found.shape == hr.shape
    assert (found.cpu() - expected).abs().max() <= BOUND[hr.dtype]


def exact_with_gradient(hr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    return blur_downsample_ref(hr, kernel.cpu().double(), scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 2, 10, 11, 12, 21, 30, 31, 33])
def test_matches_reference(k, scale):
    assert_like_reference(*case(2, 3, 40 * scale, 70 * scale, k), scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_dtypes(scale, dtype):
    assert_like_reference(*case(2, 3, 24, 36, 8, dtype), scale)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 5, 14, 31])
def test_images_as_small_as_the_kernel_allows(k, scale):
    side = (k // 2 // scale + 1) * scale
    assert_like_reference(*case(1, 1, side, side + scale, k), scale)


@pytest.mark.parametrize("hr_of", [
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: x[:, 1:, ::2, 4:],
    lambda x: x.flatten()[1:-3].view(1, 1, 4, -1)[..., :4096],  # not aligned to 16 bytes
], ids=["channels_last", "sliced", "unaligned"])
def test_any_strides(hr_of):
    hr, kernel = case(1, 3, 144, 136, 7)
    assert_like_reference(hr_of(hr), kernel, 4)


def test_training_size():
    assert_like_reference(*case(16, 3, 256, 256, 21), 4)


def test_gradients_repeat_bit_by_bit():
    grad, kernel = case(4, 3, 64, 64, 21)
    assert torch.equal(backward(grad, kernel, 4, 256, 256), backward(grad, kernel, 4, 256, 256))


def test_wrong_gradients_are_refused():
    grad, kernel = case(1, 3, 8, 8, 3)
    with pytest.raises(RuntimeError, match="not that of"):
        backward(grad, kernel, 4, 32, 36)


def test_runs_on_the_current_stream():
    hr, kernel = case(4, 3, 128, 128, 21)
    expected = exact(hr, kernel, 4)
    late = torch.zeros_like(hr)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(hr)
        out = blur_downsample(late, kernel, 4)
    stream.synchronize()
    assert (out.cpu() - expected).abs().max() <= BOUND[torch.float32]


def test_can_be_captured():
    hr, kernel = case(2, 3, 96, 80, 21)

    def step() -> tuple[Tensor, Tensor]:
        out = blur_downsample(hr, kernel, 4)
        return out, backward(out, kernel, 4, 96, 80)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    other_hr, other_kernel = case(2, 3, 96, 80, 21)
    hr.copy_(other_hr)
    kernel.copy_(other_kernel)
    graph.replay()
    for a, b in zip(found, step(), strict=True):
        assert torch.equal(a, b)


def test_memory_is_the_output_and_the_filters():
    hr, kernel = case(8, 3, 256, 256, 21)
    blur_downsample(hr, kernel, 4)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    out = blur_downsample(hr, kernel, 4)
    filters = 8 * 25 * 36 * 48 * 4  # 25 of 36 x 36 taps an image, rows padded from 36 to 48
    assert torch.cuda.max_memory_allocated() - before <= out.numel() * 4 + filters + 4096
