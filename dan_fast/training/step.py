"""The training step: degradation, network, losses, gradients, guard, Adam, average. Nothing in it waits for a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from weakref import WeakMethod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import record_function

from ..degradation.pipeline import Degradation
from ..fast_model.unroll import unroll
from ..model import DAN
from .capture import Captured
from .flat_parameters import FlatParameters
from .guard import DivergenceGuard
from .low_precision_copy import LowPrecisionCopy
from .processes import Processes
from .settings import TrainingSettings


class Losses(NamedTuple):
    """``sr``: of the image; ``kernel``: mean absolute error of the kernel (v2) or its code (v1)."""

    sr: Tensor
    kernel: Tensor


class Report(NamedTuple):
    """What a step found. ``skipped``, ``diverged``, ``stop``: whether; the first two are the guard's."""

    sr: float
    kernel: float
    gradient_norm: float
    learning_rate: float
    skipped: float
    diverged: float
    stop: float


def absolute(error: Tensor) -> Tensor:
    return error.abs().mean()


def squared(error: Tensor) -> Tensor:
    """Times 10, so that the kernel's loss keeps its share."""
    return 10 * error.square().mean()


# By the names of ``TrainingSettings.loss``, the image's loss of its error.
DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {"l1": absolute, "l2": squared}


def losses(model: DAN, lr: Tensor, hr: Tensor, kernel: Tensor, iterations: int,
           distance: Callable[[Tensor], Tensor] = absolute) -> Losses:
    """The last iteration's losses (v1, eq. 7; v2, section 4.1).

    ``lr`` (B, 3, h, w) and ``hr`` (B, 3, h*s, w*s) in [0, 1], ``kernel`` (B, k, k); ``distance``: the image's loss of
    its error.
    """
    out = unroll(model, lr, iterations)
    if out.kernel is None:
        return Losses(distance(out.sr - hr), F.l1_loss(out.code, model.encode(kernel)))
    return Losses(distance(out.sr - hr), F.l1_loss(out.kernel, kernel))


# What a network learns from: the arguments and the result of ``losses``.
LossFunction = Callable[[DAN, Tensor, Tensor, Tensor, int], Losses]


class _Adam(torch.optim.Adam):
    """Where it is fused it obeys these two, which torch sets from its GradScaler, without waiting for a GPU.

    Attributes:
        found_inf: float32 scalar; 1: leave everything as it is.
        grad_scale: float32 scalar; gradients are divided by it first.
    """

    found_inf: Tensor
    grad_scale: Tensor


