"""The training step: degradation, network, losses, gradients, guard, Adam, moving average.

Nothing in it waits for a GPU.
"""

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
    """The losses of one step.

    Attributes:
        sr: of the image.
        kernel: mean absolute error of the kernel (v2) or its code (v1).
    """

    sr: Tensor
    kernel: Tensor


class Report(NamedTuple):
    """The figures of one step. The last three are flags, 0 or not.

    Attributes:
        sr, kernel: the losses.
        gradient_norm: of all gradients together, before clipping.
        learning_rate: of this step.
        skipped: the guard found the step bad.
        diverged: the guard found that the run has diverged.
        stop: a process was asked to stop.
    """

    sr: float
    kernel: float
    gradient_norm: float
    learning_rate: float
    skipped: float
    diverged: float
    stop: float


def absolute(error: Tensor) -> Tensor:
    """The mean absolute error."""
    return error.abs().mean()


def squared(error: Tensor) -> Tensor:
    """Ten times the mean squared error, so that the kernel's loss keeps its share of the sum."""
    return 10 * error.square().mean()


# The losses of an image's error, by the names of ``TrainingSettings.loss``.
DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {"l1": absolute, "l2": squared}


def losses(model: DAN, lr: Tensor, hr: Tensor, kernel: Tensor, iterations: int,
           distance: Callable[[Tensor], Tensor] = absolute) -> Losses:
    """Return the last iteration's losses (v1, eq. 7; v2, section 4.1).

    Args:
        lr: (B, 3, h, w) in [0, 1].
        hr: (B, 3, h*s, w*s) in [0, 1].
        kernel: (B, k, k).
        distance: the loss of the image's error.
    """
    out = unroll(model, lr, iterations)
    if out.kernel is None:
        return Losses(distance(out.sr - hr), F.l1_loss(out.code, model.encode(kernel)))
    return Losses(distance(out.sr - hr), F.l1_loss(out.kernel, kernel))


# Called as ``losses`` is, without ``distance``.
LossFunction = Callable[[DAN, Tensor, Tensor, Tensor, int], Losses]


class _Adam(torch.optim.Adam):
    """Adam with the two attributes that torch sets from its GradScaler; fused Adam reads them on the GPU.

    Attributes:
        found_inf: float32 scalar; 1: change nothing.
        grad_scale: float32 scalar; gradients are divided by it first.
    """

    found_inf: Tensor
    grad_scale: Tensor


class TrainingStep:
    """One optimiser step as a function of tensors at fixed addresses, which a GPU runs as one CUDA graph.

    So learning rate, weight of the average and the guard's verdicts are tensors too. The optimiser itself skips a bad
    step (``found_inf``) and clips the gradients (``grad_scale``).

    Args:
        model: the network to train; its parameters become views of ``weights``.
        average: a copy of it, for the moving average of the weights.
        settings: ``batch`` is that of all processes together. Random numbers are drawn for the whole batch, so losses
            and weights are the same, up to rounding, with any number of processes.
        bf16: run the network in bfloat16 (autocast); weights, losses and optimiser stay as they are.
        loss: the loss function; default: ``losses`` with the settings' distance.
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
        """Take one step and return the fields of ``Report``, (7,), which the next step overwrites.

        Args:
            hr: (B, 3, H, W) uint8, this process's part of the batch, on any device.
            seed: of the degradation.
            average_weight: weight of the new parameters in the moving average.
            iterations: how many to unroll.
            stop: this process was asked to stop; the report tells all processes.
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
            self._captured = iterations, Captured(self.as_function(iterations), self.generator)
        return self._captured[1]()

    def as_function(self, iterations: int) -> Callable[[], Tensor]:
        """Return a function that takes a step on the tensors' current values.

        It refers to this object weakly: the object keeps the CUDA graph, and the graph the function.
        """
        method = WeakMethod(self._compute)

        def compute() -> Tensor:
            alive = method()
            assert alive is not None, "the step is gone"
            return alive(iterations)
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
        copy = self._updated_low_precision_copy()
        with record_function("forward"), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss_function = self.loss or partial(losses, distance=DISTANCES[settings.loss])
            loss = loss_function(copy.model if copy else self.model, lr, hr, kernel.to(hr.dtype), iterations)
        with record_function("backward"):
            total = (loss.sr + settings.kernel_weight * loss.kernel) / processes.count
            if copy:
                copy.compute_gradients(total)
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
        """The copy with the current weights; None in float32, and for subclasses, which may compute something else."""
        if not self.bf16 or type(self.model) is not DAN:
            return None
        if self._low_precision_copy is None:
            self._low_precision_copy = LowPrecisionCopy(self.model, self.weights, torch.bfloat16)
        self._low_precision_copy.update()
        return self._low_precision_copy

    def _update(self, norm: Tensor, skipped: Tensor) -> None:
        """Update the weights with Adam and clipped gradients, then their average; nothing changes if ``skipped``."""
        self.optimizer.found_inf = skipped.float()
        self.optimizer.grad_scale = (norm / self.settings.clip).clamp(min=1).float()
        self.optimizer.step()
        # Packed weights are made again when the version counter changes, which the fused optimiser leaves as it is.
        torch.autograd.graph.increment_version(self.weights.values)
        self.averaged.values.lerp_(self.weights.values, torch.where(skipped, 0, self.average_weight))

    def _make_optimizer(self) -> _Adam:
        parameter = torch.nn.Parameter(self.weights.values)
        parameter.grad = self.weights.gradients
        optimizer = _Adam([parameter], self.learning_rate, betas=(0.9, 0.99), fused=True,
                          capturable=self.device.type == "cuda")
        # A skipped step makes the optimiser's state, whose tensors then keep their addresses.
        optimizer.found_inf, optimizer.grad_scale = torch.ones(2, device=self.device).unbind()
        optimizer.step()
        self.moments: dict[str, Tensor] = optimizer.state[parameter]
        return optimizer

    def release(self) -> None:
        """Drop the CUDA graph, which must happen while the processes that it communicates with are still joined."""
        self._captured = None

    def state_dict(self) -> dict:
        """Return everything that a step changes, by name."""
        return {"model": self.model.state_dict(), "average": self.average.state_dict(), "optimizer": dict(self.moments),
                "guard": self.guard.state_dict()}

    def load_state_dict(self, state: dict, *, guard: bool = True) -> None:
        """Restore what ``state_dict`` returned, in place; with ``guard=False`` all but the guard's state."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for name, tensor in self.moments.items():
            tensor.copy_(state["optimizer"][name])
        if guard:
            self.guard.load_state_dict(state["guard"])
