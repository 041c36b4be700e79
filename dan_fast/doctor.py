"""Facts about this machine and the parts of dan_fast that are active on it; the command ``doctor`` prints them."""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import dan_fast_kernels
import torch
from dan_fast_kernels import BUILD_AGAIN

from .ops.backend import OLDEST_GPU, why_no_triton
from .runtime.threads import how_threads_wait


@dataclass(frozen=True)
class Part:
    """An optional part of dan_fast.

    Attributes:
        name: the part's name.
        active: it is used.
        reason: its version if it is active, else why it is not.
        advice: how to activate it.
    """

    name: str
    active: bool
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        text = f"{'active' if self.active else 'not active'}: {self.reason}"
        return f"{text}; {self.advice}" if self.advice else text


def versions() -> dict[str, str]:
    """Versions by the names of packages, or the reason why a package cannot be imported."""
    modules = {"dan_fast": "dan_fast", "torch": "torch", "triton": "triton", "numpy": "numpy", "opencv": "cv2"}
    return {
        **{name: version_of(module) for name, module in modules.items()},
        "Python": platform.python_version(),
        "OS": platform.platform(),
    }


def version_of(module: str) -> str:
    """The version of an installed module, or the reason why it cannot be imported."""
    try:
        return str(getattr(importlib.import_module(module), "__version__", "unknown"))
    except ModuleNotFoundError as error:
        return "not installed" if error.name == module else f"does not import: {error}"
    except (ImportError, OSError) as error:  # a library that it needs is missing
        return f"does not import: {error}"


class Cpu(NamedTuple):
    """The processor.

    Attributes:
        name: as the processor or the system tells it.
        threads: the number of threads that torch uses.
        cores: the number of logical cores of the machine.
        instructions: the widest instructions that torch uses.
        waiting: how threads wait for each other.
    """

    name: str
    threads: int
    cores: int
    instructions: str
    waiting: str


class Gpu(NamedTuple):
    """A GPU: its name, memory in bytes, and compute capability, for example ``"9.0"``."""

    name: str
    memory: int
    capability: str

    def __str__(self) -> str:
        return f"{self.name}, {self.memory / 2**30:.0f} GiB, capability {self.capability}"


def cpu() -> Cpu:
    """The processor of this machine."""
    return Cpu(_cpu_name(), torch.get_num_threads(), os.cpu_count() or 1, torch.backends.cpu.get_cpu_capability(),
               how_threads_wait())


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpus() -> list[Gpu]:
    """All GPUs that torch can use."""
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [Gpu(gpu.name, gpu.total_memory, f"{gpu.major}.{gpu.minor}") for gpu in found]


def parts() -> list[Part]:
    """All optional parts and their state."""
    return [_cpp_ops(), _cuda_ops(), _triton_kernels(), _cuda_graphs()]


def _cpp_ops() -> Part:
    extension = dan_fast_kernels.EXTENSION
    if extension is None:
        return Part("C++ ops", False, f"{dan_fast_kernels.WHY_NOT}; PyTorch does their work, slower",
                    dan_fast_kernels.ADVICE)
    return Part("C++ ops", True, str(extension))


def why_no_gpu() -> str:
    """The reason why torch cannot use an NVIDIA GPU here; empty if it can."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    return "" if torch.cuda.is_available() else "torch finds no NVIDIA GPU"


def _cuda_ops() -> Part:
    def inactive(reason: str, advice: str) -> Part:
        return Part("CUDA ops", False, reason, advice)

    if reason := why_no_gpu():
        return inactive(reason, "check the driver with nvidia-smi" if torch.version.cuda else
                        f"on a machine with an NVIDIA GPU, install a CUDA build of torch, then {BUILD_AGAIN}")
    if dan_fast_kernels.EXTENSION is None:
        return inactive(dan_fast_kernels.WHY_NOT, f"DAN_FAST_CUDA=1 {BUILD_AGAIN}")
    if not torch._C._dispatch_has_kernel_for_dispatch_key("dan_fast::blur_downsample_cpp", "CUDA"):
        return inactive("the extension was built without CUDA; PyTorch does their work, slower",
                        f"install the CUDA toolkit of torch ({torch.version.cuda}), then DAN_FAST_CUDA=1 {BUILD_AGAIN}")
    return Part("CUDA ops", True, f"CUDA {torch.version.cuda}")


def _triton_kernels() -> Part:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return Part("Triton kernels", False, "no GPU; other code does their work",
                    "see CUDA ops" if torch.version.cuda else "they need an NVIDIA GPU and a CUDA build of torch")
    if reason := why_no_triton():
        return Part("Triton kernels", False, reason, "PyTorch does their work, slower")
    capability = torch.cuda.get_device_capability()
    if capability < OLDEST_GPU:
        return Part("Triton kernels", False, f"the GPU has capability {'.'.join(map(str, capability))}",
                    "they need 8.0 or newer; PyTorch does their work, slower")
    return Part("Triton kernels", True, f"triton {version_of('triton')} on {torch.cuda.get_device_name()}")


def _cuda_graphs() -> Part:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return Part("CUDA graphs", False, "no GPU", "see CUDA ops")
    return Part("CUDA graphs", True, "images of a size are captured when it comes for the second time")
