"""Fills Triton's cache for an H100 or H200 on a machine without a GPU; ``gpu_carry.py`` calls it.

Triton kernels are compiled where they would be launched, on CPU tensors, by Triton's own launchers with a driver that
stands for a GPU of capability 9.0; nothing runs. Compiled are the calls of the GPU tests and of the self-test, every
configuration of the convolutions and of the other operators of inference, whole passes and training steps of the
networks. A section of gpu-check that still has to compile takes longer, no more.
"""

from __future__ import annotations

import collections
import copy
import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path

STUB = "DAN_FAST_STUB"


def _with_a_stub_of_the_driver() -> None:
    """Restarts this program with a stub of libcuda, whose functions the launchers name but do not call."""
    if os.environ.get(STUB):
        return
    folder = tempfile.mkdtemp()
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-xc", "-", "-o", f"{folder}/libcuda.so.1"],
                   input=b"int dan_fast_stub(void) { return 0; }", check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv],
              {**os.environ, STUB: folder, "TRITON_LIBCUDA_PATH": folder, "LD_LIBRARY_PATH": folder})


if __name__ == "__main__":
    sys.setdlopenflags(os.RTLD_LAZY)  # the stub has none of the functions
    _with_a_stub_of_the_driver()

import torch  # noqa: E402
import triton.backends.nvidia.driver as nvidia  # noqa: E402
import tune  # noqa: E402
from dan_fast_kernels import configs, conv3x3, convolution  # noqa: E402
from dan_fast_kernels.without import PARTS  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.launches import choose_triton, modules_that_choose  # noqa: E402
from support.operator_cases import NETWORKS, SHAPES  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

import dan_fast  # noqa: E402
import dan_fast.fast_model.learning as learning  # noqa: E402
import dan_fast.fast_model.unroll as unroll  # noqa: E402
from dan_fast import self_test  # noqa: E402
from dan_fast.degradation.pipeline import Degradation  # noqa: E402
from dan_fast.errors import DanFastError  # noqa: E402
from dan_fast.fast_model.alternation import Whole, alternate  # noqa: E402
from dan_fast.ops import example_calls  # noqa: E402
from dan_fast.training.presets import get_preset  # noqa: E402
from dan_fast.training.settings import TrainingSettings  # noqa: E402
from dan_fast.training.step import TrainingStep  # noqa: E402

CAPABILITY = 90
CPU = torch.device("cpu")


class Hopper:
    """The part of a Triton driver that compiling needs."""

    binary_ext = "cubin"
    utils: object
    get_current_target = staticmethod(lambda: GPUTarget("cuda", CAPABILITY, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device=0: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))


class Compiler:
    """Replaces launches by compilations, and choices that depend on the device by those for an H100."""

    def __init__(self) -> None:
        self.kernels: dict[str, object] = {}
        self.launches: collections.Counter[str] = collections.Counter()
        self.size = ""  # of images in shape classes; empty: their own
        self._start = time.monotonic()

    def install(self) -> None:
        stand_in = Hopper()
        stand_in.utils = nvidia.CudaUtils()
        driver.set_active(stand_in)
        launch, shape_class = JITFunction.run, configs.shape_class

        def compile_only(gpu_kernel, /, *args, grid, warmup, **kwargs):
            found = launch(gpu_kernel, *args, grid=grid, warmup=True, **kwargs)
            self.launches[gpu_kernel.fn.__name__] += 1
            if found.hash not in self.kernels:
                self.kernels[found.hash] = found
                nvidia.CudaLauncher(found.src, found.metadata)  # its launcher in C, too
            return found

        def of_size(x: torch.Tensor) -> str:
            known = shape_class(x)
            return f"{known.rsplit(' ', 1)[0]} {self.size}" if self.size else known

        JITFunction.run = compile_only
        configs.shape_class, configs.capability = of_size, lambda device: CAPABILITY
        configs.choose = lambda kernel, kind, tiles, device: configs.candidates_for(tiles, CAPABILITY)[0]
        for module in modules_that_choose():
            module.choose = choose_triton

    def report(self, what: str) -> None:
        print(f"{what}: {len(self.kernels)} Triton kernels, {time.monotonic() - self._start:.0f} s", flush=True)


def _self_test(compiler: Compiler) -> None:
    """Launches the parts of the self-test; since nothing runs, every comparison is made to succeed."""
    def same(what: str, found: object, exact: object) -> str:
        return ""

    before, self_test._difference = self_test._difference, same
    shape, self_test.SHAPE_ON_CPU = self_test.SHAPE_ON_CPU, self_test.SHAPE
    try:
        for part in PARTS:
            if part in ("blur_downsample", "programmatic_launch"):  # C++; needs a GPU
                continue
            with suppress(DanFastError):  # numbers that are not finite
                self_test.check(part, CPU)
    finally:
        self_test._difference, self_test.SHAPE_ON_CPU = before, shape
    chain, _ = self_test.convolutions(CPU)
    chain()
    with self_test.left_out("programmatic_launch"):
        chain()


