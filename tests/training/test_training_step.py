"""The training step: the reference's gradients, no waiting for the device, less memory."""

import copy
import importlib
import subprocess
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support.networks import REFINER, tiny_config, tiny_network
from support.rounding import RoundedTo
from torch.nn.utils import clip_grad_norm_
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import dan_fast
from dan_fast import ops
from dan_fast.degradation import degrade
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.fast_model import unroll as unroll_module
from dan_fast.fast_model.dual_path import dpcb_weights
from dan_fast.fast_model.learning import iteration
from dan_fast.fast_model.unroll import unroll
from dan_fast.ops import dpcb_stack
from dan_fast.ops.blur_downsample import blur_downsample_ref
from dan_fast.training.clock import StepClock
from dan_fast.training.delayed_reports import DelayedReports
from dan_fast.training.flat_parameters import ALIGNMENT, FlatParameters
from dan_fast.training.low_precision_copy import LowPrecisionCopy
from dan_fast.training.settings import TrainingSettings
from dan_fast.training.step import Report, TrainingStep, losses

pytestmark = pytest.mark.usefixtures("one_thread")
V1 = {"version": "v1", "groups": 0, "blocks": 1, "upsampler": "published"}
CONFIGS = {"v2": {}, "v2, all": {"gradient": "all"}, "v2, doubled": {"group_residual": "doubled", "groups": 2},
           "v2, published upsampler": {"upsampler": "published"}, "v1": V1, "v1, all": {**V1, "gradient": "all"},
           "v2, refiner": REFINER, "v2, refiner, all": {"gradient": "all", **REFINER}}


def make_step(dtype: torch.dtype = torch.float32, clip: float = 0.1, **config) -> TrainingStep:
    model = tiny_network(scale=2, kernel_size=9, **config).to(dtype)
    settings = TrainingSettings(batch=3, patch=11, learning_rate=1e-2, kernel_weight=2.0, clip=clip, ema=0.9)
    return TrainingStep(model, copy.deepcopy(model).requires_grad_(False), Degradation(2, 9, (0.2, 2.0)), settings)


def batch(count: int = 3, width: int = 26) -> torch.Tensor:
    """A batch that is not contiguous."""
    return torch.randint(0, 256, (count, 22, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)


def plain_loop(step: TrainingStep, hrs: list[torch.Tensor], iterations: int) -> tuple[list, list, dan_fast.DAN]:
    """Train with autograd through the reference model and torch's Adam; return losses, gradients and average."""
    model, average, settings = copy.deepcopy(step.model), copy.deepcopy(step.average), step.settings
    for parameter in model.parameters():
        parameter.grad = None
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate, betas=(0.9, 0.99), foreach=False)
    reports, gradients = [], []
    for seed, hr in enumerate(hrs):
        sharp = hr.to(next(model.parameters()).dtype) / 255
        lr, kernel = step.degradation(sharp, torch.Generator().manual_seed(seed))
        out = model(lr, iterations)
        truth = kernel.to(sharp) if out.kernel is not None else model.encode(kernel.to(sharp))
        guess = out.kernel if out.kernel is not None else out.code
        sr_loss, kernel_loss = F.l1_loss(out.sr, sharp), F.l1_loss(guess, truth)
        optimizer.zero_grad()
        (sr_loss + settings.kernel_weight * kernel_loss).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        norm = clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        reports.append((sr_loss.item(), kernel_loss.item(), norm.item()))
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - settings.ema)
    return reports, gradients, average


@pytest.fixture(params=[False, True], ids=["few pixels", "many pixels"])
def collapses(request, monkeypatch):
    """With many pixels the published upsampler is one convolution."""
    if request.param:
        monkeypatch.setattr("dan_fast.fast_model.learning.COLLAPSE_FROM", 0)


