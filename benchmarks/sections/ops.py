"""Error and time of every configuration of the convolution, beside cuDNN; then of every operator as it ships."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from dan_fast_kernels import configs, conv3x3
from figures import DEVICE, DRY, error, graph_time, note, tried
from operators import all_calls, plain

from dan_fast.ops.conv3x3_bias_lrelu import conv3x3_bias_lrelu_ref
from dan_fast.ops.conv3x3_scale_residual import conv3x3_scale_residual_ref
from dan_fast.ops.example_calls import Call, fill
from dan_fast.self_test import poisoned
from dan_fast.training.presets import get_preset

SHAPES = {"510x340": (1, 340, 510), "64x64": (1, 64, 64), "64 of 64x64": (64, 64, 64), "270x180": (1, 180, 270)}
WRONG = 1e-2  # an error of this share of the norm, in bfloat16


def measure() -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    for channels in (64, 32):
        for label, shape in ({"tiny": (1, 9, 17)} if DRY else SHAPES).items():
            _convolution(channels, label, *shape)
    for preset in ("v2-x4", "v1-x4"):
        config = get_preset(preset).config
        for call in all_calls(config, *((1, 9, 17) if DRY else (1, 340, 510)), torch.bfloat16, DEVICE):
            _operator(preset, call)


def _image(channels: int, *shape: int) -> torch.Tensor:
    batch, height, width = shape
    return torch.randn(batch, channels, height, width, device=DEVICE).bfloat16().contiguous(
        memory_format=torch.channels_last)


def _convolution(channels: int, label: str, *shape: int) -> None:
    x, residual = _image(channels, *shape), _image(channels, *shape)
    weight = (torch.randn(channels, channels, 3, 3, device=DEVICE) / (3 * channels**0.5)).bfloat16().contiguous(
        memory_format=torch.channels_last)
    bias, modulation = torch.randn(channels, device=DEVICE), torch.randn(shape[0], channels, device=DEVICE)
    gflop = 18 * channels**2 * shape[0] * shape[1] * shape[2] / 1e9

    def figure(what: str, us: float, **more: Any) -> None:
        note(what=what, C=channels, shape=label, dtype="bfloat16", us=us, tflops=us and 1000 * gflop / us, **more)

    timing = graph_time(lambda: F.conv2d(x, weight, padding=1))
    figure("cuDNN, the convolution alone", timing.us, spread=timing.spread)
    timing = graph_time(lambda: conv3x3_scale_residual_ref(x, weight, bias, modulation, residual))
    figure("cuDNN and PyTorch, add", timing.us, spread=timing.spread)
    with torch.backends.cudnn.flags(allow_tf32=False):
        wide = x.float(), weight.float(), bias
        exact = {"lrelu": conv3x3_bias_lrelu_ref(*wide),
                 "add": conv3x3_scale_residual_ref(*wide, modulation, residual.float())}
    for config in _configurations(x):
        for epilogue in exact:
            def compute(epilogue: str = epilogue, config: configs.Config = config) -> torch.Tensor:
                if epilogue == "lrelu":
                    return conv3x3.bias_lrelu(x, weight, bias, 0.2, config=config)
                return conv3x3.scale_residual(x, weight, bias, modulation, residual, config=config)[0]

            def measure(about: dict, truth: torch.Tensor, compute: Callable[[], torch.Tensor]) -> None:
                with torch.inference_mode(), poisoned():
                    off = error(compute(), truth)
                timing = graph_time(compute)
                wrong = {} if off < WRONG else {"WRONG": True}  # nor NaN
                figure(us=timing.us, spread=timing.spread, error=off, **about, **wrong)
            if not DRY:
                tried(partial(measure, {"what": epilogue, "config": str(config)}, exact[epilogue], compute),
                      what=epilogue, C=channels, shape=label, config=str(config))


def _configurations(x: torch.Tensor) -> list[configs.Config]:
    """Return the configurations for this GPU, and some that every GPU can run."""
    tiles = conv3x3.candidates(x)
    found = [*configs.candidates_for(tiles, configs.capability(x.device)), *configs.candidates_for(tiles, 80)[:2]]
    return [config for number, config in enumerate(found) if config not in found[:number]]


def _operator(preset: str, call: Call) -> None:
    """Times one operator as it ships, forward, beside plain PyTorch."""
    fill(call)
    name, others = call.operator.__name__, plain(call)

    def measure() -> None:
        ours, theirs = (graph_time(partial(one.operator, **one.arguments)) for one in (call, others))
        note(what=name, network=preset, shape=str(tuple(next(iter(call.arguments.values())).shape)), dtype="bfloat16",
             us=ours.us, spread=ours.spread, us_pytorch=theirs.us)
    tried(measure, what=name, network=preset)