def _tests(compiler: Compiler) -> None:
    """Launches what tests/ops/test_triton_on_gpu.py, test_inference_on_gpu.py and test_training_on_gpu.py do."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        for shape, dtype in SHAPES:
            for config in NETWORKS.values():
                for call in example_calls.calls(config, *shape, dtype, "cpu"):
                    example_calls.compute(call, True)
        for name in ("v2-x4", "v2-0.3M-x4", "v2-1.7M-x4", "v1-x4"):
            _passes(name, torch.float32, (40, 56), (150, 130))
        _passes("v2-0.3M-x4", torch.float32, (48, 40), (20, 24))
        with self_test.left_out("programmatic_launch"):
            _passes("v2-x4", torch.float32, (40, 56))
    for name in ("v2-x4", "v2-0.3M-x4", "v2-1.7M-x4", "v1-x4"):
        for dtype in (torch.bfloat16, torch.float16):
            _passes(name, dtype, (48, 64))
    for gradient in ("last", "all"):
        for bf16 in (False, True):
            _step(dan_fast.DANConfig(scale=2, gradient=gradient, channels=16, groups=1, blocks=1, estimator_channels=16,
                                     estimator_blocks=1, upsampler="direct", group_residual="plain"), bf16, patch=16)


def _passes(name: str, dtype: torch.dtype, *sizes: tuple[int, int]) -> None:
    plan = dan_fast.Upscaler(_network(name), dtype=dtype).plan
    for size in sizes:
        with torch.inference_mode():
            alternate(plan, Whole(plan, torch.rand(1, 3, *size)), 2, wants_kernel=True)


def _step(config: dan_fast.DANConfig, bf16: bool, patch: int) -> None:
    model = dan_fast.DAN(config, torch.rand(config.kernel_size**2, config.code_length) / 100)
    training_step = TrainingStep(model, copy.deepcopy(model).requires_grad_(False), Degradation.setting1(config.scale),
                                 TrainingSettings(batch=4, patch=patch), bf16=bf16)
    hr = torch.zeros(4, 3, patch * config.scale, patch * config.scale, dtype=torch.uint8)
    training_step(hr, seed=0, learning_rate=1e-3, average_weight=0.1, iterations=2)


def _configurations(compiler: Compiler) -> None:
    """Launches every configuration of the convolutions, in bfloat16, for sizes that are and are not multiples of 16."""
    def image(channels: int, *size: int) -> torch.Tensor:
        return torch.zeros(1, channels, *size, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)

    for channels in (64, 32, 16):
        for size in ((340, 510), (64, 64), (180, 270)):
            x, bias, modulation = image(channels, *size), torch.zeros(channels), torch.zeros(1, channels)
            weight = image(channels * channels, 3, 3).view(channels, channels, 3, 3).contiguous(
                memory_format=torch.channels_last)
            tiles = conv3x3.candidates(x)
            for config in (*configs.candidates_for(tiles, CAPABILITY), *configs.candidates_for(tiles, 80)[:2]):
                conv3x3.bias_lrelu(x, weight, bias, 0.2, config=config)
                conv3x3.scale_residual(x, weight, bias, modulation, x, config=config)
            for config in configs.candidates_for(convolution.candidates(x, weight), CAPABILITY):
                convolution.upsampler(x, image(48 * channels, 11, 11).view(48, channels, 11, 11), torch.zeros(3, 3, 48),
                                      config)


def _candidates(compiler: Compiler) -> None:
    """Launches every candidate of the Triton kernels of inference, in bfloat16, as tune.py tries them."""
    choose = configs.choose
    tuner, tune.DEVICE, tune.DTYPES = tune.Tuner(CAPABILITY), CPU, (torch.bfloat16,)
    tune.SHAPES = tuple(shape for shape in tune.SHAPES if not shape[-1])
    configs.choose = tuner.choose
    try:
        for step in tune.steps():
            with redirect_stdout(io.StringIO()):  # it would complain that nothing was computed
                tuner.tune(step, lambda step: 0.0)
    finally:
        configs.choose = choose


def _network(name: str) -> dan_fast.DAN:
    config = get_preset(name).config
    return dan_fast.DAN(config, torch.rand(config.kernel_size**2, config.code_length) / 100).eval()


def _inference(compiler: Compiler) -> None:
    """Small images stand for large ones of the same divisibility."""
    for name in ("v2-x4", "v2-0.3M-x4", "v2-1.7M-x4", "v1-x4"):
        for dtype in (torch.bfloat16, torch.float32):
            for size, *image in (("small", (16, 16)), ("medium", (20, 30), (20, 14)), ("large", (24, 32))):
                compiler.size = size
                _passes(name, dtype, *image)
            compiler.size = ""


def _training(compiler: Compiler) -> None:
    """Steps in bfloat16 of 64 patches of 64x64."""
    compiler.size = "medium"
    for name in ("v2-x4", "v2-0.3M-x4"):
        _step(get_preset(name).config, True, patch=16)
    compiler.size = ""


def main() -> None:
    torch.set_num_threads(1)
    compiler = Compiler()
    compiler.install()
    unroll._plan_pays = lambda model, lr: True  # as on a GPU
    learning.COLLAPSE_FROM = 10**9  # no Triton kernel is in it
    for what, fill in (("configurations", _configurations), ("inference", _inference), ("training", _training),
                       ("self-test", _self_test), ("tests", _tests), ("tuning", _candidates)):
        fill(compiler)
        compiler.report(what)
    folder = Path(os.environ.get("TRITON_CACHE_DIR", "~/.triton/cache"))
    print(f"{folder}: {dict(compiler.launches)}")


if __name__ == "__main__":
    main()
