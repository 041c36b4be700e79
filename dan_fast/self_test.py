"""Checks that the parts of the GPU code compute what they should on this machine, for ``dan-fast doctor --gpu``.

Each part of ``dan_fast_kernels.without`` is compared with what takes its place when it is left out: GPU kernels with
their references in float64, on random values; graphs and plans with the same work without them. Parts that were found
unfit are left out while the later ones are checked. The checks run in a process of their own: after a GPU kernel that
reads where it must not, every later call of the process fails. The remaining parts are then checked in another one.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from dan_fast_kernels.without import PARTS, VARIABLE
from torch import Tensor

from . import ops
from .checkpoint import load
from .config import DANConfig
from .degradation.pipeline import Degradation
from .fast_model.dual_path import dpcb_weights
from .fast_model.unroll import unroll
from .fast_model.v2 import dpcg_weights
from .inference import Upscaler
from .model import DAN
from .ops import example_calls
from .ops.blur_downsample import blur_downsample_ref
from .ops.conv3x3_scale_residual import conv3x3_scale_residual_ref
from .ops.dpcb_stack import dpcb_stack_ref
from .ops.dpcg import dpcg_ref
from .training.settings import TrainingSettings
from .training.step import TrainingStep

# Batch, height and width of the images that GPU kernels are checked on; on a CPU they are interpreted, which is slow.
SHAPE, SHAPE_ON_CPU = (2, 37, 19), (2, 3, 5)
# Largest error, as a share of a result's norm: bfloat16 (2^-9 in each rounding) and TensorFloat-32 stay well below.
BOUND = 2e-2
SECONDS = 60  # for one part, most of it compiling
NETWORKS = (DANConfig(groups=1, blocks=1, estimator_blocks=1), DANConfig(version="v1", blocks=1, estimator_blocks=1))
# The part that an operator's GPU kernel belongs to, where it has another name.
_PARTS = {"conv3x3_bias_lrelu": "conv3x3", "conv3x3_scale_residual": "conv3x3", "dpcb": "conv3x3",
          "next_condition": "estimator_tail"}
_COMMAND = (sys.executable, "-m", "dan_fast.self_test")


class Verdict(NamedTuple):
    """The result of a part's check.

    Attributes:
        part: one of ``dan_fast_kernels.without.PARTS``.
        reason: why it is not fit; empty if it is.
    """

    part: str
    reason: str


def self_test(parts: Sequence[str] = tuple(PARTS), seconds: float = SECONDS) -> Iterator[Verdict]:
    """Yield the verdicts on ``parts``, in this order, each as soon as it is known.

    A part whose check takes longer than ``seconds`` is not fit.
    """
    left = list(parts)
    unfit: list[str] = []
    while left:
        with subprocess.Popen([*_COMMAND, *left], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", env={**os.environ, VARIABLE: ",".join(unfit)}) as child:
            message = ""
            for line in _lines(child, seconds):
                if not line.startswith("{"):
                    message = line.strip() or message
                    continue
                verdict = Verdict(**json.loads(line))
                left.remove(verdict.part)
                unfit += [verdict.part] if verdict.reason else []
                yield verdict
        if left and child.returncode:  # it ended in the next part
            unfit.append(left.pop(0))
            yield Verdict(unfit[-1], f"its process ended with exit code {child.returncode} ({message[:200]})")


def _lines(child: subprocess.Popen, seconds: float) -> Iterator[str]:
    """The lines that ``child`` prints; it is ended when it prints none for ``seconds``."""
    assert child.stdout is not None
    while True:
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            line = child.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            return
        yield line


def check(part: str, device: torch.device) -> str:
    """Why the part is not fit on ``device``; empty if it is. May raise anything."""
    torch.manual_seed(0)
    return _CHECKS[part](device) if part in _CHECKS else _gpu_kernel(part, device)


# --- GPU kernels ------------------------------------------------------------------------------------------------


def _gpu_kernel(part: str, device: torch.device) -> str:
    """Compare values and gradients of every operator that uses the GPU kernel, in bfloat16, with float64."""
    shape = SHAPE if device.type == "cuda" else SHAPE_ON_CPU
    checked = set()
    for config in NETWORKS:
        for call in example_calls.calls(config, *shape, torch.bfloat16, device):
            name = call.operator.__name__
            shapes = (name, *(value.shape for value in call.arguments.values() if isinstance(value, Tensor)))
            if _PARTS.get(name, name) != part or shapes in checked:
                continue
            checked.add(shapes)
            example_calls.fill(call)
            reference = getattr(importlib.import_module(call.operator.__module__), f"{name}_ref")
            # These two have checks of their own.
            with left_out("descriptors", "programmatic_launch"), ops.backend("triton"), poisoned():
                found = _results(call.operator, call.arguments, call.differentiable)
            exact = _results(reference, {key: value.double() if isinstance(value, Tensor) else value
                                         for key, value in call.arguments.items()}, call.differentiable)
            if reason := _difference(name, found, exact):
                return reason
    assert checked, f"no operator uses the GPU kernel {part}"
    return ""


def _conv3x3(device: torch.device) -> str:
    """Check the operators of single convolutions, then those of whole bodies."""
    return _gpu_kernel("conv3x3", device) or _bodies(device)


def _bodies(device: torch.device) -> str:
    """Compare the bodies of v2's Restorer and Estimator, whose GPU kernels are of the same family, with float64."""
    _, height, width = SHAPE if device.type == "cuda" else SHAPE_ON_CPU
    # Parts of torch modules are declared as anything.
    model: Any = DAN(NETWORKS[0]).requires_grad_(False).to(device, torch.bfloat16)
    exact = copy.deepcopy(model).double()
    x, z = (torch.randn(2, model.config.estimator_channels, height, width, device=device).bfloat16() for _ in range(2))
    image = torch.randn(2, model.config.channels, height, width, device=device).bfloat16()
    modulation = torch.randn(2, 1, model.config.channels, device=device)
    with torch.no_grad(), left_out("descriptors", "programmatic_launch"), ops.backend("triton"), poisoned():
        found = {"dpcg": ops.dpcg(x, z, dpcg_weights(model.Estimator)),
                 "dpcb_stack": ops.dpcb_stack(image, dpcb_weights(model.Restorer), modulation)}
    expected = {"dpcg": dpcg_ref(x.double(), z.double(), dpcg_weights(exact.Estimator)),
                "dpcb_stack": dpcb_stack_ref(image.double(), dpcb_weights(exact.Restorer), modulation.double())}
    return _difference("a body", found, expected)


