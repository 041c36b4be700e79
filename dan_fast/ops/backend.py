"""Which code computes an operator: PyTorch, the compiled C++/CUDA extension, or Triton.

=========  ================================================================================
``auto``   the default: Triton for tensors on a GPU, else the extension, else PyTorch; of these
           the first that the operator has and that can run here
``torch``  the operator's reference
``cpp``    the compiled extension
``triton`` the kernels of ``dan_fast_kernels``; on CPU tensors too under ``TRITON_INTERPRET=1``
=========  ================================================================================

``DAN_FAST_BACKEND`` holds one of these names or several with commas, ``with backend(…)`` takes them as arguments.
The first that an operator has by design is the one that computes it, or the call is an error: nothing else is
used silently. The choice is made at each call, so a function that was compiled or exported follows it too.
``DAN_FAST_WITHOUT`` leaves out single parts of the GPU code instead (``dan_fast_kernels.without``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache

import dan_fast_kernels
import torch
from dan_fast_kernels import without
from torch import Tensor

from ..errors import DanFastError
from ..runtime.forked import warn_if_forked

BACKENDS = ("torch", "cpp", "triton")
NAMES = ("auto", *BACKENDS)
VARIABLE = "DAN_FAST_BACKEND"
OLDEST_TRITON = (3, 6)
OLDEST_GPU = (8, 0)  # bfloat16 begins there
_ = dan_fast_kernels.EXTENSION  # loads it: its operators exist from here on
_ASKED: ContextVar[tuple[str, ...]] = ContextVar("dan_fast backend", default=())


@contextmanager
def backend(*names: str) -> Iterator[None]:
    """Choose the operators' backend by name inside, in this thread, and in the backward passes of what ran there.

    The backward pass of a compiled function follows the context that ``backward()`` is called in instead (on a GPU
    only as of torch 2.13).

    Args:
        names: of ``auto``, ``torch``, ``cpp`` and ``triton``, in order of preference.

    Raises:
        DanFastError: there is no such name. That an operator lacks the backend, or that it cannot run here,
            is an error of the operator's call.
    """
    token = _ASKED.set(_checked(names, "backend(…)"))
    try:
        yield
    finally:
        _ASKED.reset(token)


def remember(ctx) -> None:
    """Keep the backends that the forward pass was asked for; call it in ``setup_context``."""
    ctx.asked = _ASKED.get()


def recalled(ctx) -> AbstractContextManager[None]:
    """The context for ``backward``: the backends that ``remember`` kept.

    On a GPU autograd runs in another thread, which was asked for none.
    """
    return backend(*ctx.asked) if ctx.asked else nullcontext()


def as_asked() -> AbstractContextManager[None]:
    """A context for another thread: in it, operators take the backends that this thread is asked for now."""
    asked = _ASKED.get()
    return backend(*asked) if asked else nullcontext()


def choose(op: str, has: Sequence[str], *tensors: Tensor | None, part: str = "", triton_refuses: str = "",
           cpp_refuses: str = "") -> str:
    """The backend for one call of ``op``.

    Args:
        op: name of the operator; its compiled version is ``torch.ops.dan_fast.<op>_cpp``.
        has: the backends that it has by design; ``torch`` is one of them.
        tensors: its floating point arguments, all on one device.
        part: the name of its GPU code in ``dan_fast_kernels.without.PARTS``; default: ``op``.
        triton_refuses, cpp_refuses: why its Triton kernel, or the extension, does not take these arguments; empty
            where it does.

    Raises:
        DanFastError: a backend was asked for by name that the operator does not have or that cannot run here.
    """
    warn_if_forked()
    present = [tensor for tensor in tensors if tensor is not None]
    refuses = {"triton": triton_refuses, "cpp": cpp_refuses}
    if reason := _left_out(part or op):
        refuses["triton"] = reason
        if present[0].is_cuda:
            refuses["cpp"] = reason
    asked = _ASKED.get()
    source = f"backend({', '.join(map(repr, asked))})"
    if not asked:
        value = os.environ.get(VARIABLE, "").strip()
        source = f"{VARIABLE}={value}"
        asked = _checked(tuple(name.strip() for name in value.split(",")), source) if value else ("auto",)

    for name in asked:
        if name == "auto":
            return _automatic(op, has, present, refuses)
        if name in has:
            if reason := _why_not(name, op, present, refuses):
                raise DanFastError(f"{source}: {op} cannot be computed by {name} here: {reason}. "
                                   f"It has {', '.join(has)}; auto takes what can run")
            return name
    raise DanFastError(f"{source}: {op} has {', '.join(has)}. Name one of these as well, or auto: "
                       f"{','.join((*asked, 'auto'))}")


def _left_out(part: str) -> str:
    """Why this part of the GPU code is not to be used; empty if it may be."""
    if not os.environ.get(without.VARIABLE) or part not in without.PARTS:
        return ""
    try:
        return f"{without.VARIABLE} leaves {part} out" if without.without(part) else ""
    except ValueError as error:
        raise DanFastError(str(error)) from None


def interpreting() -> bool:
    """Whether Triton's kernels run in its interpreter (``TRITON_INTERPRET=1``)."""
    if why_no_triton():
        return False
    from triton import knobs

    return bool(knobs.runtime.interpret)


