"""The bound on the error of an operator's values and gradients; the truth is its reference in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from support.rounding import RoundedTo, coarsest


def results(function: Callable, tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """By name the outputs of ``function(*tensors)``, and the gradients of those tensors that require one.

    The gradients are those of ``sum(output * weight)``.
    """
    tensors = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors]
    outputs = function(*tensors)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    loss = sum((out * weight.to(out)).sum() for out, weight in zip(outputs, weights, strict=True))
    learn = {f"gradient {i}": tensor for i, tensor in enumerate(tensors) if tensor.requires_grad}
    gradients = torch.autograd.grad(loss, list(learn.values())) if learn else ()
    return {**{f"output {i}": out.detach() for i, out in enumerate(outputs)},
            **dict(zip(learn, gradients, strict=True))}


def assert_accurate(function: Callable, reference: Callable, tensors: Sequence[Tensor]) -> None:
    """Every result errs at most twice as much as rounding to the tensors' dtypes, plus the rounding of a float32 sum.

    The rounding of a sum may be three times as large on a GPU, which adds hundreds of products in an order of its own.
    The truth is the reference in float64 on the CPU; the effect of rounding is computed there too (``RoundedTo``).
    The gradients of all tensors that require one are compared.
    """
    on_cpu = [tensor.detach().cpu().double().requires_grad_(tensor.requires_grad) for tensor in tensors]
    with torch.no_grad():
        outputs = reference(*on_cpu)
    shapes = [out.shape for out in ((outputs,) if isinstance(outputs, Tensor) else outputs)]
    # Whole numbers, so that the gradient that goes in is exact in 16 bits.
    weights = [torch.randint(-4, 5, shape).double() for shape in shapes]
    exact = results(reference, on_cpu, weights)
    with RoundedTo(coarsest(*tensors)):
        rounded = results(reference, on_cpu, weights)
    types = {name: value.dtype for name, value in results(reference, tensors, weights).items()}
    found = results(function, tensors, weights)
    assert list(found) == list(exact)
    for name, e in exact.items():
        a = found[name]
        assert a.shape == e.shape and a.dtype == types[name] and a.device == tensors[0].device, name
        allowed = 2 * _largest(rounded[name] - e) + (3e-6 if a.is_cuda else 1e-6) * (1 + _largest(e))
        assert _largest(a.cpu().double() - e) <= allowed, f"{name}: {_largest(a.cpu().double() - e)} > {allowed}"


def _largest(x: Tensor) -> float:
    return x.abs().max().item() if x.numel() else 0.0