@pytest.mark.parametrize("name, iterations", [*((name, 3) for name in CONFIGS), ("v2", 1)])
def test_gradients_weights_and_losses_are_those_of_the_plain_loop(name, iterations, collapses):
    step = make_step(torch.float64, clip=1e6, **CONFIGS[name])
    hrs = [batch() for _ in range(3)]
    reports, gradients, average = plain_loop(step, hrs, iterations)
    for seed, hr in enumerate(hrs):
        report = Report(*step(hr, seed=seed, learning_rate=1e-2, average_weight=0.1, iterations=iterations).tolist())
        assert report[:3] == pytest.approx(reports[seed], rel=1e-10) and report[4:] == (0, 0, 0)
        for parameter, expected in zip(step.model.parameters(), gradients[seed], strict=True):
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-11)
    for a, b in zip(step.average.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_clipping_is_that_of_torch():
    step = make_step(clip=1e-9)  # so small that Adam's epsilon matters; otherwise Adam would cancel the clipping
    hrs = [batch() for _ in range(3)]
    _, _, average = plain_loop(step, hrs, 2)
    for seed, hr in enumerate(hrs):
        step(hr, seed=seed, learning_rate=1e-2, average_weight=0.1, iterations=2)
    for a, b in zip(step.average.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_in_float32_the_first_iterations_go_through_the_plan(native):
    step = make_step()
    hr = batch()
    for seed, expected in enumerate(plain_loop(step, [hr] * 4, 4)[0]):
        # The weights change with every step, and plan and packed weights must follow.
        report = step(hr, seed=seed, learning_rate=1e-2, average_weight=0.1, iterations=4).tolist()
        assert report[:3] == pytest.approx(expected, rel=2e-4)


def test_everything_stays_where_it_is():
    """A CUDA graph reads and writes the addresses that it was captured with."""
    step = make_step()

    def addresses() -> list[int]:
        tensors = [*step.model.parameters(), *(p.grad for p in step.model.parameters()), *step.average.parameters(),
                   *step.moments.values(), *step.guard.state_dict().values(), step._hr, step.learning_rate,
                   step.average_weight, step.stop, step.weights.shared, *step.model.buffers()]
        return [tensor.data_ptr() for tensor in tensors]

    step(batch(), seed=0, learning_rate=1e-2, average_weight=0.1, iterations=2)
    before, state = addresses(), copy.deepcopy(step.state_dict())
    step(batch(), seed=1, learning_rate=1e-3, average_weight=0.2, iterations=2)
    step.load_state_dict(state)
    step.guard.reset()
    step(batch(), seed=2, learning_rate=1e-3, average_weight=0.2, iterations=2)
    assert addresses() == before


class NoWaiting(TorchDispatchMode):
    """Fails where a tensor's value is read, which would wait for a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(function), f"{function} waits for the device"
        assert function is not torch.ops.aten.nonzero.default, "the shape of nonzero waits for the device"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["v2", "v2, all", "v1"])
def test_no_step_waits_for_the_device(name, collapses):
    step = make_step(**CONFIGS[name])
    with NoWaiting():
        for seed in range(3):
            step(batch(), seed=seed, learning_rate=1e-2, average_weight=0.1, iterations=3)
    with NoWaiting(), pytest.raises(AssertionError, match="waits"):
        step.learning_rate.item()


def test_irregular_and_noisy_degradations_wait_neither():
    step = make_step()
    step.degradation = Degradation(2, 9, (0.6, 2.0), irregular=True, noise=0.1)
    with NoWaiting():
        step(batch(), seed=0, learning_rate=1e-2, average_weight=0.1, iterations=2)


def test_parts_of_a_batch_get_the_random_numbers_of_the_whole():
    degradation = Degradation(2, 9, (0.6, 2.0), irregular=True, noise=0.1)
    hr = torch.rand(6, 3, 22, 26)
    whole = degradation(hr, torch.Generator().manual_seed(5))
    parts = [degradation(hr[2 * i:2 * i + 2], torch.Generator().manual_seed(5), (i, 3)) for i in range(3)]
    for expected, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces), expected, rtol=0, atol=0)


def test_bf16_learns_in_every_iteration_count():
    step = make_step()
    step.bf16 = True
    before = step.weights.values.clone()
    report = Report(*step(batch(), seed=0, learning_rate=1e-2, average_weight=0.1, iterations=3).tolist())
    assert report.gradient_norm > 0 and not report.skipped and step.weights.values.dtype == torch.float32
    assert all((p != before_p).any() for p, before_p in zip(
        step.model.parameters(), _split(before, step.model), strict=True) if p.dim() == 4)


def _split(vector: torch.Tensor, model: dan_fast.DAN) -> list[torch.Tensor]:
    twin = copy.deepcopy(model)
    flat = FlatParameters(twin, gradients=False)
    flat.values.copy_(vector)
    return list(twin.parameters())


def test_flat_parameters():
    tiny_model = make_step().average.requires_grad_(True)
    before = {name: p.detach().clone() for name, p in tiny_model.named_parameters()}
    flat = FlatParameters(tiny_model, extra=2)
    assert flat.shared.numel() == flat.values.numel() + 2
    for name, parameter in tiny_model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.data_ptr() % (ALIGNMENT * 4) == flat.values.data_ptr() % (ALIGNMENT * 4)
        assert parameter.grad.stride() == parameter.stride()
        if parameter.dim() == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)
    tiny_model(torch.rand(1, 3, 8, 8)).sr.sum().backward()
    assert flat.gradients.abs().sum() > 0
    flat.values.zero_()
    assert all((p == 0).all() for p in tiny_model.parameters())


def test_packed_weights_notice_a_step(native):
    step = make_step()
    x, scales = torch.rand(1, 16, 8, 8), torch.rand(1, 1, 16)

    def body() -> torch.Tensor:
        with torch.no_grad():
            return dpcb_stack(x, dpcb_weights(step.model.Restorer), scales)

    before = body()
    step(batch(), seed=0, learning_rate=1e-1, average_weight=0.1, iterations=1)
    assert (body() - before).abs().max() > 1e-3


def test_late_reader():
    clock = StepClock(torch.device("cpu"))
    reader = DelayedReports(2)
    values = torch.zeros(1)
    for step in range(1, 5):
        reader.push(step, values.fill_(step), clock.step_ended())
    found = [*reader.read()]
    assert [one[:2] for one in found] == [(1, [1.0]), (2, [2.0])] and list(reader.read()) == []
    assert all(times.seconds >= times.waited == 0 for _, _, times in found)
    twin = DelayedReports(2)
    twin.load_state_dict(reader.state_dict(), reader.times())
    assert list(twin.read(0)) == list(reader.read(0))
    twin.load_state_dict({3: [3.0]}, {})
    assert list(twin.read(0)) == [(3, [3.0], None)]


MEMORY = r"""
import re, sys, torch
from pathlib import Path
import dan_fast
from dan_fast.training.step import losses
torch.set_num_threads(1)
config = dan_fast.DANConfig(scale=2, channels=32, groups=1, blocks=4, estimator_channels=16, estimator_blocks=1,
                            gradient="all", upsampler="direct")
model = dan_fast.DAN(config, torch.rand(441, 10))

def peak():  # not ru_maxrss, which a process inherits from its parent
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])