@cache
def why_no_triton() -> str:
    """Why Triton cannot be imported here, with what to do about it; empty if it can."""
    install = 'pip install "triton>=3.6"'
    try:
        import triton
    except ModuleNotFoundError as error:
        if error.name == "triton":
            return f"triton is not installed ({install}, on Linux)"
        return f"triton does not import: {error}"
    except (ImportError, OSError) as error:
        return f"triton does not import: {error}"
    if tuple(map(int, triton.__version__.split(".")[:2])) < OLDEST_TRITON:
        return f"triton {triton.__version__} is too old ({install})"
    return ""


def _checked(names: tuple[str, ...], source: str) -> tuple[str, ...]:
    for name in names:
        if name not in NAMES:
            raise DanFastError(f"{source}: there is no backend {name!r}; expected one or several of {', '.join(NAMES)}")
    if not names:
        raise DanFastError(f"{source}: names no backend; expected one or several of {', '.join(NAMES)}")
    return names


def _automatic(op: str, has: Sequence[str], tensors: list[Tensor], refuses: dict[str, str]) -> str:
    on_gpu = all(tensor.device.type == "cuda" for tensor in tensors)
    for name in ("triton", "cpp"):
        if name in has and (name != "triton" or on_gpu) and not _why_not(name, op, tensors, refuses):
            return name
    return "torch"


def _why_not(name: str, op: str, tensors: list[Tensor], refuses: dict[str, str]) -> str:
    if name == "torch":
        return ""
    reason = _why_no_cpp(op, tensors) if name == "cpp" else _why_no_triton_for(tensors)
    return reason or refuses[name]


def _why_no_cpp(op: str, tensors: list[Tensor]) -> str:
    if dan_fast_kernels.EXTENSION is None:
        return dan_fast_kernels.WHY_NOT
    for device in {tensor.device.type for tensor in tensors}:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"dan_fast::{op}_cpp", device.upper()):
            return f"the extension {dan_fast_kernels.EXTENSION} was built without code for {device} tensors"
    return ""


def _why_no_triton_for(tensors: list[Tensor]) -> str:
    if reason := why_no_triton():
        return reason
    # A body has some two hundred tensors: ask once per device, not once per tensor.
    for device in {tensor.device for tensor in tensors}:
        if device.type != "cuda":
            if not interpreting():
                return f"an argument is on {device} and Triton needs a GPU"
        elif (capability := torch.cuda.get_device_capability(device)) < OLDEST_GPU:
            return f"the GPU has capability {'.'.join(map(str, capability))} and the kernels need 8.0"
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return "an argument is float64 and the kernels compute in float32"
    return ""
