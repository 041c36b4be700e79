"""The operators ``conv3x3_bias_lrelu``, ``conv3x3_scale_residual`` and ``dpcb`` on the CPU: they are the halves and
the whole of the model's block; their place in PyTorch.

The Triton kernels: ``interpreted/test_conv3x3.py`` (numerics), ``test_conv3x3_compiles.py`` (machine code).
"""

from __future__ import annotations

import pytest
import torch
from support.operators import OperatorTests

from dan_fast import ops
from dan_fast.errors import DanFastError
from dan_fast.model.blocks import DPCB
from dan_fast.ops import conv3x3_bias_lrelu, conv3x3_scale_residual, dpcb
from dan_fast.ops.conv3x3_bias_lrelu import conv3x3_bias_lrelu_ref
from dan_fast.ops.conv3x3_gradients import activation_gradient, input_gradient
from dan_fast.ops.conv3x3_scale_residual import conv3x3_scale_residual_ref
from dan_fast.ops.dpcb import dpcb_ref


def case(dtype=torch.float32, channels=4, shape=(2, 3, 5), per_pixel=False):
    """Arguments of every operator by name."""
    batch, height, width = shape
    image, weight = (batch, channels, height, width), (channels, channels, 3, 3)
    shapes = {"x": image, "weight": weight, "bias": channels, "weight1": weight, "bias1": channels, "weight2": weight,
              "bias2": channels, "modulation": image if per_pixel else (batch, channels), "residual": image}
    return {name: torch.randn(shape, dtype=dtype) for name, shape in shapes.items()}


FUNCTIONS = {
    "bias_lrelu": (conv3x3_bias_lrelu, conv3x3_bias_lrelu_ref, ("x", "weight", "bias")),
    "scale_residual": (conv3x3_scale_residual, conv3x3_scale_residual_ref,
                       ("x", "weight", "bias", "modulation", "residual")),
    "dpcb": (dpcb, dpcb_ref, ("x", "weight1", "bias1", "weight2", "bias2", "modulation")),
}
every_function = pytest.mark.parametrize("function, reference, names", FUNCTIONS.values(), ids=FUNCTIONS)


def arguments_of(names, *, learning=False, **options):
    values = case(**options)
    return [values[name].requires_grad_(learning) for name in names]


def block_with_weights(z_size):
    block = DPCB(16, z_size).double()
    first, last = block.body1[0], block.body1[2]
    return block, (first.weight, first.bias, last.weight, last.bias)


def test_dpcb_is_the_restorers_block():
    block, weights = block_with_weights(1)
    x, z = (torch.randn(2, 16, *size, dtype=torch.float64, requires_grad=True) for size in ((5, 7), (1, 1)))
    expected, _ = block(x, z)
    out = dpcb(x, *weights, block.body2(z).flatten(1))
    torch.testing.assert_close(out, expected)
    learners = [x, z, *block.parameters()]
    weight = torch.randn_like(out)
    for a, b in zip(torch.autograd.grad(out, learners, weight), torch.autograd.grad(expected, learners, weight),
                    strict=True):
        torch.testing.assert_close(a, b)


def test_the_estimators_block():
    """Its condition is an image: f2 is a convolution without activation, with one value per pixel."""
    block, (weight1, bias1, weight2, bias2) = block_with_weights(3)
    x, z = (torch.randn(2, 16, 5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))

    inner, outer = block.body2[0], block.body2[2]
    f2 = conv3x3_bias_lrelu(conv3x3_bias_lrelu(z, inner.weight, inner.bias), outer.weight, outer.bias, slope=1)
    found = conv3x3_scale_residual(conv3x3_bias_lrelu(x, weight1, bias1), weight2, bias2, f2, x), z + f2

    expected = block(x, z)
    torch.testing.assert_close(found, expected)
    learners = [x, z, *block.parameters()]
    weights = [torch.randn_like(x) for _ in range(2)]
    for a, b in zip(torch.autograd.grad(found, learners, weights), torch.autograd.grad(expected, learners, weights),
                    strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("function, reference, names, per_pixel", [
    *((*function, False) for function in FUNCTIONS.values()), (*FUNCTIONS["scale_residual"], True)])
def test_gradcheck(function, reference, names, per_pixel):
    arguments = arguments_of(names, learning=True, dtype=torch.float64, channels=2, shape=(2, 2, 3),
                             per_pixel=per_pixel)
    torch.testing.assert_close(function(*arguments), reference(*arguments))
    assert torch.autograd.gradcheck(function, arguments, fast_mode=True)


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_gradcheck_of_slopes(slope):
    arguments = arguments_of(("x", "weight", "bias"), learning=True, dtype=torch.float64, channels=2)
    assert torch.autograd.gradcheck(lambda *given: conv3x3_bias_lrelu(*given, slope), arguments, fast_mode=True)


class Conv3x3Tests(OperatorTests):
    names: tuple[str, ...]

    def arguments(self, batch=2, height=3, dtype=torch.float32):
        return tuple(arguments_of(self.names, learning=True, dtype=dtype, shape=(batch, height, 5)))

    def as_registered(self, arguments, learning):
        return *arguments, learning  # whether to store what the gradients need

    def test_autocast(self):
        """It computes in autocast's dtype, as PyTorch's convolutions do."""
        arguments = arguments_of(self.names, learning=True, channels=16)
        images = [name in ("x", "residual", "modulation") for name in self.names]
        arguments = [a.detach().bfloat16().requires_grad_() if image else a
                     for a, image in zip(arguments, images, strict=True)]
        with torch.autocast("cpu", torch.bfloat16):
            out, expected = self.op(*arguments), self.reference(*arguments)
            assert out.dtype == torch.bfloat16
            torch.testing.assert_close(out, expected, rtol=0.02, atol=0.02)
        for a, b, argument in zip(*(torch.autograd.grad(o.float().sum(), arguments) for o in (out, expected)),
                                  arguments, strict=True):
            assert a.dtype == argument.dtype
            torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * b.abs().max().item())