def _results(operator: Callable, arguments: dict[str, Any], gradients: bool) -> dict[str, Tensor]:
    """The outputs of ``operator``, and with ``gradients`` the gradients of the sum of their squares, by name."""
    values = {name: value.detach().clone().requires_grad_(gradients and name != "encoder")
             if isinstance(value, Tensor) else value for name, value in arguments.items()}
    with torch.set_grad_enabled(gradients):
        outputs = operator(**values)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    results = {f"output {number}": output.detach() for number, output in enumerate(outputs)}
    wanted = {name: value for name, value in values.items() if isinstance(value, Tensor) and value.requires_grad}
    if wanted:
        loss = torch.stack([output.double().square().sum() for output in outputs]).sum()
        results |= zip((f"gradient of {name}" for name in wanted), torch.autograd.grad(loss, list(wanted.values())),
                       strict=True)
    return results


def _difference(what: str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """The first result that differs by more than ``BOUND``, and by how much; empty if there is none."""
    for name, exact in expected.items():
        error = (found[name].double() - exact.double()).norm() / exact.double().norm().clamp(min=1e-30)
        if not error <= BOUND:  # NaN is not
            return f"{what}, {name}: off by {error:.2g} of its norm, expected at most {BOUND}"
    return ""


def _blur_downsample(device: torch.device) -> str:
    for scale, size in ((4, 21), (2, 11)):
        hr, kernel = torch.rand(3, 3, 64, 96, device=device), torch.rand(3, size, size, device=device)
        kernel /= kernel.sum((1, 2), keepdim=True)
        arguments = {"hr": hr, "kernel": kernel, "scale": scale}
        with ops.backend("cpp"), poisoned():
            found = _results(ops.blur_downsample, arguments, True)
        exact = _results(blur_downsample_ref, {**arguments, "hr": hr.double(), "kernel": kernel.double()}, True)
        if reason := _difference("blur_downsample", found, exact):
            return reason
    return ""


def _descriptors(device: torch.device) -> str:
    """Check every configuration of the convolution that loads boxes by descriptors on this GPU."""
    from dan_fast_kernels import configs, conv3x3

    for channels in (64, 32):
        x, residual = (torch.randn(2, channels, 37, 83, device=device).bfloat16().contiguous(
            memory_format=torch.channels_last) for _ in range(2))
        weight = (torch.randn(channels, channels, 3, 3, device=device) / (3 * channels**0.5)).bfloat16()
        weight, bias = weight.contiguous(memory_format=torch.channels_last), torch.randn(channels, device=device)
        scale = torch.randn(2, channels, device=device)
        exact = conv3x3_scale_residual_ref(*(tensor.double() for tensor in (x, weight, bias, scale, residual)))
        for config in configs.candidates_for(conv3x3.candidates(x), configs.capability(device)):
            if config["BOXES"]:
                with left_out("programmatic_launch"), poisoned():
                    found, _ = conv3x3.scale_residual(x, weight, bias, scale, residual, config=config)
                if reason := _difference(f"conv3x3 {config}", {"output": found}, {"output": exact}):
                    return reason
    return ""


def _programmatic_launch(device: torch.device) -> str:
    """Compare many small GPU kernels that overlap, replayed from a graph, with the same ones after each other, to the
    bit."""
    from .runtime.cuda_graphs import GraphStream, replay

    chain, image = convolutions(device)
    with ops.backend("triton"):
        stream = GraphStream(device)
        with stream.warm_up():
            chain()
        graph, found = stream.captured(chain)
        for _ in range(10):
            image.normal_()
            replay(graph)
            with left_out("programmatic_launch"):
                if not torch.equal(found, chain()):
                    return "a chain of convolutions gives other results than one after the other"
    return ""


def convolutions(device: torch.device) -> tuple[Callable[[], Tensor], Tensor]:
    """A function that computes a chain of convolutions, and the image that it starts with."""
    image = torch.randn(1, 64, 32, 32, device=device).bfloat16().contiguous(memory_format=torch.channels_last)
    weights = [torch.randn(64, 64, 3, 3, device=device).bfloat16().div(24).contiguous(memory_format=torch.channels_last)
               for _ in range(8)]
    bias = torch.randn(64, device=device)

    @torch.inference_mode()
    def chain() -> Tensor:
        x = image
        for weight in 4 * weights:
            x = ops.conv3x3_bias_lrelu(x, weight, bias)
        return x
    return chain, image


# --- graphs and plans ---------------------------------------------------------------------------------------


def _inference_graphs(device: torch.device) -> str:
    """Compare replayed passes with passes without a graph."""
    upscaler = Upscaler(load("default"), device=device, dtype=torch.bfloat16)
    for _ in range(4):  # the second one is captured
        image = torch.randint(0, 256, (40, 56, 3), dtype=torch.uint8).numpy()
        found = upscaler(image)
        with left_out("inference_graphs"):
            expected = upscaler(image)
        if abs(found.image.astype(int) - expected.image).max() > 2 or abs(found.kernel - expected.kernel).sum() > BOUND:
            return "a replayed pass gives another image than the same pass without a graph"
    if not upscaler.stats().graphs.hits:
        return "no pass was replayed"
    return ""


def _step(device: torch.device) -> tuple[TrainingStep, Tensor]:
    """A training step of a small network, and a batch for it."""
    torch.manual_seed(0)
    config = DANConfig(channels=32, groups=1, blocks=2, estimator_channels=16, estimator_blocks=1, kernel_size=21)
    model = DAN(config, torch.rand(21**2, config.code_length) / 100).to(device)
    step = TrainingStep(model, copy.deepcopy(model).requires_grad_(False), Degradation.setting1(4),
                        TrainingSettings(batch=4, patch=16), bf16=True)
    return step, torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)