class TrainingStep:
    """One optimiser step as one function of tensors that stay where they are: on a GPU it becomes one CUDA graph.

    Learning rate, weight of the average, seeds and verdicts are tensors there too. A bad step is skipped by the
    optimiser itself (``found_inf``), and clipping is its ``grad_scale``.

    Args:
        model: gets its gradients and new weights here; its parameters become views of ``weights``.
        average: of the same shape: the moving average of the weights.
        settings: ``batch`` is of all processes together, and so is every random number: the same losses and weights,
            up to rounding, on any number of them.
        bf16: run the network in bfloat16 (autocast); weights, losses and optimiser stay as they are.
        loss: what it learns from; default: ``losses`` with the settings' distance.
    """

    def __init__(self, model: DAN, average: DAN, degradation: Degradation, settings: TrainingSettings, *,
                 bf16: bool = False, processes: Processes | None = None, loss: LossFunction | None = None) -> None:
        self.model, self.average = model, average
        self.degradation, self.settings, self.bf16 = degradation, settings, bf16
        self.processes = processes or Processes()
        self.loss = loss
        self.weights = FlatParameters(model, extra=3)
        self.averaged = FlatParameters(average, gradients=False)
        like = self.weights.values
        self.device = like.device
        self.learning_rate, self.average_weight, self.stop = like.new_zeros(3).unbind()
        self.generator = torch.Generator(self.device)
        self.guard = DivergenceGuard(self.device)
        self.optimizer = self._make_optimizer()
        self._hr: Tensor | None = None
        self._low_precision_copy: LowPrecisionCopy | None = None
        self._captured: tuple[int, Captured] | None = None

    def __call__(self, hr: Tensor, *, seed: int, learning_rate: float, average_weight: float, iterations: int,
                 stop: bool = False) -> Tensor:
        """Take one step; the result is (7,), the fields of ``Report``, and is overwritten by the next one.

        Args:
            hr: (B, 3, H, W) uint8, this process's part of the batch, on any device.
            seed: of the degradation.
            average_weight: of the new weights in the average.
            iterations: to unroll.
            stop: this process was asked to stop; the report says so to all.
        """
        if self._hr is None:
            self._hr = torch.empty_like(hr, device=self.device)
        self._hr.copy_(hr, non_blocking=True)
        self.generator.manual_seed(seed)
        self.learning_rate.fill_(learning_rate)
        self.average_weight.fill_(average_weight)
        self.stop.fill_(stop)
        if self.device.type != "cuda":
            return self._compute(iterations)
        if self._captured is None or self._captured[0] != iterations:
            self._captured = iterations, Captured(self.computing(iterations), self.generator)
        return self._captured[1]()

    def computing(self, iterations: int) -> Callable[[], Tensor]:
        """A step on what the tensors hold; it does not keep this object, whose graph would keep it in turn."""
        method = WeakMethod(self._compute)

        def compute() -> Tensor:
            known = method()
            assert known is not None, "the step is gone"
            return known(iterations)
        return compute

    def _compute(self, iterations: int) -> Tensor:
        assert self._hr is not None
        shared, gradients, values = self.weights.shared, self.weights.gradients, self.weights.values
        assert shared is not None and gradients is not None
        settings, processes = self.settings, self.processes
        with record_function("degradation"):
            hr = self._hr.to(values.dtype).div(255)
            lr, kernel = self.degradation(hr, self.generator, (processes.rank, processes.count))
            lr = lr.contiguous(memory_format=torch.channels_last)
        rounded = self._updated_low_precision_copy()
        with record_function("forward"), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            learn = self.loss or partial(losses, distance=DISTANCES[settings.loss])
            loss = learn(rounded.model if rounded else self.model, lr, hr, kernel.to(hr.dtype), iterations)
        with record_function("backward"):
            total = (loss.sr + settings.kernel_weight * loss.kernel) / processes.count
            if rounded:
                rounded.compute_gradients(total)
            else:
                gradients.zero_()
                total.backward()
        with record_function("update"), torch.no_grad():
            # The losses and the wish to stop are summed along with the gradients.
            shared[len(gradients):] = torch.stack(
                (loss.sr.detach() / processes.count, loss.kernel.detach() / processes.count, self.stop)).to(shared)
            processes.sum(shared)
            sr, kernel_loss, stop = shared[len(gradients):]
            norm = torch.linalg.vector_norm(gradients)
            skipped, diverged = self.guard.judge(sr + settings.kernel_weight * kernel_loss, norm)
            self._update(norm, skipped)
            report = (sr, kernel_loss, norm, self.learning_rate, skipped, diverged, stop)
            return torch.stack([value.to(values.dtype) for value in report])

    def _updated_low_precision_copy(self) -> LowPrecisionCopy | None:
        """With the weights as they are now; None where nothing is rounded, or the model may not be what it looks."""
        if not self.bf16 or type(self.model) is not DAN:
            return None
        if self._low_precision_copy is None:
            self._low_precision_copy = LowPrecisionCopy(self.model, self.weights, torch.bfloat16)
        self._low_precision_copy.round()
        return self._low_precision_copy

    def _update(self, norm: Tensor, skipped: Tensor) -> None:
        """Adam on clipped gradients, then the average; neither changes where ``skipped`` is true."""
        self.optimizer.found_inf = skipped.float()
        self.optimizer.grad_scale = (norm / self.settings.clip).clamp(min=1).float()
        self.optimizer.step()
        # The fused optimiser does not count its changes, and packed weights go by the count.
        torch.autograd.graph.increment_version(self.weights.values)
        self.averaged.values.lerp_(self.weights.values, torch.where(skipped, 0, self.average_weight))

    def _make_optimizer(self) -> _Adam:
        parameter = torch.nn.Parameter(self.weights.values)
        parameter.grad = self.weights.gradients
        optimizer = _Adam([parameter], self.learning_rate, betas=(0.9, 0.99), fused=True,
                          capturable=self.device.type == "cuda")
        # A step that is skipped only makes the optimiser's state, which then stays where it is.
        optimizer.found_inf, optimizer.grad_scale = torch.ones(2, device=self.device).unbind()
        optimizer.step()
        self.moments: dict[str, Tensor] = optimizer.state[parameter]
        return optimizer

    def release(self) -> None:
        """Drop the CUDA graph, which must be gone before the processes that it talks to part."""
        self._captured = None

    def state_dict(self) -> dict:
        """All that a step changes, by name."""
        return {"model": self.model.state_dict(), "average": self.average.state_dict(), "optimizer": dict(self.moments),
                "guard": self.guard.state_dict()}

    def load_state_dict(self, state: dict, *, guard: bool = True) -> None:
        """Take back what ``state_dict`` gave, in place; with ``guard=False`` all but the guard's."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for name, tensor in self.moments.items():
            tensor.copy_(state["optimizer"][name])
        if guard:
            self.guard.load_state_dict(state["guard"])
