"""The operator ``dpcb_stack``: the compiled code against the reference in float64, and its place in PyTorch."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import dan_fast_kernels
import pytest
import torch
from conftest import tiny_config

import dan_fast
from dan_fast.errors import DanFastError
from dan_fast.model.restorer import RestorerV2
from dan_fast.ops import backend, condition_path, condition_weights, dpcb_stack, dpcb_weights
from dan_fast.ops.dpcb_stack import DPCBWeights, dpcb_stack_ref

OP = torch.ops.dan_fast.dpcb_stack.default
PATHS = Path(__file__).with_name("dpcb_stack_paths.cpp")


def case(batch, channels, height, width, blocks=2, groups=2, residual="doubled"):
    """x, weights, scales as a trained network has them: a block changes x by about a third."""
    count, spread = blocks * groups, (2 / (9 * channels)) ** 0.5

    def draw(*shape):
        return [torch.randn(shape) * (spread if len(shape) > 1 else 0.1) for _ in range(count)]

    square = (channels, channels, 3, 3)
    weights = DPCBWeights(draw(*square), draw(channels), draw(*square), draw(channels), blocks, residual)
    return torch.randn(batch, channels, height, width), weights, torch.rand(batch, count, channels) * 0.3


def double(weights):
    return DPCBWeights(*([t.double() for t in tensors] for tensors in weights[:4]), *weights[4:])


def errors(x, weights, scales):
    """Root mean square of the error relative to the result: the operator's and float32 PyTorch's."""
    exact = dpcb_stack_ref(x.double(), double(weights), scales.double())
    found, plain = dpcb_stack(x, weights, scales), dpcb_stack_ref(x, weights, scales)
    assert found.shape == x.shape and found.dtype == x.dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    return tuple(((out - exact).norm() / exact.norm()).item() for out in (found, plain))


# The compiled code against the reference

@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("channels", [16, 32, 64])
def test_any_size(native, channels, residual):
    """A wrong tile, row or strip is wrong by 1e-1. On a few pixels the two rounding errors are chance."""
    sizes = [(1, 1), (1, 37), (37, 1), (2, 3), (4, 4), (5, 9), (8, 8), (13, 17), (23, 6)]
    sizes += [tuple(torch.randint(1, 30, (2,)).tolist()) for _ in range(3)]
    for number, (height, width) in enumerate(sizes):
        found, _ = errors(*case(1 + number % 3, channels, height, width, residual=residual))
        assert found <= 1e-6, (height, width)


def test_rows_longer_than_a_step(native):
    """So wide that the first convolution runs only a few rows before the second."""
    found, _ = errors(*case(1, 16, 41, 500))
    assert found <= 1e-6


def test_errs_at_most_twice_as_much_as_pytorch(native):
    """The published body: 50 blocks of 64 channels."""
    found, plain = errors(*case(1, 64, 21, 18, 10, 5))
    assert found <= 2 * plain


@pytest.mark.parametrize("name", dan_fast.available())
def test_trained_weights(native, name):
    model = dan_fast.load(name)
    with torch.no_grad():
        x = model.Restorer.head1(torch.rand(2, 3, 31, 26))
        scales = condition_path(torch.cat((model.init_ker_map, model.init_ker_map * 0.5)),
                                *condition_weights(model.Restorer))
        found, plain = errors(x, dpcb_weights(model.Restorer), scales)
    assert found <= 2 * plain


def threads_and_bits(arguments):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results += [dpcb_stack(*arguments), dpcb_stack(*arguments)]
        return results
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("batch, height, width", [(1, 45, 19), (2, 9, 9), (3, 18, 130)])
@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize("residual", ["doubled", "plain"])
def test_same_bits_for_any_number_of_threads(native, batch, height, width, channels, residual):
    first, *others = threads_and_bits(case(batch, channels, height, width, residual=residual))
    assert all(torch.equal(first, other) for other in others)


def test_an_image_is_alone_in_its_batch(native):
    x, weights, scales = case(3, 16, 13, 22)
    together = dpcb_stack(x, weights, scales)
    for n in range(3):
        assert torch.equal(together[n:n + 1], dpcb_stack(x[n:n + 1], weights, scales[n:n + 1]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["x", "weights", "scales"])
def test_what_is_not_finite_stays_so(native, value, where):
    x, weights, scales = case(2, 16, 30, 30, blocks=1, groups=1)
    target, at = {"x": (x, (1, 3, 20, 20)), "weights": (weights.weight2[0], (3, 5, 0, 1)), "scales": (scales, (1, 0, 7))
                  }[where]
    target[at] = value
    bad = ~dpcb_stack_ref(x, weights, scales).isfinite()
    found = dpcb_stack(x, weights, scales)
    assert bad.any() and (~found[bad].isfinite()).all()
    if where == "x":  # pixels far from it are as they are without
        assert found[0].isfinite().all() and found[1, :, :4, :4].isfinite().all()


def test_denormals(native):
    x, weights, _ = case(1, 32, 9, 14)
    tiny = torch.full((1, 4, 32), 1e-3)
    for tensors in (weights.bias1, weights.bias2):
        for bias in tensors:
            bias.zero_()
    x = x * 1e-40
    found, exact = dpcb_stack(x, weights, tiny), dpcb_stack_ref(x.double(), double(weights), tiny.double())
    assert found.abs().max() < 1.1e-38 and (found != 0).any()
    assert (found - exact).abs().max() <= 5e-44


def test_any_layout(native):
    x, weights, scales = case(2, 16, 7, 9)
    expected = dpcb_stack(x, weights, scales)
    last = {"memory_format": torch.channels_last}
    weights = weights._replace(weight1=[w.contiguous(**last) for w in weights.weight1],
                               weight2=[w.contiguous(**last) for w in weights.weight2])
    for layout in (x.contiguous(**last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(dpcb_stack(layout, weights, scales.mT.contiguous().mT), expected)


def test_reads_only_its_arguments(native):
    """NaNs before, between and behind the values of tensors that are parts of larger ones."""
    x, weights, scales = case(2, 16, 7, 9)
    expected = dpcb_stack(x, weights, scales)

    def inside(tensor):
        around = torch.full([size + 2 for size in tensor.shape], float("nan"))
        view = around[tuple(slice(1, -1) for _ in tensor.shape)]
        return view.copy_(tensor)

    weights = DPCBWeights(*([inside(t) for t in tensors] for tensors in weights[:4]), *weights[4:])
    assert torch.equal(dpcb_stack(inside(x), weights, inside(scales)), expected)


@pytest.mark.parametrize("how", ["in place", "replaced", "data", "loaded", "optimiser"])
def test_a_changed_parameter_is_noticed(native, how):
    restorer = RestorerV2(tiny_config(groups=2, blocks=2))
    x, scales = torch.randn(1, 16, 9, 9), torch.rand(1, 4, 16)

    def both():
        with torch.no_grad():
            weights = dpcb_weights(restorer)
            return dpcb_stack(x, weights, scales), dpcb_stack_ref(x, weights, scales)

    before, _ = both()
    conv = restorer.body[1].body[0].body1[2]
    if how == "in place":
        with torch.no_grad():
            conv.bias[3] += 1
    elif how == "replaced":
        conv.weight = torch.nn.Parameter(conv.weight * 2)
    elif how == "data":
        conv.weight.data = conv.weight.data * 2
    elif how == "loaded":
        restorer.load_state_dict({name: value * 1.5 for name, value in restorer.state_dict().items()})
    else:
        optimiser = torch.optim.Adam([conv.weight], 0.1)
        conv.weight.sum().backward()
        optimiser.step()
    found, expected = both()
    assert (found - before).abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_parameters_made_in_inference_mode(native):
    with torch.inference_mode():
        x, weights, scales = case(1, 16, 8, 8)
        dpcb_stack(x, weights, scales)
        weights.weight1[2].mul_(3)
        torch.testing.assert_close(dpcb_stack(x, weights, scales), dpcb_stack_ref(x, weights, scales),
                                   rtol=1e-4, atol=1e-4)


def test_packed_weights_go_with_the_parameters(native):
    from dan_fast.ops.dpcb_stack import _packed

    x, weights, scales = case(1, 16, 4, 4)
    count = len(_packed)
    dpcb_stack(x, weights, scales)
    dpcb_stack(x, weights, scales)
    assert len(_packed) == count + 1
    del weights
    assert len(_packed) == count


# Instruction sets

def compiled(arguments, output):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile with")
    result = subprocess.run([compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", *map(str, arguments), "-o",
                             str(output)], capture_output=True, text=True)
    if "cannot find" in result.stderr:
        pytest.skip("g++ has no sanitizers here")
    assert result.returncode == 0, result.stderr


def test_every_instruction_set(tmp_path):
    """With the address sanitizer, which stops at any access outside a buffer."""
    program = tmp_path / "paths"
    # Watching local variables would take minutes to compile; all that an index reaches is on the heap.
    compiled(["-O1", "-fsanitize=address", "--param", "asan-stack=0", PATHS], program)
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    capability = torch.backends.cpu.get_cpu_capability()
    expected = {"AVX2": ["avx2"], "AVX512": ["avx2", "avx512"]}.get(capability, [])
    assert result.stdout.split() == ["default", *expected]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump to read machine code with")
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="not an x86 machine")
def test_every_instruction_set_was_built(native):
    """Also those that this machine cannot run."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(dan_fast_kernels.EXTENSION)],
                          capture_output=True, text=True, check=True).stdout
    for name, register, tiles in (("avx2", "ymm", 6), ("avx512", "zmm", 12)):
        for channels in (16, 32, 64):
            (body,) = re.findall(rf"^[0-9a-f]+ <[^>]*conv3x3_{name}ILi{channels}E[^>]*>:\n(.*?)\n\n", code, re.M | re.S)
            fused = re.findall(rf"vfmadd\S+ .*%{register}", body)
            # Of the largest product alone, unrolled four times.
            assert len(fused) >= 4 * tiles * 2