def _training_graphs(device: torch.device) -> str:
    """Compare losses and the gradients' norm of replayed steps with steps without a graph."""
    def reports(*without: str) -> Tensor:
        step, hr = _step(device)
        with left_out(*without):
            return torch.stack([step(hr, seed=n, learning_rate=1e-4, average_weight=0.1, iterations=2).clone()
                                for n in range(6)]).cpu()
    found, expected = reports(), reports("training_graphs")
    return _difference("six steps, the last of them replayed", {"losses": found[:, :3]}, {"losses": expected[:, :3]})


def _training_plan(device: torch.device) -> str:
    """Compare the code that a plan finds within a training step with the model's."""
    step, _ = _step(device)
    lr = torch.rand(2, 3, 24, 28, device=device)

    def code(*without: str) -> Tensor:
        with left_out(*without), torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            return unroll(step.model, lr, 3).code
    return _difference("three iterations", {"code": code()}, {"code": code("training_plan")})


_CHECKS: dict[str, Callable[[torch.device], str]] = {
    "conv3x3": _conv3x3, "blur_downsample": _blur_downsample, "descriptors": _descriptors,
    "programmatic_launch": _programmatic_launch, "inference_graphs": _inference_graphs,
    "training_graphs": _training_graphs, "training_plan": _training_plan}


@contextmanager
def left_out(*parts: str) -> Iterator[None]:
    """Leave out ``parts`` within the block, besides those that already are."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join(filter(None, (before, *parts)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill new tensors with NaN within the block: memory of an earlier right result would hide what is not written."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _main(parts: Sequence[str], device: torch.device) -> int:
    """Print a verdict per part as a line of JSON; stop when this process can compute no more."""
    for part in parts:
        try:
            reason = check(part, device)
        except Exception as error:  # whatever a part raises is its verdict
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(json.dumps(Verdict(part, reason)._asdict()), flush=True)
        if not reason:
            continue
        os.environ[VARIABLE] = ",".join(filter(None, (os.environ.get(VARIABLE, ""), part)))
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            return 0  # the next parts are checked in another process
    return 0


if __name__ == "__main__":
    exit_code = _main(sys.argv[1:], torch.device("cuda", torch.cuda.current_device()))
    sys.stdout.flush()
    # At once: taking down a GPU that failed can kill the process, which would count against the next part.
    os._exit(exit_code)