lr, hr, kernel = torch.rand(4, 3, 64, 64), torch.rand(4, 3, 128, 128), torch.rand(4, 21, 21)
lr = lr.contiguous(memory_format=torch.channels_last)  # as in a training, so that nothing is copied
losses(model, lr[:1, :, :8, :8], hr[:1, :, :16, :16], kernel[:1], 4).sr.backward()  # imports and other first-time work
before = peak()
if sys.argv[1] == "plain":
    out = model(lr)
    (out.sr - hr).abs().mean().backward()
else:
    losses(model, lr, hr, kernel, 4).sr.backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_full_unroll_takes_less_memory_than_all_graphs():
    # The least of three, as the allocator keeps more or less of what was freed.
    plain, ours = (min(int(subprocess.run([sys.executable, "-c", MEMORY, how], capture_output=True, text=True,
                                          check=True).stdout) for _ in range(3)) for how in ("plain", "ours"))
    assert ours < 0.5 * plain, f"{ours} and {plain} KiB"


def test_the_loss_of_the_image_is_the_settings_own():
    found = {}
    for loss in ("l1", "l2"):
        torch.manual_seed(0)
        step = make_step()
        step.settings = replace(step.settings, loss=loss)
        hr = batch()
        found[loss] = Report(*step(hr, seed=0, learning_rate=0, average_weight=0, iterations=2).tolist())
    torch.manual_seed(0)
    step = make_step()
    sharp = batch() / 255
    lr, _ = step.degradation(sharp, torch.Generator().manual_seed(0))
    error = step.model(lr, 2).sr - sharp
    assert found["l1"].sr == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert found["l2"].sr == pytest.approx(10 * error.square().mean().item(), rel=1e-5)
    assert found["l1"].kernel == found["l2"].kernel
    with pytest.raises(DanFastError, match="loss='huber': expected 'l1' or 'l2'"):
        TrainingSettings(loss="huber")


def test_losses_of_both_versions():
    for config in ({}, V1):
        model = dan_fast.DAN(tiny_config(scale=2, kernel_size=9, **config))
        loss = losses(model, torch.rand(2, 3, 8, 9), torch.rand(2, 3, 16, 18), torch.rand(2, 9, 9), 2)
        assert loss.sr.requires_grad and loss.kernel.requires_grad


