"""Compiling Triton kernels for GPUs that are not here, as their launchers would launch them.

    with recorded(modulate) as launches:       # modulate: a module of dan_fast_kernels
        modulate.forward(x, f1, f2, bias)      # on CPU tensors; nothing runs
    needs = compiled(launches[0], 90)
    assert not needs.spills
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.tools.tensor_descriptor import TensorDescriptor  # noqa: E402

if triton.knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET=1 compiles nothing", allow_module_level=True)

SHARED_LIMIT = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Bytes of shared memory that a program may have, by compute capability: the cards that every kernel compiles for."""
CAPABILITIES = tuple(SHARED_LIMIT)

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp64",
         torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8"}


@dataclass
class Launch:
    """A GPU kernel with the arguments of one launch."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, int]


@dataclass
class Needs:
    """The resources of a compiled GPU kernel: bytes of stack, spilled accesses, registers, bytes of shared memory.

    ``instructions`` counts the machine code's by full name, for instance ``LDG.E.128``.
    """

    registers: int
    stack: int
    spills: int
    shared: int
    instructions: Counter[str]

    def count(self, pattern: str) -> int:
        """The number of instructions that match, from the start of their names: ``HMMA``, ``HGMMA``, ``LDG.*128``."""
        return sum(number for name, number in self.instructions.items() if re.match(pattern, name))

    def __str__(self) -> str:
        return (f"{self.registers} registers, {self.shared} B shared, {self.spills} spills, {self.stack} B stack, "
                f"{self.instructions.total()} instructions")


class _Recorder:
    def __init__(self, kernel, launches: list[Launch]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        def launch(*args, **kwargs) -> None:
            names = self.kernel.arg_names
            options = {name: value for name, value in kwargs.items() if name not in names}
            given = {**dict(zip(names, args, strict=False)),
                     **{name: value for name, value in kwargs.items() if name in names}}
            assert given.keys() == set(names), f"{self.kernel.__name__} is launched with {list(given)}, has {names}"
            arguments = {name: given[name] for name in names}
            self.launches.append(Launch(self.kernel, grid, arguments, options))
        return launch


@contextmanager
def recorded(module: ModuleType) -> Iterator[list[Launch]]:
    """The launches of the module's kernels inside, which do not run."""
    launches: list[Launch] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vars(module).copy().items():
            if isinstance(value, triton.JITFunction):
                patch.setattr(module, name, _Recorder(value, launches))
        yield launches


def compiled(launch: Launch, capability: int) -> Needs:
    """The launch compiled for a capability (90: sm_90), specialised as Triton would specialise it."""
    signature, constants, attributes = {}, {}, {}
    for index, (parameter, (name, value)) in enumerate(zip(launch.kernel.params, launch.arguments.items(),
                                                           strict=True)):
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[name], constants[(index,)] = "constexpr", value
            continue
        signature[name], divisible = _type_of(value)
        if divisible:
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return _needs(triton.compile(source, target=GPUTarget("cuda", capability, 32), options=launch.options))


def _type_of(value) -> tuple[str, bool]:
    """Triton's name of the type, and whether the pointer or number is a multiple of 16."""
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}", True  # what torch allocates is
    if isinstance(value, TensorDescriptor):
        return f"tensordesc<{TYPES[value.base.dtype]}[{','.join(map(str, value.block_shape))}]>", False
    if type(value) is int:
        return "i32" if -2**31 <= value < 2**31 else "i64", value % 16 == 0
    assert type(value) is float, f"an argument of {type(value)}"
    return "fp32", False


def _needs(kernel) -> Needs:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(kernel.asm["cubin"])
        cubin.flush()
        usage, code = (subprocess.run([TOOLS / tool, option, cubin.name], stdout=subprocess.PIPE, text=True,
                                      check=True).stdout
                       for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c")))
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    # "/*0010*/ @P0 LDG.E.128 R4, …"
    names = Counter(re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", code))
    assert found and names, usage
    needs = Needs(int(found[1]), int(found[2]), 0, kernel.metadata.shared, names)
    needs.spills = needs.count("LDL|STL")
    return needs


def assert_fits(launch: Launch, capability: int) -> Needs:
    """No stack, no spills, shared memory within the card's limit. ``pytest -s`` prints the resources."""
    needs = compiled(launch, capability)
    blocks = {name: value for name, value in launch.arguments.items() if name.isupper()}
    what = f"sm_{capability} {launch.kernel.__name__} {blocks} {launch.options}: {needs}"
    print(what)
    assert needs.spills == needs.stack == 0, what
    assert needs.shared <= SHARED_LIMIT[capability] and 0 < needs.registers < 255, what
    return needs
