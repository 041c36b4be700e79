"""The operator ``blur_downsample``: the compiled code against the reference, and its place in PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from fractions import Fraction

import dan_fast_kernels
import pytest
import torch
from safetensors.torch import load_file

from dan_fast.degradation.blur import blur
from dan_fast.degradation.resize import bicubic_resize
from dan_fast.ops import blur_downsample
from dan_fast.ops.blur_downsample import blur_downsample_ref

BOUND = 1e-5


@pytest.fixture
def native():
    """Skips without the compiled operator, or fails where it is required (DAN_FAST_REQUIRE_EXTENSION=1)."""
    if dan_fast_kernels.EXTENSION is None:
        message = f"the extension is not built: {dan_fast_kernels.WHY_NOT}"
        if os.environ.get("DAN_FAST_REQUIRE_EXTENSION") == "1":
            pytest.fail(message)
        pytest.skip(message)


def case(batch: int, channels: int, height: int, width: int, k: int, dtype=torch.float32):
    """Random images in [0, 1] and kernels with sum 1."""
    hr = torch.rand(batch, channels, height, width, dtype=dtype)
    kernel = torch.rand(batch, k, k, dtype=dtype)
    return hr, kernel / kernel.sum((1, 2), keepdim=True)


def assert_like_reference(hr, kernel, scale, bound=BOUND):
    out = blur_downsample(hr, kernel, scale)
    expected = blur_downsample_ref(hr.contiguous(), kernel.contiguous(), scale)
    assert out.shape == expected.shape and out.dtype == hr.dtype and out.is_contiguous()
    assert (out - expected).abs().max() <= bound


# The compiled code against the reference

@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 10, 11, 16, 21, 30, 31])
def test_matches_reference(native, k, scale, dtype):
    assert_like_reference(*case(2, 3, 24, 84, k, dtype), scale)  # 84: one whole block of 64 values and a rest


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 2, 5, 14, 31])
def test_smallest_image_that_a_kernel_allows(native, k, scale):
    side = (k // 2 // scale + 1) * scale
    assert_like_reference(*case(1, 1, side, side + scale, k), scale)


@pytest.mark.parametrize("hr_of", [
    lambda x: x.to(memory_format=torch.channels_last),
    lambda x: x.transpose(2, 3),
    lambda x: x[:, 1:, ::2, 4:],
    lambda x: x[:1].expand_as(x),
    lambda x: x.flip(3)[:, :, :, :24],
], ids=["channels_last", "transposed", "sliced", "expanded", "flipped"])
def test_any_strides(native, hr_of):
    hr, kernel = case(3, 3, 48, 36, 9)
    assert_like_reference(hr_of(hr), kernel.transpose(1, 2), 4)


def test_one_kernel_for_the_whole_batch(native):
    hr, kernel = case(3, 2, 16, 16, 5)
    assert_like_reference(hr, kernel[:1].expand(3, -1, -1), 2)


@pytest.mark.parametrize("dtype, bound", [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_16_bit_images_are_computed_in_float32(native, dtype, bound):
    hr, kernel = case(2, 3, 24, 24, 21, dtype)
    exact = blur_downsample_ref(hr.double(), kernel.double(), 4)
    assert (blur_downsample(hr, kernel, 4) - exact).abs().max() <= bound


def test_every_image_depends_on_itself_alone(native):
    """NaN in one image stays there, so every output value is written and none reads beyond its plane."""
    hr, kernel = case(3, 2, 20, 28, 11)
    expected = blur_downsample(hr, kernel, 4)
    hr[1], kernel[1] = torch.nan, torch.nan
    out = blur_downsample(hr, kernel, 4)
    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], expected[[0, 2]])


def test_memory_around_the_image_is_not_read(native):
    hr, kernel = case(1, 2, 20, 28, 11)
    buffer = torch.full((hr.numel() + 2000,), torch.nan)
    inside = buffer[1000:-1000].view_as(hr).copy_(hr)
    assert torch.equal(blur_downsample(inside, kernel, 4), blur_downsample(hr, kernel, 4))


def test_number_of_threads_changes_no_bit(native):
    hr, kernel = case(2, 3, 96, 88, 21)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(blur_downsample(hr, kernel, 4))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8)])
def test_nothing_in_nothing_out(native, shape):
    assert blur_downsample(torch.empty(shape), torch.ones(shape[0], 3, 3), 4).shape == (*shape[:2], 2, 2)


@pytest.mark.parametrize("hr, kernel, scale, says", [
    ((8, 8), (1, 3, 3), 4, "dimensions"),
    ((1, 3, 8, 8), (1, 3, 5), 4, r"\(B, k, k\)"),
    ((1, 3, 8, 8), (2, 3, 3), 4, "2 kernels for 1 images"),
    ((1, 3, 8, 8), (1, 3, 3), 5, "scale is 5"),
    ((1, 3, 8, 9), (1, 3, 3), 4, "multiples"),
    ((1, 3, 4, 8), (1, 9, 9), 4, "more than 4 pixels"),
])
def test_compiled_code_guards_itself(native, hr, kernel, scale, says):
    with pytest.raises(RuntimeError, match=says):
        torch.ops.dan_fast.blur_downsample(torch.rand(hr), torch.rand(kernel), scale)


def test_compiled_code_refuses_whole_numbers(native):
    with pytest.raises(RuntimeError, match="float32 or float64"):
        torch.ops.dan_fast.blur_downsample(torch.ones(1, 3, 8, 8).int(), torch.ones(1, 3, 3).int(), 4)


# With or without the compiled code

@pytest.mark.parametrize("index", [0, 1, 2])
def test_parity_with_published_results(shared, index):
    data = load_file(shared / "parity" / "degradation.safetensors")
    hr, kernel, scale, lr = (data[f"{index}.{name}"] for name in ("hr", "kernel", "scale", "lr"))
    assert (blur_downsample(hr, kernel, int(scale)) - lr).abs().max() <= BOUND


def test_reference_is_blur_then_resize():
    hr, kernel = case(2, 3, 24, 36, 5)
    assert torch.equal(blur_downsample_ref(hr, kernel, 3), bicubic_resize(blur(hr, kernel), Fraction(1, 3)))


def test_gradients_are_those_of_the_reference():
    hr, kernel = (x.requires_grad_() for x in case(2, 3, 24, 20, 6, torch.float64))
    weight = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    expected = torch.autograd.grad((blur_downsample_ref(hr, kernel, 4) * weight).sum(), (hr, kernel))
    found = torch.autograd.grad((blur_downsample(hr, kernel, 4) * weight).sum(), (hr, kernel))
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-12


@pytest.mark.parametrize("learns", [(True, False), (False, True), (True, True)])
def test_gradcheck(learns):
    inputs = [x.requires_grad_(flag) for x, flag in zip(case(2, 1, 6, 8, 4, torch.float64), learns, strict=True)]
    assert torch.autograd.gradcheck(lambda hr, kernel: blur_downsample(hr, kernel, 2), inputs)


@pytest.mark.parametrize("scale", [2, 3])
def test_opcheck(scale):
    hr, kernel = (x.requires_grad_() for x in case(2, 3, 24, 36, 5))
    torch.library.opcheck(torch.ops.dan_fast.blur_downsample.default, (hr, kernel, scale))


def test_compiles_as_one_graph():
    def loss(hr, kernel):
        return blur_downsample(hr, kernel, 4).square().mean()

    hr, kernel = (x.requires_grad_() for x in case(2, 3, 24, 16, 7))
    expected = torch.autograd.grad(loss(hr, kernel), (hr, kernel))
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(hr, kernel), (hr, kernel))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_kernels_of_another_dtype_are_converted():
    hr, kernel = case(1, 3, 16, 16, 5, torch.float64)
    assert torch.equal(blur_downsample(hr, kernel.float(), 2), blur_downsample(hr, kernel.float().double(), 2))


def test_works_without_the_extension():
    """In a fresh process whose kernels say that there is no extension."""
    code = """
        import sys, types
        sys.modules["dan_fast_kernels"] = types.SimpleNamespace(EXTENSION=None, WHY_NOT="test", __version__=VERSION)
        import torch
        from dan_fast.ops.blur_downsample import blur_downsample, blur_downsample_ref
        hr, kernel = torch.rand(2, 3, 24, 16, requires_grad=True), torch.rand(2, 7, 7)
        out = blur_downsample(hr, kernel, 4)
        assert torch.equal(out, blur_downsample_ref(hr, kernel, 4))
        out.sum().backward()
        assert hr.grad.abs().sum() > 0
        compiled = torch.compile(blur_downsample, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(hr, kernel, 4), out)
    """
    code = textwrap.dedent(code).replace("VERSION", repr(dan_fast_kernels.__version__))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("hr, kernel, scale, says", [
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3), 5, "scale=5"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3), 2.0, "scale=2.0"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3), True, "scale=True"),
    (torch.rand(3, 8, 8), torch.rand(1, 3, 3), 2, r"hr\[None\]"),
    (torch.ones(1, 3, 8, 8).byte(), torch.rand(1, 3, 3), 2, "hr is torch.uint8"),
    (torch.rand(1, 3, 8, 8), torch.ones(1, 3, 3).int(), 2, "kernel is torch.int32"),
    (torch.rand(1, 3, 8, 8), torch.rand(3, 3), 2, r"expected \(B, k, k\)"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 5), 2, r"expected \(B, k, k\)"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 0, 0), 2, r"expected \(B, k, k\)"),
    (torch.rand(2, 3, 8, 8), torch.rand(1, 3, 3), 2, "1 kernels for 2 images"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3, device="meta"), 2, "kernel is on meta"),
    (torch.rand(1, 3, 9, 8), torch.rand(1, 3, 3), 2, "crop it to 8x8"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 16, 16), 2, "more than 8 pixels"),
    (torch.rand(1, 3, 0, 8), torch.rand(1, 1, 1), 2, "more than 0 pixels"),
])
def test_wrong_arguments_are_named(hr, kernel, scale, says):
    with pytest.raises(ValueError, match=says):
        blur_downsample(hr, kernel, scale)
