"""Builds ``dan_fast_kernels._C``: the C++ operators of csrc/, and the CUDA ones where they can be built.

DAN_FAST_CUDA       auto (default): with CUDA if this torch has it and its compiler is here; 0: without; 1: or fail
DAN_FAST_EXTENSION  1 (default); 0: no extension, Python only: everything works, slower
"""

import os
import shutil
import sys
from pathlib import Path

import torch
from setuptools import setup
from torch.utils import cpp_extension

ARCHITECTURES = "8.0+PTX;9.0a"  # the PTX of 8.0 serves newer cards, that of 9.0a would not
# torch's stable ABI as of 2.10: one binary for every later torch and every Python.
MACROS = [("TORCH_TARGET_VERSION", "0x020a000000000000"), ("TORCH_STABLE_ONLY", None)]
CXX_FLAGS = ["/O2", "/std:c++17"] if os.name == "nt" else ["-O3", "-std=c++17", "-fvisibility=hidden", "-Wall"]
NVCC_FLAGS = ["-O3", "-std=c++17", "-lineinfo"]


def choice(name, values):
    """The environment variable ``name``; the first of ``values`` when it is not set."""
    value = os.environ.get(name, "").strip().lower() or values[0]
    if value not in values:
        sys.exit(f"dan_fast: {name}={value!r}, expected one of {', '.join(values)}")
    return value


def find_cuda():
    """A folder with the CUDA compiler and its headers; torch's own guess can be the folder of a wrapper."""
    nvcc = shutil.which("nvcc")
    guesses = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), cpp_extension.CUDA_HOME, "/usr/local/cuda",
               nvcc and Path(nvcc).resolve().parents[1], *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    for folder in filter(None, guesses):
        if Path(folder, "bin/nvcc").exists() and Path(folder, "include/cuda_runtime.h").exists():
            return str(folder)
    return None


def cuda_to_build_with():
    mode = choice("DAN_FAST_CUDA", ("auto", "0", "1"))
    found = find_cuda() if mode != "0" and torch.version.cuda else None
    if mode == "1" and not found:
        missing = ("nvcc with its headers: set CUDA_HOME to the folder of a CUDA toolkit" if torch.version.cuda else
                   f"a CUDA build of torch, and this one ({torch.__version__}) is not: install that first, "
                   "then run pip install --no-build-isolation .")
        sys.exit(f"dan_fast: DAN_FAST_CUDA=1 needs {missing}")
    return found


def extension():
    sources = sorted(map(str, Path("csrc").rglob("*.cpp")))
    cuda = cuda_to_build_with()
    # The headers, so that a change to one of them compiles again.
    headers = sorted(str(path) for path in Path("csrc").rglob("*.*h"))
    common = {"py_limited_api": True, "depends": headers}
    print(f"dan_fast: {'C++ and CUDA' if cuda else 'C++'} operators, torch {torch.__version__}")
    if not cuda:
        return cpp_extension.CppExtension("dan_fast_kernels._C", sources, define_macros=MACROS,
                                          extra_compile_args={"cxx": CXX_FLAGS}, **common)
    cpp_extension.CUDA_HOME = cuda
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
    sources += sorted(map(str, Path("csrc").rglob("*.cu")))
    # torch's stable headers declare the CUDA functions only with USE_CUDA.
    return cpp_extension.CUDAExtension("dan_fast_kernels._C", sources, define_macros=[*MACROS, ("USE_CUDA", None)],
                                       extra_compile_args={"cxx": CXX_FLAGS, "nvcc": NVCC_FLAGS}, **common)


class Build(cpp_extension.BuildExtension):
    def run(self):
        compiler = os.environ.get("CXX", "c++")
        if self.extensions and os.name != "nt" and not shutil.which(compiler.split()[0]):
            sys.exit(f"dan_fast: no C++ compiler: {compiler!r} is not on the PATH. Install one (Debian, Ubuntu: apt "
                     "install g++; macOS: xcode-select --install), or name it in CXX, or go without the extension, "
                     "slower: DAN_FAST_EXTENSION=0 pip install .")
        super().run()

    def get_export_symbols(self, ext):
        return ext.export_symbols  # a library of operators has no function that makes it a module of Python


built = [extension()] if choice("DAN_FAST_EXTENSION", ("1", "0")) == "1" else []
setup(ext_modules=built, cmdclass={"build_ext": Build},
      # Without the extension the wheel is plain Python, for any machine.
      options={"bdist_wheel": {"py_limited_api": "cp310"}} if built else {})