# Its place in PyTorch

def test_is_the_body_of_the_restorer(native):
    for residual in ("doubled", "plain"):
        restorer = RestorerV2(tiny_config(groups=3, blocks=2, group_residual=residual)).double().eval()
        lr, code = torch.rand(2, 3, 7, 9).double(), torch.randn(2, 10).double()
        with torch.no_grad():
            scales = condition_path(code, *condition_weights(restorer))
            body = dpcb_stack(restorer.head1(lr), dpcb_weights(restorer), scales)
            torch.testing.assert_close(restorer.reconstruct(lr, body), restorer(lr, code))


@pytest.mark.parametrize("name", ["torch", "cpp"])
def test_opcheck(native, name):
    x, weights, scales = case(2, 16, 5, 6)
    with backend(name):
        torch.library.opcheck(OP, (x, scales, *weights[:5], True))


class Body(torch.nn.Module):
    def __init__(self, restorer) -> None:
        super().__init__()
        self.restorer = restorer

    def forward(self, x, scales):
        return dpcb_stack(x, dpcb_weights(self.restorer), scales)


def test_compiles_and_exports():
    body = Body(RestorerV2(tiny_config(groups=2, blocks=1)).requires_grad_(False))
    x, scales = torch.randn(2, 16, 6, 7), torch.rand(2, 2, 16)
    expected = body(x, scales)
    torch.testing.assert_close(torch.compile(body, fullgraph=True)(x, scales), expected)
    program = torch.export.export(body, (x, scales))
    assert OP in [node.target for node in program.graph.nodes]
    torch.testing.assert_close(program.module()(x, scales), expected)


