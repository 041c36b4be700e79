"""The compiled 3x3 convolutions, forward and gradients, against PyTorch in float64; their place in PyTorch.

The same operators on PyTorch's own backend: ``test_conv3x3.py``; every instruction set: ``test_conv3x3_paths.py``.
"""

from __future__ import annotations

import dan_fast_kernels
import pytest
import torch
from support import winograd
from support.accuracy import results
from support.stacks import doubled, draw, each_number_of_threads
from support.winograd import MARGIN, Rounded
from torch import Tensor

from dan_fast.errors import DanFastError
from dan_fast.ops import backend, conv3x3_bias_lrelu, conv3x3_scale_residual, dpcb
from dan_fast.ops.conv3x3_bias_lrelu import conv3x3_bias_lrelu_backward, conv3x3_bias_lrelu_ref
from dan_fast.ops.conv3x3_gradients import input_gradient, weight_gradient
from dan_fast.ops.conv3x3_scale_residual import conv3x3_scale_residual_backward, conv3x3_scale_residual_ref
from dan_fast.ops.dpcb import dpcb_backward
from dan_fast.ops.layout import to_nhwc

pytestmark = pytest.mark.usefixtures("native")
registered = torch.ops.dan_fast

BOUND = 2e-6  # of the root mean square of the error, relative to the result; a wrong tile or tap is wrong by 1e-1


def case(batch, channels, height, width) -> dict[str, Tensor]:
    """Arguments of every operator by name."""
    image, weight = (batch, channels, height, width), (channels, channels, 3, 3)
    return {**{name: torch.randn(image) for name in ("x", "residual", "per pixel", "grad", "activated")},
            **{name: draw(*weight) for name in ("weight", "weight2")},
            **{name: draw(channels) for name in ("bias", "bias2")}, "modulation": torch.randn(batch, channels)}


# By name the registered operator, and its arguments as numbers or by name.
OPERATORS = {
    **{f"bias_lrelu {slope}": (registered.conv3x3_bias_lrelu, ("x", "weight", "bias", slope))
       for slope in (0.0, 0.2, 1.0, 1.5)},
    **{f"scale_residual by {modulation}, {store}": (registered.conv3x3_scale_residual,
                                                    ("x", "weight", "bias", modulation, "residual", store))
       for modulation in ("modulation", "per pixel") for store in (True, False)},
    "dpcb": (registered.dpcb, ("x", "weight", "bias", "weight2", "bias2", "modulation", True)),
    "dpcb, nothing stored": (registered.dpcb, ("x", "weight", "bias", "weight2", "bias2", "modulation", False)),
    "input_gradient": (input_gradient, ("grad", "weight")),
    "input_gradient, activated": (input_gradient, ("grad", "weight", "activated", 0.2)),
    "input_gradient, add": (input_gradient, ("grad", "weight", None, 0.0, "residual")),
    "weight_gradient": (weight_gradient, ("grad", "x", "weight")),
    "bias_lrelu_backward": (conv3x3_bias_lrelu_backward, ("grad", "x", "weight", "bias", "activated", 0.2)),
    **{f"scale_residual_backward by {modulation}": (conv3x3_scale_residual_backward,
                                                    ("grad", "x", "weight", "bias", modulation, "residual"))
       for modulation in ("modulation", "per pixel")},
    "dpcb_backward": (dpcb_backward, ("grad", "x", "weight", "bias", "weight2", "bias2", "modulation", "activated",
                                      "residual")),
}
every_operator = pytest.mark.parametrize("name", OPERATORS)


def arguments_of(name, *sizes) -> tuple:
    values = case(*sizes)
    return tuple(values[part] if isinstance(part, str) else part for part in OPERATORS[name][1])


def computed(name, arguments, by="cpp") -> list[Tensor]:
    with backend(by):
        found = OPERATORS[name][0](*arguments)
    return [found] if isinstance(found, Tensor) else list(found)


def relative(found: Tensor, exact: Tensor) -> float:
    assert found.shape == exact.shape and found.dtype == torch.float32
    return ((found - exact).norm() / exact.norm()).item() if exact.numel() else 0.0


def assert_accurate(name, *sizes) -> None:
    arguments = arguments_of(name, *sizes)
    for found, exact in zip(computed(name, arguments), computed(name, doubled(arguments), "torch"), strict=True):
        assert relative(found, exact) <= BOUND, sizes


@every_operator
@pytest.mark.parametrize("channels", [16, 32, 48, 64, 80])
def test_any_size(name, channels):
    sizes = [(1, 1), (1, 19), (19, 1), (2, 3), (4, 4), (5, 9), (8, 8), (13, 17)]
    sizes += [tuple(torch.randint(1, 30, (2,)).tolist()) for _ in range(2)]
    for number, (height, width) in enumerate(sizes):
        assert_accurate(name, 1 + number % 3, channels, height, width)