class StaysThere(TorchDispatchMode):
    """Fails where a tensor is not on ``device``, as a CUDA graph cannot copy from the host."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == self.device, f"{function} of a tensor on {tensor.device}"
        return result


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_comes_from_the_host_once_the_first_step_is_taken(name, monkeypatch, collapses):
    # Autocast does not support the meta device.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model = dan_fast.DAN(tiny_config(scale=2, kernel_size=9, **CONFIGS[name])).to("meta")
    lr = torch.empty(2, 3, 8, 9, device="meta")

    def step() -> None:
        out = unroll(model, lr, 3)
        (out.sr.sum() + out.code.sum()).backward()

    step()
    with StaysThere("meta"):
        step()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    with StaysThere("meta"), pytest.raises(AssertionError, match="on cpu"):
        torch.zeros(3).to("meta")


def test_a_recomputed_iteration_is_asked_for_the_backend_of_the_first_pass(monkeypatch):
    """Also in another thread, as autograd uses for a GPU."""
    backends, asked = importlib.import_module("dan_fast.ops.backend"), []

    def noted(*arguments, **options):
        asked.append(backends._ASKED.get())
        return iteration(*arguments, **options)
    monkeypatch.setattr(unroll_module, "iteration", noted)
    model = dan_fast.DAN(tiny_config(gradient="all"))
    with ops.backend("torch", "auto"):
        loss = unroll(model, torch.rand(1, 3, 8, 8), 3).sr.sum()
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    assert asked == [("torch", "auto")] * 5  # three iterations, two of them computed again


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_weights_rounded_once_give_the_gradients_of_autocast(name, planned, monkeypatch, collapses):
    monkeypatch.setattr(unroll_module, "_plan_pays", lambda model, lr: planned)
    step = make_step(**CONFIGS[name])
    lr, hr, kernel = torch.rand(2, 3, 8, 9), torch.rand(2, 3, 16, 18), torch.rand(2, 9, 9)
    gradients = step.weights.gradients

    def loss_of(model):
        with torch.autocast("cpu", torch.bfloat16):
            found = losses(model, lr, hr, kernel, 2)
        return found.sr + found.kernel
    gradients.zero_()
    loss_of(step.model).backward()
    expected = gradients.clone()
    gradients.fill_(torch.nan)
    rounded = LowPrecisionCopy(step.model, step.weights, torch.bfloat16)
    rounded.update()
    rounded.compute_gradients(loss_of(rounded.model))
    # With gradients through several iterations their sum is rounded to 16 bits here.
    bound = 2**-7 if step.model.config.gradient == "all" else 1e-6
    for name, parameter in step.model.named_parameters():
        part = slice(step.weights.starts[name], step.weights.starts[name] + parameter.numel())
        assert (gradients[part] - expected[part]).norm() <= bound * expected[part].norm(), name


def test_a_step_in_bfloat16_rounds_the_weights_as_they_are_now():
    step = make_step()
    step.bf16 = True
    for seed in range(3):
        before = step.weights.values.clone()
        step(batch(), seed=seed, learning_rate=1e-2, average_weight=0.1, iterations=2)
        assert torch.equal(step._low_precision_copy._values, before.bfloat16())
        assert not torch.equal(step.weights.values, before)
    low = [parameter.dtype for parameter in step._low_precision_copy.model.parameters()]
    assert set(low) == {torch.bfloat16, torch.float32}
    assert all(parameter.grad is None for parameter in step._low_precision_copy.model.parameters())


@pytest.mark.parametrize("irregular", [False, True])
def test_nothing_of_a_degradation_comes_from_the_host_once_one_is_made(irregular, monkeypatch):
    """Also by the reference operator, which is used where the extension was built without CUDA."""
    monkeypatch.setattr(degrade, "blur_downsample", blur_downsample_ref)
    degradation = Degradation(2, 9, (0.6, 2.0), irregular=irregular, noise=0.1)
    hr = torch.empty(2, 3, 18, 22, device="meta")
    degradation(hr)
    with StaysThere("meta"):
        degradation(hr)


@pytest.mark.parametrize("name", ["v2", "v1"])
def test_in_bfloat16_the_iteration_that_learns_errs_as_the_model_does(name):
    model = dan_fast.DAN(tiny_config(**CONFIGS[name]))
    exact, lr = copy.deepcopy(model).double(), torch.rand(2, 3, 9, 8)
    code = model.init_ker_map.expand(2, -1)
    weight = torch.randn(2, 3, 9 * model.config.scale, 8 * model.config.scale)

    def gradients(take, model, lr, code, bf16):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = take(model, lr, code)
        guess = out.code if out.kernel is None else out.kernel
        ((out.sr * weight).sum() + guess.square().sum()).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    true = gradients(dan_fast.DAN.step, exact, lr.double(), code.double(), False)
    ours = gradients(iteration, model, lr, code, True)
    with RoundedTo(torch.bfloat16):
        rounded = gradients(dan_fast.DAN.step, exact, lr.double(), code.double(), False)
    assert torch.linalg.vector_norm(ours - true) <= 2 * torch.linalg.vector_norm(rounded - true)