def test_backends(native):
    x, weights, scales = case(1, 16, 5, 5)
    with backend("torch"):
        assert torch.equal(dpcb_stack(x, weights, scales),
                           dpcb_stack_ref(x, weights, scales).contiguous(memory_format=torch.channels_last))
    with backend("cpp"):
        for wrong, says in ((case(1, 12, 5, 5), "C is 12 and the extension knows 16, 32 and 64"),
                            ((x.double(), double(weights), scales.double()), "float64 and the extension")):
            with pytest.raises(DanFastError, match=says):
                dpcb_stack(*wrong)
    # Those are computed by PyTorch otherwise.
    x, weights, scales = case(1, 12, 5, 5)
    torch.testing.assert_close(dpcb_stack(x, weights, scales), dpcb_stack_ref(x, weights, scales))


def test_without_the_extension(monkeypatch):
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", None)
    x, weights, scales = case(1, 16, 5, 5)
    torch.testing.assert_close(dpcb_stack(x, weights, scales), dpcb_stack_ref(x, weights, scales))


def test_autocast_leaves_it_in_float32():
    x, weights, scales = case(1, 12, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = dpcb_stack(x, weights, scales)
    torch.testing.assert_close(found, dpcb_stack_ref(x, weights, scales))


@pytest.mark.parametrize("change, says", [
    ({"x": torch.rand(16, 5, 5)}, r"x has shape \(16, 5, 5\), expected \(B, C, H, W\)"),
    ({"x": torch.rand(2, 16, 0, 5)}, "none of them 0"),
    ({"x": torch.rand(2, 8, 5, 5)}, r"scales has shape \(2, 4, 16\), expected \(2, 4, 8\)"),
    ({"x": torch.rand(2, 16, 5, 5).double()}, r"weight1\[0\] is torch.float32 and x torch.float64"),
    ({"scales": torch.ones(2, 4, 16).int()}, "scales is torch.int32"),
    ({"x": torch.ones(2, 16, 5, 5).int()}, "x is torch.int32"),
    ({"scales": torch.rand(2, 4, 16, device="meta")}, "scales is on meta and x on cpu"),
    ({"weight2": [torch.rand(16, 16, 3, 3)] * 3}, "weight2 has 3 tensors for 4 blocks"),
    ({"bias1": [torch.rand(15)] * 4}, r"bias1\[0\] has shape \(15,\), expected \(16,\)"),
    ({"blocks": 3}, "blocks=3: expected a whole number that divides the N=4"),
    ({"blocks": 2.0}, "blocks=2.0"),
    ({"group_residual": "triple"}, "group_residual='triple': expected one of 'doubled', 'plain'"),
])
def test_wrong_arguments_are_named(change, says):
    x, weights, scales = case(2, 16, 5, 5)
    arguments = {"x": x, "scales": scales, **{name: change[name] for name in ("x", "scales") if name in change}}
    weights = weights._replace(**{name: value for name, value in change.items() if name not in arguments})
    with pytest.raises(ValueError, match=says):
        dpcb_stack(arguments["x"], weights, arguments["scales"])


def test_a_needed_gradient_is_refused():
    x, weights, scales = case(1, 16, 5, 5)
    with pytest.raises(ValueError, match="has no gradient"):
        dpcb_stack(x.requires_grad_(), weights, scales)
