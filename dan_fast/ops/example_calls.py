"""The registry of example calls: operators with arguments of the shapes that a network gives them.

The tests of operators on a GPU, the self-test, the tuning of GPU kernels and the benchmarks take their cases from here:
an operator that is added to ``calls`` has a part in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config import DANConfig
from .channel_attention import channel_attention
from .condition_path import condition_path
from .conv3x3_bias_lrelu import conv3x3_bias_lrelu
from .conv3x3_scale_residual import conv3x3_scale_residual
from .convolution import convolution
from .dpcb import dpcb
from .estimator_tail import estimator_tail
from .modulate import modulate
from .next_condition import next_condition
from .upsampler import SIDE, SMALLEST, upsampler

WITHOUT_EXAMPLE = {
    "blur_downsample": "it prepares training data, and no network gives it shapes",
    "conv3x3_bias": "it has no GPU kernel of its own: it uses those of conv3x3_bias_lrelu and convolution",
    "crb_stack": "it has no GPU kernel of its own: it uses those of channel_attention",
    "dpcb_stack": "its weights are lists, and its GPU kernels those of dpcb; the self-test has its own check of it",
    "dpcg": "its weights are lists; the self-test has its own check of it",
}
"""Operators that ``calls`` leaves out, each with the reason."""


class Call(NamedTuple):
    """An operator, its arguments by name, all tensors zero, and whether it has gradients."""

    operator: Callable
    arguments: dict[str, Any]
    differentiable: bool = True


def calls(config: DANConfig, batch: int, height: int, width: int, dtype: torch.dtype, device: torch.device | str
          ) -> Iterator[Call]:
    """Calls with the shapes that ``config`` gives operators for LR images (batch, channels, height, width)."""
    def zeros(*shape: int, like: torch.dtype = dtype) -> Tensor:
        tensor = torch.zeros(shape, dtype=like, device=device)
        return tensor.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else tensor

    def layer(count: str, out: int, *into: int) -> dict[str, Tensor]:
        return {f"weight{count}": zeros(out, *into), f"bias{count}": zeros(out)}

    for channels in sorted({config.channels, config.estimator_channels, config.refiner_channels} - {0}):
        image, hidden = (batch, channels, height, width), channels // 16
        first, second = (layer(count, channels, channels, 3, 3) for count in ("1", "2"))
        once = {"weight": first["weight1"], "bias": first["bias1"]}
        # The Restorer modulates with one value per image and channel, in float32; the Estimator with an image.
        modulation = zeros(batch, channels, like=torch.float32)
        if config.version == "v1":
            yield Call(channel_attention, {"y": zeros(*image), **layer("1", hidden, channels),
                                           **layer("2", channels, hidden), "residual": zeros(*image)})
            continue
        yield Call(conv3x3_bias_lrelu, {"x": zeros(*image), **once})
        for either in (modulation, zeros(*image)):
            yield Call(conv3x3_scale_residual, {"x": zeros(*image), **once, "modulation": either,
                                                "residual": zeros(*image)})
        yield Call(dpcb, {"x": zeros(*image), **first, **second, "modulation": modulation})
        yield Call(modulate, {"x": zeros(*image), "f1": zeros(*image), "modulation": modulation,
                              "bias": zeros(channels)})
    yield from _convolutions(config, (batch, height, width), zeros)
    if config.version == "v2":
        path = _condition_path(config, batch, zeros)
        tail = _estimator_tail(config, (batch, config.estimator_channels, height, width), zeros)
        yield path
        if config.refiner is not None:
            yield _condition_path(config.refiner, batch, zeros)
        yield tail
        both = {**tail.arguments, **path.arguments}
        yield Call(next_condition, {name: value for name, value in both.items() if name != "code"}, False)


def _convolutions(config: DANConfig, grid: tuple[int, int, int], zeros: Callable[..., Tensor]) -> Iterator[Call]:
    """The heads of all modules and the upsampler, where it is one convolution."""
    def image(channels: int) -> Tensor:
        return zeros(grid[0], channels, *grid[1:])

    def head(into: int, out: int, size: int) -> Call:
        return Call(convolution, {"x": image(into), "weight": zeros(out, into, size, size), "bias": zeros(out)}, False)

    cells, width = config.image_channels * config.scale**2, config.estimator_channels
    # The Estimator's head of the result has the stride of the scale; on cells it has no stride and this reach.
    reach = -(-(4 if config.version == "v1" else 2 * config.scale) // config.scale)
    yield head(config.image_channels, config.channels, 3)
    yield head(config.image_channels, width, 1 if config.version == "v1" else 5)
    yield head(cells, width, 2 * reach + 1)
    if config.refiner is not None:
        yield head(config.image_channels + cells, config.refiner_channels, 3)
    if config.upsampler == "published" and min(grid[1:]) >= SMALLEST:
        yield Call(upsampler, {"x": image(config.channels), "weight": zeros(cells, config.channels, SIDE, SIDE),
                               "bias": zeros(3, 3, cells)}, False)


def _condition_path(config: DANConfig, batch: int, zeros: Callable[..., Tensor]) -> Call:
    channels, count = config.channels, config.groups * config.blocks
    return Call(condition_path, {
        "code": zeros(batch, config.code_length), "head_weight": zeros(channels, config.code_length),
        "head_bias": zeros(channels), "weight1": zeros(count, channels, channels), "bias1": zeros(count, channels),
        "weight2": zeros(count, channels, channels), "bias2": zeros(count, channels), "blocks": config.blocks,
        "group_residual": config.group_residual})


def _estimator_tail(config: DANConfig, image: tuple[int, ...], zeros: Callable[..., Tensor]) -> Call:
    channels, taps = image[1], config.kernel_size**2
    return Call(estimator_tail, {
        "x": zeros(*image), "conv_weight": zeros(2 * channels, channels, 3, 3), "conv_bias": zeros(2 * channels),
        "out_weight": zeros(taps, 2 * channels), "out_bias": zeros(taps), "encoder": zeros(taps, config.code_length)})


@torch.no_grad()
def fill(call: Call) -> None:
    """Fill the call's tensors with random values, weights as large as trained ones, so that results stay near 1.

    On zeros a GPU is faster than on data.
    """
    for name, value in call.arguments.items():
        if isinstance(value, Tensor):
            value.normal_()
            if "weight" in name:
                value /= math.sqrt(value.shape[-1] if value.dim() == 3 else value[0].numel())


def compute(call: Call, gradients: bool) -> tuple[Tensor, ...]:
    """All results of the call; with ``gradients`` also the gradients of its tensors, where it has any.

    Gradients are of half the sum of the outputs' squares, so that the gradient of an output is the output itself.
    """
    operator, arguments, differentiable = call
    if not differentiable:
        with torch.inference_mode():
            output = operator(**arguments)
        return (output,) if isinstance(output, Tensor) else output
    learn = [value.requires_grad_() for name, value in arguments.items()
             if gradients and isinstance(value, Tensor) and name != "encoder"]
    outputs = operator(**arguments)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    if not learn:
        return outputs
    # Detached: results that kept the graph alive would tie a later call to this one's stream.
    found = tuple(output.detach() for output in outputs)
    return *found, *torch.autograd.grad(outputs, learn, found)