IMAGE = {0: "batch", 2: "height"}


class TestBiasLrelu(Conv3x3Tests):
    op, reference = staticmethod(conv3x3_bias_lrelu), staticmethod(conv3x3_bias_lrelu_ref)
    registered, names = torch.ops.dan_fast.conv3x3_bias_lrelu.default, FUNCTIONS["bias_lrelu"][2]
    dynamic = IMAGE, None, None

    def as_registered(self, arguments, learning):
        return *arguments, 0.2  # the slope


class TestScaleResidual(Conv3x3Tests):
    op, reference = staticmethod(conv3x3_scale_residual), staticmethod(conv3x3_scale_residual_ref)
    registered, names = torch.ops.dan_fast.conv3x3_scale_residual.default, FUNCTIONS["scale_residual"][2]
    dynamic = IMAGE, None, None, {0: "batch"}, IMAGE


class TestDPCB(Conv3x3Tests):
    op, reference, registered = staticmethod(dpcb), staticmethod(dpcb_ref), torch.ops.dan_fast.dpcb.default
    names = FUNCTIONS["dpcb"][2]
    dynamic = IMAGE, None, None, None, None, {0: "batch"}


@pytest.mark.parametrize("activated, add", [(False, False), (True, False), (False, True)])
def test_opcheck_of_the_gradient(activated, add):
    grad, weight, out, other = arguments_of(("x", "weight", "residual", "residual"))
    torch.library.opcheck(input_gradient, (grad, weight, out if activated else None, 0.2, other if add else None))
    torch.library.opcheck(activation_gradient, (grad, weight, out, 0.2))


@every_function
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_result_lies_like_its_image(function, reference, names, layout):
    arguments = arguments_of(names, shape=(2, 5, 7))
    arguments = [a.to(memory_format=layout) if a.dim() == 4 else a for a in arguments]
    arguments[0].requires_grad_()
    out = function(*arguments)
    assert out.is_contiguous(memory_format=layout)
    grad, = torch.autograd.grad(out.sum(), arguments[0])
    assert grad.shape == out.shape


def test_dtypes_may_differ_outside_the_convolution():
    x, weight, bias, modulation, residual = arguments_of(FUNCTIONS["scale_residual"][2], channels=16)
    out = conv3x3_scale_residual(x.bfloat16(), weight.bfloat16(), bias, modulation, residual)
    assert out.dtype == torch.float32
    f1 = torch.nn.functional.conv2d(x.bfloat16(), weight.bfloat16(), padding=1).float()
    torch.testing.assert_close(out, residual + modulation[:, :, None, None] * (f1 + bias[:, None, None]))


@every_function
def test_other_channels_are_pytorchs(function, reference, names):
    pytest.importorskip("triton")
    arguments = arguments_of(names, channels=6)
    torch.testing.assert_close(function(*arguments), reference(*arguments))
    with ops.backend("triton"), pytest.raises(DanFastError, match=r"triton here: .*(6 channels|needs a GPU)"):
        function(*arguments)


@pytest.mark.parametrize("name, value, says", [
    ("x", torch.rand(4, 3, 5), r"x\[None\]"),
    ("x", torch.ones(2, 4, 3, 5).int(), "x is torch.int32"),
    ("weight", torch.rand(8, 4, 3, 3), r"weight has shape \(8, 4, 3, 3\), expected \(4, 4, 3, 3\)"),
    ("weight", torch.rand(4, 4, 3, 3).half(), r"weight is torch.float16 and x torch.float32.*weight\.to\(x\.dtype\)"),
    ("bias", torch.rand(5), r"bias has shape \(5,\), expected \(4,\)"),
    ("modulation", torch.rand(2, 4, 1, 1), r"expected \(2, 4, 3, 5\)"),
    ("residual", torch.rand(2, 4, 3, 4), r"residual has shape \(2, 4, 3, 4\)"),
    ("modulation", torch.rand(2, 4, device="meta"), "modulation is on meta"),
])
def test_wrong_arguments_are_named(name, value, says):
    names = FUNCTIONS["scale_residual"][2]
    with pytest.raises(ValueError, match=says):
        conv3x3_scale_residual(*[value if given == name else other
                                 for given, other in zip(names, arguments_of(names), strict=True)])


def test_more_wrong_arguments():
    with pytest.raises(ValueError, match=r"slope=-0\.1"):
        conv3x3_bias_lrelu(*arguments_of(FUNCTIONS["bias_lrelu"][2]), -0.1)
    with pytest.raises(ValueError, match=r"expected \(2, 4\) with B=2, C=4.*conv3x3_scale_residual takes a modulation"):
        dpcb(*arguments_of(FUNCTIONS["dpcb"][2], per_pixel=True))
