"""The operator ``blur_downsample``: the compiled code against the reference, and its place in PyTorch."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file

from dan_fast.degradation import dirac_kernel, gaussian_kernels
from dan_fast.ops import backend, blur_downsample
from dan_fast.ops.blur import blur
from dan_fast.ops.blur_downsample import blur_downsample_ref
from dan_fast.ops.resize import bicubic_resize

BOUND = 1e-5


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

# Kernels of rank 1 are computed in another way than all others.
KINDS = {
    "random": lambda batch, k: torch.rand(batch, k, k, dtype=torch.float64),
    "isotropic": lambda batch, k: gaussian_kernels(torch.rand(batch, dtype=torch.float64) * 3 + 0.2, k),
    "rank 1": lambda batch, k: torch.rand(batch, k, 1, dtype=torch.float64) * torch.rand(batch, 1, k).double(),
    "dirac": lambda batch, k: dirac_kernel(k, dtype=torch.float64).expand(batch, k, k),
}


def error(hr, kernel, scale):
    """Largest difference to the reference in float64."""
    return (blur_downsample(hr, kernel, scale) - blur_downsample_ref(hr.double(), kernel.double(), scale)).abs().max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 10, 11, 16, 20, 21, 30, 31])
def test_matches_reference(native, k, scale, kind):
    hr = torch.rand(2, 3, 24, 84, dtype=torch.float64)
    kernel = KINDS[kind](2, k)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    assert error(hr, kernel, scale) <= 1e-14
    assert error(hr.float(), kernel.float(), scale) <= 3e-6


@pytest.mark.parametrize("kind", ["random", "isotropic"])
@pytest.mark.parametrize("seed", range(12))
def test_matches_reference_at_random_shapes(native, seed, kind):
    """Images of several blocks in each direction, and of less than one."""
    torch.manual_seed(seed)

    def draw(low, high):
        return int(torch.randint(low, high, ()))

    k, scale = draw(1, 32), draw(1, 5)
    height, width = (draw(k // 2 // scale + 1, 160) * scale for _ in range(2))
    hr, kernel = torch.rand(draw(1, 4), draw(1, 4), height, width), KINDS[kind](1, k).float()
    kernel = (kernel / kernel.sum()).expand(len(hr), k, k)
    assert error(hr, kernel, scale) <= 3e-6


@pytest.mark.parametrize("disturbance", [1e-8, 1e-7, 3e-7, 5e-7, 1e-6, 1e-5, 1e-3])
def test_kernels_of_almost_rank_1(native, disturbance):
    """Wherever the criterion for a separable kernel lies, the part that it ignores stays within the bound."""
    hr, kernel = torch.rand(4, 3, 64, 64), KINDS["isotropic"](4, 21)
    kernel = (kernel * (1 + disturbance * torch.randn(4, 21, 21))).float()
    assert error(hr, kernel, 4) <= 3e-6
    assert error(hr.double(), kernel.double(), 4) <= 1e-14


@pytest.mark.parametrize("of", [
    lambda k: torch.randn(k, k),  # negative taps
    lambda k: torch.randn(k, k) - torch.eye(k),
    lambda k: torch.arange(k).float()[:, None] - k // 2 + torch.zeros(k),  # rank 1, its rows add up to 0
    lambda k: torch.zeros(k, k),
    lambda k: torch.eye(k) / k,
    lambda k: 1e6 * torch.ones(k, k),
], ids=["random", "diagonal", "derivative", "zero", "motion", "large"])
def test_kernels_that_are_no_blur(native, of):
    hr, kernel = torch.rand(1, 2, 40, 48), of(11)[None]
    assert error(hr, kernel, 4) <= 3e-6 * max(1, float(kernel.abs().sum()))


def test_both_kinds_of_kernels_in_one_batch(native):
    hr, kernel = torch.rand(4, 2, 60, 72), torch.cat([KINDS["isotropic"](2, 9), KINDS["random"](2, 9)])[[0, 2, 1, 3]]
    together = blur_downsample(hr, kernel.float(), 3)
    for b in range(4):
        assert torch.equal(together[b:b + 1], blur_downsample(hr[b:b + 1], kernel[b:b + 1].float(), 3))


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


@pytest.mark.parametrize("kind", ["random", "isotropic"])
@pytest.mark.parametrize("y, x", [(0, 0), (3, 150), (60, 90), (61, 3), (119, 159)])
def test_nan_reaches_what_it_should(native, y, x, kind):
    hr, kernel = torch.rand(1, 1, 120, 160), gaussian_kernels(torch.tensor([2.0]), 9)
    if kind == "random":
        kernel = kernel * (1 + torch.rand(1, 9, 9))
    hr[0, 0, y, x] = torch.nan
    expected = blur_downsample_ref(hr, kernel, 4).isnan()
    found = blur_downsample(hr, kernel, 4).isnan()
    assert found[expected].all()
    # Composed filters are a little wider where one of the two steps has a weight of 0.
    assert found.sum() <= expected.sum() + 32 and not found.all()


@pytest.mark.parametrize("kind", ["random", "isotropic"])
def test_every_image_depends_on_itself_alone(native, kind):
    """NaN in one image stays there, so every output value is written and none reads beyond its plane."""
    hr, kernel = torch.rand(3, 2, 20, 28), KINDS[kind](3, 11).float()
    expected = blur_downsample(hr, kernel, 4)
    hr[1], kernel[1] = torch.nan, torch.nan
    out = blur_downsample(hr, kernel, 4)
    assert out[1].isnan().all()
    assert torch.equal(out[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("kind", ["random", "isotropic"])
def test_memory_around_the_image_is_not_read(native, kind):
    hr, kernel = torch.rand(1, 2, 20, 28), KINDS[kind](1, 11).float()
    buffer = torch.full((hr.numel() + 2000,), torch.nan)
    inside = buffer[1000:-1000].view_as(hr).copy_(hr)
    assert torch.equal(blur_downsample(inside, kernel, 4), blur_downsample(hr, kernel, 4))


@pytest.mark.parametrize("kind", ["random", "isotropic"])
@pytest.mark.parametrize("side", [24, 96, 360])
def test_number_of_threads_changes_no_bit(native, side, kind):
    hr, kernel = torch.rand(2, 3, side, side - 8), KINDS[kind](2, 21).float()
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
        torch.ops.dan_fast.blur_downsample_cpp(torch.rand(hr), torch.rand(kernel), scale)


def test_compiled_code_refuses_whole_numbers(native):
    with pytest.raises(RuntimeError, match="float32 or float64"):
        torch.ops.dan_fast.blur_downsample_cpp(torch.ones(1, 3, 8, 8).int(), torch.ones(1, 3, 3).int(), 4)


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


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_autocast_changes_nothing(name):
    hr, kernel = case(2, 3, 24, 16, 7)
    hr.requires_grad_()

    def results():
        out = blur_downsample(hr, kernel, 4)
        return out, *torch.autograd.grad(out.square().sum(), hr)

    with backend(name):
        expected = results()
        with torch.autocast("cpu", torch.bfloat16):
            for a, b in zip(results(), expected, strict=True):
                assert torch.equal(a, b)


def test_kernels_of_another_dtype_are_converted():
    hr, kernel = case(1, 3, 16, 16, 5, torch.float64)
    assert torch.equal(blur_downsample(hr, kernel.float(), 2), blur_downsample(hr, kernel.float().double(), 2))


def test_works_without_the_extension():
    """In a fresh process whose kernels say that there is no extension."""
    code = """
        import dan_fast_kernels
        vars(dan_fast_kernels).update(EXTENSION=None, WHY_NOT="test")
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
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("hr, kernel, scale, says", [
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3), 5, "scale=5"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3), 2.0, "scale=2.0"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3), True, "scale=True"),
    (torch.rand(3, 8, 8), torch.rand(1, 3, 3), 2, r"hr\[None\]"),
    (torch.ones(1, 3, 8, 8).byte(), torch.rand(1, 3, 3), 2, "hr is torch.uint8"),
    (torch.rand(1, 3, 8, 8), torch.ones(1, 3, 3).int(), 2, "kernel is torch.int32"),
    (torch.rand(1, 3, 8, 8), torch.rand(3, 3), 2, r"kernel has shape \(3, 3\), expected \(1, k, k\)"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 5), 2, r"expected \(1, 3, 3\)"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 0, 0), 2, "at least one pixel"),
    (torch.rand(2, 3, 8, 8), torch.rand(1, 3, 3), 2, r"\(2, 3, 3\).*common one with kernel\.expand"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 3, device="meta"), 2, "kernel is on meta"),
    (torch.rand(1, 3, 9, 8), torch.rand(1, 3, 3), 2, "crop it to 8x8"),
    (torch.rand(1, 3, 8, 8), torch.rand(1, 16, 16), 2, "more than 8 pixels"),
    (torch.rand(1, 3, 0, 8), torch.rand(1, 1, 1), 2, "more than 0 pixels"),
])
def test_wrong_arguments_are_named(hr, kernel, scale, says):
    with pytest.raises(ValueError, match=says):
        blur_downsample(hr, kernel, scale)