@every_operator
def test_many_tiles(name):
    """More tiles, in a row and in a batch, than the weight gradient sums in one part."""
    assert_accurate(name, 1, 16, 41, 500)
    assert_accurate(name, 7, 32, 21, 30)


@pytest.mark.parametrize("sizes", [(8, 32, 32, 32), (2, 16, 13, 17)], ids=str)
def test_weight_gradient_errs_as_winograd_does(sizes):
    grad, x, _ = arguments = arguments_of("weight_gradient", *sizes)
    exact, = computed("weight_gradient", doubled(arguments), "torch")
    found, = computed("weight_gradient", arguments)
    assert relative(found, exact) <= MARGIN * relative(winograd.weight_gradient(grad, x).float(), exact)


@pytest.mark.parametrize("name, reference", [
    ("bias_lrelu 0.2", conv3x3_bias_lrelu_ref), ("scale_residual by per pixel, False", conv3x3_scale_residual_ref)])
@pytest.mark.parametrize("sizes", [(1, 64, 21, 18), (2, 48, 17, 13), (1, 80, 12, 15)], ids=str)
def test_errs_as_winograd_does(name, reference, sizes):
    arguments = arguments_of(name, *sizes)
    own = [argument for argument in arguments if not isinstance(argument, bool)]
    with Rounded():
        rounded = reference(*own)
    exact = reference(*doubled(own))
    assert relative(computed(name, arguments)[0], exact) <= MARGIN * relative(rounded, exact)


@every_operator
@pytest.mark.parametrize("sizes", [(1, 16, 45, 19), (2, 80, 9, 9), (5, 32, 30, 33)], ids=str)
def test_same_bits_for_any_number_of_threads(name, sizes):
    arguments = arguments_of(name, *sizes)
    first, *others = each_number_of_threads(lambda: computed(name, arguments))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@every_operator
def test_any_layout(name):
    arguments = arguments_of(name, 2, 16, 7, 9)
    expected = computed(name, arguments)

    def same(change) -> None:
        given = [change(part) if isinstance(part, Tensor) else part for part in arguments]
        for found, other in zip(computed(name, given), expected, strict=True):
            assert torch.equal(found, other)

    same(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)
    same(lambda t: t.mT.contiguous().mT if t.dim() > 1 else torch.stack((t, t), 1)[:, 0])

    def inside(tensor: Tensor) -> Tensor:  # NaNs before, between and behind the values
        around = torch.full([size + 2 for size in tensor.shape], float("nan"))
        return around[tuple(slice(1, -1) for _ in tensor.shape)].copy_(tensor)

    same(inside)


@every_operator
def test_writes_all_of_its_result(name):
    """PyTorch fills new memory with NaN here."""
    arguments = arguments_of(name, 2, 32, 6, 11)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        found = computed(name, arguments)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(part.isfinite().all() for part in found)


@every_operator
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(name, value):
    """It stays near, too: in its image, and at most 3 pixels further than in PyTorch."""
    arguments = arguments_of(name, 2, 16, 30, 30)
    arguments[0][1, 3, 20, 20] = value
    for found, exact in zip(computed(name, arguments), computed(name, doubled(arguments), "torch"), strict=True):
        bad = ~exact.isfinite()
        assert (~found[bad].isfinite()).all()
        if found.shape == arguments[0].shape:
            assert bad.any() and found[0].isfinite().all() and found[1, :, :4, :4].isfinite().all()


@every_operator
def test_no_image(name):
    arguments = arguments_of(name, 0, 16, 5, 5)
    for found, exact in zip(computed(name, arguments), computed(name, doubled(arguments), "torch"), strict=True):
        assert torch.equal(found, exact.float())


DIFFERENTIABLE = {
    "bias_lrelu": (conv3x3_bias_lrelu, ("x", "weight", "bias")),
    "scale_residual": (conv3x3_scale_residual, ("x", "weight", "bias", "modulation", "residual")),
    "scale_residual by pixel": (conv3x3_scale_residual, ("x", "weight", "bias", "per pixel", "residual")),
    "dpcb": (dpcb, ("x", "weight", "bias", "weight2", "bias2", "modulation")),
}
every_function = pytest.mark.parametrize("function, names", DIFFERENTIABLE.values(), ids=DIFFERENTIABLE)


def learners(names, *sizes) -> list[Tensor]:
    values = case(*sizes)
    return [values[name].requires_grad_() for name in names]


