"""Is training both networks together better than training each on its own? Asked by the papers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..model import DAN, DANOutput
from ..training.presets import Preset
from ..training.step import Losses
from .budget import with_work_of
from .corrector import Correcting, corrected, correcting_step, losses_corrected
from .experiment import Experiment, Trial, Variant
from .halves import estimate_from_lr, restore

JOINT = "joint (DAN)"


def two_steps(model: DAN, lr: Tensor, kernel: Tensor) -> DANOutput:
    """Estimate the kernel from ``lr`` alone, then restore once."""
    estimate = estimate_from_lr(model, lr)
    code = model.encode(estimate)
    return DANOutput(restore(model, lr, code.detach()), estimate, code)


def with_true_kernel(model: DAN, lr: Tensor, kernel: Tensor) -> DANOutput:
    """Restore once with the true kernel."""
    code = model.encode(kernel)
    return DANOutput(restore(model, lr, code), kernel, code)


def losses_with_estimate(model: DAN, lr: Tensor, hr: Tensor, kernel: Tensor, iterations: int) -> Losses:
    """The losses of an Estimator trained by its kernel alone, and of a Restorer that gets this kernel."""
    out = two_steps(model, lr, kernel)
    return Losses(F.l1_loss(out.sr, hr), _kernel_loss(out, kernel))


def losses_apart(model: DAN, lr: Tensor, hr: Tensor, kernel: Tensor, iterations: int) -> Losses:
    """The losses of an Estimator trained by its kernel alone, and of a Restorer that gets the true kernel."""
    sr = with_true_kernel(model, lr, kernel).sr
    return Losses(F.l1_loss(sr, hr), _kernel_loss(two_steps(model, lr, kernel), kernel))


def _kernel_loss(out: DANOutput, kernel: Tensor) -> Tensor:
    assert out.kernel is not None  # v2 has one
    return F.l1_loss(out.kernel, kernel)


def end_to_end(preset: Preset) -> Experiment:
    return Experiment(
        "Is training Estimator and Restorer together better than training each on its own?",
        (Variant("joint", preset, (Trial(JOINT),)),
         Variant("two-steps", preset, (Trial("two steps, Restorer trained with estimates", two_steps, JOINT),),
                 loss=losses_with_estimate),
         Variant("apart", preset, (Trial("two steps, Restorer trained with true kernels", two_steps, JOINT),
                                   Trial("bound: the true kernel", with_true_kernel, JOINT)), loss=losses_apart),
         Variant("corrected", with_work_of(preset, preset, correcting_step),
                 (Trial("two steps and corrections (as IKC)", corrected, JOINT),),
                 build=Correcting, loss=losses_corrected)),
        "In two steps the Estimator gets only the LR image, and neither network is trained with the other one's loss. "
        "Both are trained in one run with as many steps as the joint network, whose steps take longer as they "
        "go through several iterations. With corrections there is a third network, and as many steps as take the joint "
        "network's number of multiplications.",
        # Each way gives the Estimator other images. The Restorer is common, though weights know estimated kernels.
        anew=("Estimator.",))
