"""All iterations with gradients, in little memory."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from dan_fast_kernels.without import without
from torch import Tensor
from torch.profiler import record_function
from torch.utils.checkpoint import checkpoint

from ..model import DAN, DANOutput
from ..ops.backend import as_asked
from .alternation import Whole, alternate
from .learning import is_plain, iteration
from .versions import parts_of, plan_for


def unroll(model: DAN, lr: Tensor, iterations: int) -> DANOutput:
    """``model(lr, iterations)`` with its gradients, in less memory.

    If gradients flow through the last iteration only, the earlier ones run without autograd. If they flow through all,
    activations are computed again in the backward pass, one iteration at a time.

    Args:
        lr: (B, 3, h, w) in [0, 1].
    """
    if model.config.gradient == "last":
        with torch.no_grad(), record_function("first iterations"):
            code = _code_after(model, lr, iterations - 1)
        return iteration(model, lr, code, last=True)
    code = model.init_ker_map.to(lr.dtype).expand(lr.shape[0], -1)
    for _ in range(iterations - 1):
        code = checkpoint(iteration, model, lr, code, use_reentrant=False, preserve_rng_state=False,
                          context_fn=_as_in_the_forward_pass).code
    return iteration(model, lr, code, last=True)


def _as_in_the_forward_pass() -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts of a checkpoint's two passes: the second asks for the backend that the first was asked for, as it
    runs in a thread of autograd's own on a GPU."""
    return nullcontext(), as_asked()


def _code_after(model: DAN, lr: Tensor, iterations: int) -> Tensor:
    """The code (B, c) after ``iterations`` iterations without autograd."""
    code = model.init_ker_map.to(lr.dtype).expand(lr.shape[0], -1)
    if iterations and _plan_pays(model, lr):
        # Made anew in every step, as the weights have changed.
        device = lr.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else lr.dtype
        with torch.autocast(device, enabled=False):
            plan = plan_for(model, dtype, refines=False)
            estimate = alternate(plan, Whole(plan, lr), iterations, writes=False).estimate
        assert estimate is not None
        return estimate.code
    for _ in range(iterations):
        code = model.step(lr, code).code
    return code


def _plan_pays(model: DAN, lr: Tensor) -> bool:
    """Whether a plan computes what the modules do, and saves time although it serves one step only."""
    if not is_plain(model) or without("training_plan"):
        return False
    if lr.device.type != "cpu":
        return True
    return (parts_of(model.config).plans_training_on_cpu and model.config.upsampler == "direct"
            and lr.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"))