@every_function
def test_gradients(function, names):
    """Images have few pixels, as another rounding may turn the sign of one and thereby its gradient."""
    def exactly(*tensors):
        with backend("torch"):
            return function(*tensors)

    def here(*tensors):
        with backend("cpp"):  # left before the backward pass, which remembers it
            return function(*tensors)

    for sizes in ((1, 16, 1, 1), (2, 16, 5, 7), (3, 32, 9, 4), (2, 48, 6, 6)):
        tensors = learners(names, *sizes)
        weights = [torch.randn(sizes)]
        exact = results(exactly, [tensor.detach().double().requires_grad_() for tensor in tensors], weights)
        for name, found in results(here, tensors, weights).items():
            assert relative(found, exact[name]) <= 4e-6, (sizes, name)


@every_function
def test_only_the_gradients_that_are_needed(function, names):
    tensors = learners(names, 2, 16, 5, 6)
    everything = torch.autograd.grad(function(*tensors).square().sum(), tensors)
    for position, expected in enumerate(everything):
        alone = [tensor.detach().requires_grad_(n == position) for n, tensor in enumerate(tensors)]
        found, = torch.autograd.grad(function(*alone).square().sum(), alone[position])
        torch.testing.assert_close(found, expected)


@every_function
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_everything_lies_like_its_own(function, names, layout):
    tensors = [tensor.detach().to(memory_format=layout).requires_grad_() if tensor.dim() == 4 else tensor
               for tensor in learners(names, 2, 16, 5, 7)]
    out = function(*tensors)
    assert out.is_contiguous(memory_format=layout)
    for grad, tensor in zip(torch.autograd.grad(out, tensors, torch.randn_like(out)), tensors, strict=True):
        assert grad.stride() == tensor.stride()


@every_function
def test_compiles_as_one_graph(function, names):
    def loss(*tensors):
        return function(*tensors).square().mean()

    tensors = learners(names, 2, 16, 5, 6)
    expected = torch.autograd.grad(loss(*tensors), tensors)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for a, b in zip(torch.autograd.grad(compiled(*tensors), tensors), expected, strict=True):
        torch.testing.assert_close(a, b)


@every_operator
@pytest.mark.parametrize("by", ["torch", "cpp"])
def test_opcheck(name, by):
    operator = OPERATORS[name][0]
    with backend(by):
        torch.library.opcheck(getattr(operator, "default", operator), arguments_of(name, 2, 16, 5, 6))


@every_operator
def test_backends(monkeypatch, name):
    arguments, other = arguments_of(name, 1, 16, 5, 5), arguments_of(name, 1, 28, 5, 5)
    with pytest.raises(DanFastError, match="C is 28 and the extension takes multiples of 16 up to 80"):
        computed(name, other)
    with pytest.raises(DanFastError, match="float64 and the extension"):
        computed(name, doubled(arguments))
    # Those are PyTorch's otherwise, as is everything without the extension.
    for found, expected in zip(computed(name, other, "auto"), computed(name, other, "torch"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # modulate has any number of channels
    by_extension, expected = computed(name, arguments, "auto"), computed(name, arguments, "torch")
    assert all(torch.equal(a, b) for a, b in zip(by_extension, computed(name, arguments), strict=True))
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", None)
    monkeypatch.setattr(dan_fast_kernels, "WHY_NOT", "it went away")
    assert all(torch.equal(a, b) for a, b in zip(computed(name, arguments, "auto"), expected, strict=True))


@every_function
def test_autocast_is_pytorchs(function, names):
    tensors = learners(names, 2, 16, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        with backend("torch"):
            expected = function(*tensors)
        assert torch.equal(function(*tensors), expected)
        with backend("cpp"), pytest.raises(DanFastError, match="bfloat16 and the extension computes in float32"):
            function(*tensors)


def test_wrong_arguments_of_the_compiled_code():
    values = case(1, 16, 5, 5)
    x, weight, bias = (values[name] for name in ("x", "weight", "bias"))
    x, grad = to_nhwc(x), to_nhwc(values["grad"])
    with pytest.raises(RuntimeError, match=r"expected weight \(16, 16, 3, 3\)"):
        registered.conv3x3_bias_lrelu_cpp(x, weight[:8], bias, 0.2)
    with pytest.raises(RuntimeError, match="bias has a wrong shape"):
        registered.conv3x3_bias_lrelu_cpp(x, weight, bias[:8].clone(), 0.2)
    with pytest.raises(RuntimeError, match="grad has a wrong shape"):
        registered.conv3x3_weight_gradient_cpp(grad[:, 1:].clone(), x)
    with pytest.raises(RuntimeError, match="activated or add, not both"):
        registered.conv3x3_input_gradient_cpp(grad, weight, x, 0.2, x)
