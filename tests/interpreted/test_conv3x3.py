"""The Triton kernels of ``conv3x3`` and ``dpcb`` against the references in float64, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.rounding import RoundedTo, coarsest

from dan_fast.ops import conv3x3_bias_lrelu, conv3x3_scale_residual, dpcb
from dan_fast.ops.conv3x3_bias_lrelu import conv3x3_bias_lrelu_ref
from dan_fast.ops.conv3x3_scale_residual import conv3x3_scale_residual_ref
from dan_fast.ops.dpcb import dpcb_ref

LRELU = (conv3x3_bias_lrelu, conv3x3_bias_lrelu_ref)
RESIDUAL = (conv3x3_scale_residual, conv3x3_scale_residual_ref)
BLOCK = (dpcb, dpcb_ref)


def image(shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype).to(memory_format=torch.channels_last)


def convolution(channels, dtype):
    weight = image((channels, channels, 3, 3)) / (3 * channels**0.5)
    return weight.to(dtype), torch.randn(channels)


def case(function, shape, dtype=torch.float32, per_pixel=False):
    weight, bias = convolution(shape[1], dtype)
    modulation = image(shape, dtype) if per_pixel else torch.randn(shape[:2])
    if function is conv3x3_bias_lrelu:
        return image(shape, dtype), weight, bias
    if function is conv3x3_scale_residual:
        return image(shape, dtype), weight, bias, modulation, image(shape, dtype)
    return image(shape, dtype), weight, bias, *convolution(shape[1], dtype), modulation


def with_gradients(function, arguments, weight):
    arguments = [argument.detach().clone().requires_grad_() for argument in arguments]
    out = function(*arguments)
    return out.detach(), *torch.autograd.grad((out * weight.to(out.dtype)).sum(), arguments)


def assert_close(found, rounded, exact, what):
    """The error is at most twice that of rounding after every operation, plus one rounding and that of float32 sums."""
    assert found.shape == exact.shape, what
    allowed = 2 * (rounded - exact).norm() + (torch.finfo(found.dtype).eps / 2 + 1e-6) * exact.norm()
    assert (found - exact).norm() <= allowed, f"{what}: {(found - exact).norm()} > {allowed}"


def assert_right(functions, arguments):
    function, reference = functions
    weight = torch.randint(-4, 5, arguments[0].shape)  # exact in 16 bits
    exact = with_gradients(reference, [argument.double() for argument in arguments], weight)
    with RoundedTo(coarsest(*arguments)):
        rounded = with_gradients(reference, [argument.double() for argument in arguments], weight)
    found = with_gradients(function, arguments, weight)
    types = [tensor.dtype for tensor in with_gradients(reference, arguments, weight)]
    assert [tensor.dtype for tensor in found] == types
    for number, (a, b, e) in enumerate(zip(found, rounded, exact, strict=True)):
        assert_close(a, b, e, f"gradient of argument {number - 1}" if number else "result")


@pytest.mark.parametrize("shape", [(1, 16, 1, 1), (2, 32, 3, 5), (1, 64, 3, 10)], ids=str)
@pytest.mark.parametrize("functions", [LRELU, RESIDUAL, BLOCK], ids=["bias_lrelu", "scale_residual", "dpcb"])
def test_matches_reference(functions, shape):
    assert_right(functions, case(functions[0], shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("functions", [LRELU, RESIDUAL, BLOCK], ids=["bias_lrelu", "scale_residual", "dpcb"])
def test_16_bit_values(functions, dtype):
    assert_right(functions, case(functions[0], (2, 32, 3, 9), dtype))


def test_several_tiles_of_several_images():
    assert_right(BLOCK, case(dpcb, (3, 16, 13, 17)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_per_pixel(dtype):
    assert_right(RESIDUAL, case(conv3x3_scale_residual, (2, 16, 3, 9), dtype, per_pixel=True))


def test_other_dtype_of_the_residual():
    x, weight, bias, modulation, residual = case(conv3x3_scale_residual, (1, 16, 3, 5), torch.float16)
    assert_right(RESIDUAL, (x, weight, bias, modulation, residual.float()))


@pytest.mark.parametrize("of", [
    lambda x: x.contiguous(),
    lambda x: x.transpose(2, 3),
    lambda x: x[:, :, 1:, ::2],
    lambda x: x[:1].expand_as(x),
    lambda x: torch.cat((x.new_zeros(1), x.permute(0, 2, 3, 1).flatten()))[1:].view(2, 5, 5, 16).permute(0, 3, 1, 2),
], ids=["contiguous", "transposed", "sliced", "expanded", "unaligned"])
def test_any_strides(of, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    given = [of(a) if a.shape == (2, 16, 5, 5) else a.contiguous() for a in case(conv3x3_scale_residual, (2, 16, 5, 5))]
    out = conv3x3_scale_residual(*given)
    assert (out - conv3x3_scale_residual_ref(*given)).abs().max() <= 1e-5
    assert out.stride() == torch.empty_like(given[-1]).stride()


def shipped():
    """Every tile that ships, once for each way to load it and to multiply."""
    from dan_fast_kernels import conv3x3 as kernels

    found = {}
    for candidates in kernels.TILES.values():
        for configs in candidates.values():
            for config in configs:
                found["{BOXES} {SWAP} {TH}x{TW}".format(**config)] = config
    return found


def pytest_generate_tests(metafunc):
    if "config" in metafunc.fixturenames:
        pytest.importorskip("triton", reason="triton is not installed")
        metafunc.parametrize("config", shipped().values(), ids=shipped())


def test_every_configuration(config):
    from dan_fast_kernels import conv3x3 as kernels

    x, weight, bias, modulation, residual = case(conv3x3_scale_residual, (2, 16, 5, 18), torch.float16)
    wide = [tensor.double() for tensor in (x, weight, bias, modulation, residual)]
    slopes = torch.where(residual > 0, 1.0, 0.2).double()

    def results():
        x, weight, bias, modulation, residual = wide
        conv = F.conv2d(x, weight, padding=1)
        gradient = torch.nn.grad.conv2d_input(x.shape, weight, x, padding=1) * slopes
        return conv, residual + modulation[:, :, None, None] * (conv + bias[:, None, None]), gradient

    with RoundedTo(torch.float16):
        rounded = results()
    out, stored = kernels.scale_residual(x, weight, bias, modulation, residual, store=True, config=config)
    gradient = kernels.input_gradient(x, weight, residual, 0.2, None, config=config)
    for name, *values in zip(("conv", "result", "gradient"), (stored, out, gradient), rounded, results(), strict=True):
        assert_close(*values, name)


def whole_numbers(*shape, most=3):
    return torch.randint(-most, most + 1, shape).float().contiguous(
        memory_format=torch.channels_last if len(shape) == 4 else torch.contiguous_format)


@pytest.mark.parametrize("swap", [0, 1])
@pytest.mark.parametrize("boxes", [0, 9])
@pytest.mark.parametrize("batch, height, width", [(3, 1, 1), (1, 5, 1), (3, 3, 4), (2, 9, 7), (1, 4, 13)])
def test_whole_numbers_come_out_exact(batch, height, width, boxes, swap):
    """Every way to load and every epilogue, in images narrower than a tile, of one column and of several tiles."""
    from dan_fast_kernels import conv3x3 as kernels

    config = {"BOXES": boxes, "SWAP": swap, "TH": 4, "TW": 8, "num_warps": 4, "num_stages": 2}
    shape = batch, 16, height, width
    x, other, weight, bias = (whole_numbers(*size) for size in (shape, shape, (16, 16, 3, 3), (16,)))
    conv = F.conv2d(x.double(), weight.double(), padding=1)
    gradient = torch.nn.grad.conv2d_input(x.shape, weight.double(), x.double(), padding=1)
    biased = conv + bias.double()[:, None, None]

    assert torch.equal(kernels.bias_lrelu(x, weight, bias, 0.25, config), F.leaky_relu(biased, 0.25).float())
    for modulation in (whole_numbers(batch, 16), whole_numbers(*shape)):
        out, stored = kernels.scale_residual(x, weight, bias, modulation, other, True, config, 2.0)
        factor = modulation if modulation.dim() == 4 else modulation[:, :, None, None]
        assert torch.equal(out, (2 * (other + factor * biased)).float()) and torch.equal(stored, conv.float())
    masked = gradient * torch.where(other > 0, 1.0, 0.25)
    assert torch.equal(kernels.input_gradient(x, weight, other, 0.25, None, config), masked.float())
    found, total = kernels.activation_gradient(x, weight, other, 0.25, config)
    assert torch.equal(found, masked.float()) and torch.equal(total, masked.sum((0, 2, 3)).float())
    assert torch.equal(kernels.input_gradient(x, weight, None, 0.0, other, config), (gradient + other).float())
    assert torch.equal(kernels.input_gradient(x, weight, None, 0.0, None, config), gradient.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_gradient_of_a_block_is_summed_before_rounding(dtype):
    """It also has the same bits each time."""
    from dan_fast_kernels import conv3x3 as kernels

    grad, activated = image((3, 16, 13, 9), dtype), image((3, 16, 13, 9), dtype)
    weight, _ = convolution(16, dtype)
    exact = torch.nn.grad.conv2d_input(grad.shape, weight.double(), grad.double(), padding=1)
    exact *= torch.where(activated > 0, 1.0, 0.2)
    found, total = kernels.activation_gradient(grad, weight, activated, 0.2)
    assert total.dtype == torch.float32 and total.shape == (16,)
    assert (total - exact.sum((0, 2, 3))).abs().max() <= 1e-6 * exact.abs().sum((0, 2, 3)).max()
    again, total_again = kernels.activation_gradient(grad, weight, activated, 0.2)
    assert torch.equal(found, again) and torch.equal(total, total_again)
    assert torch.equal(found, kernels.input_gradient(grad, weight, activated, 0.2, None))


def test_no_images():
    from dan_fast_kernels import conv3x3 as kernels

    grad, (weight, _) = image((0, 16, 3, 3)), convolution(16, torch.float32)
    found, total = kernels.activation_gradient(grad, weight, grad, 0.2)
    assert found.shape == grad.shape and torch.equal(total, torch.zeros(16))


def test_launches_of_a_block(monkeypatch):
    from dan_fast_kernels import conv3x3 as kernels

    launch, epilogues = kernels._launch, []

    def counted(x, weight, out, epilogue, factor, **others):
        epilogues.append((epilogue, others.get("f1") is not None))
        return launch(x, weight, out, epilogue, factor, **others)

    monkeypatch.setattr(kernels, "_launch", counted)
    arguments = case(dpcb, (1, 16, 3, 5))
    dpcb(*arguments)
    assert epilogues == [("lrelu", False), ("add", False)]
    epilogues.clear()
    dpcb(*[argument.requires_grad_() for argument in arguments]).sum().backward()
    assert epilogues == [("lrelu", False), ("add", True), ("mask", False), ("add", False)]
