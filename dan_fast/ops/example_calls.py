"""Runs every operator once for a network's shapes, so that nothing is compiled later: not in a CUDA graph's capture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..config import DANConfig
from .channel_attention import channel_attention
from .condition_path import condition_path
from .conv3x3 import conv3x3_bias_lrelu, conv3x3_scale_residual
from .convolution import convolution
from .dpcb import dpcb
from .estimator_tail import estimator_tail
from .modulate import modulate
from .next_condition import next_condition
from .upsampler import SIDE, SMALLEST, upsampler


class Network(Protocol):
    """A network, of which only the shape matters here."""

    config: DANConfig


class Call(NamedTuple):
    """An operator and arguments that a network would give it, all tensors zero. ``learns``: it has gradients."""

    operator: Callable
    arguments: dict[str, Any]
    learns: bool = True


def calls(config: DANConfig, batch: int, height: int, width: int, dtype: torch.dtype, device: torch.device | str
          ) -> Iterator[Call]:
    """Every operator with the shapes that ``config`` gives it for LR images (batch, channels, height, width)."""
    def zeros(*shape: int, like: torch.dtype = dtype) -> Tensor:
        tensor = torch.zeros(shape, dtype=like, device=device)
        return tensor.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else tensor

    def layer(count: str, out: int, *into: int) -> dict[str, Tensor]:
        return {f"weight{count}": zeros(out, *into), f"bias{count}": zeros(out)}

    for channels in sorted({config.channels, config.estimator_channels}):
        image, hidden = (batch, channels, height, width), channels // 16
        first, second = (layer(count, channels, channels, 3, 3) for count in ("1", "2"))
        once = {"weight": first["weight1"], "bias": first["bias1"]}
        # In the Restorer the condition is one value a channel, computed in float32; in the Estimator an image.
        scale = zeros(batch, channels, like=torch.float32)
        if config.version == "v1":
            yield Call(channel_attention, {"y": zeros(*image), **layer("1", hidden, channels),
                                           **layer("2", channels, hidden), "residual": zeros(*image)})
            continue
        yield Call(conv3x3_bias_lrelu, {"x": zeros(*image), **once})
        for factor in (scale, zeros(*image)):
            yield Call(conv3x3_scale_residual, {"x": zeros(*image), **once, "scale": factor, "residual": zeros(*image)})
        yield Call(dpcb, {"x": zeros(*image), **first, **second, "scale": scale})
        yield Call(modulate, {"x": zeros(*image), "f1": zeros(*image), "f2": scale, "bias": zeros(channels)})
    yield from _convolutions(config, (batch, height, width), zeros)
    if config.version == "v2":
        path = _condition_path(config, batch, zeros)
        tail = _estimator_tail(config, (batch, config.estimator_channels, height, width), zeros)
        yield path
        yield tail
        both = {**tail.arguments, **path.arguments}
        yield Call(next_condition, {name: value for name, value in both.items() if name != "code"}, False)


def _convolutions(config: DANConfig, grid: tuple[int, int, int], zeros: Callable[..., Tensor]) -> Iterator[Call]:
    """The heads of both modules and the upsampler, where it is one convolution."""
    def image(channels: int) -> Tensor:
        return zeros(grid[0], channels, *grid[1:])

    def head(into: int, out: int, size: int) -> Call:
        return Call(convolution, {"x": image(into), "weight": zeros(out, into, size, size), "bias": zeros(out)}, False)

    cells, width = config.image_channels * config.scale**2, config.estimator_channels
    # The Estimator's convolution of the result has that stride: on cells it reaches so far.
    reach = -(-(4 if config.version == "v1" else 2 * config.scale) // config.scale)
    yield head(config.image_channels, config.channels, 3)
    yield head(config.image_channels, width, 1 if config.version == "v1" else 5)
    yield head(cells, width, 2 * reach + 1)
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


def warmup(network: Network | DANConfig, batch: int, height: int, width: int, *, dtype: torch.dtype = torch.float32,
           device: torch.device | str = "cuda", gradients: bool = False) -> None:
    """Compiles what the network's operators need for one shape, by running each once.

    Call it before a CUDA graph is captured, in the context of the calls to come: their ``backend``, their autocast.
    Random numbers and the network stay as they are. A shape that was warmed up costs a few launches.

    Args:
        network: a network or what it looks like; only its shape matters.
        batch, height, width: of the LR images, each at least 1.
        dtype: of images and weights.
        device: where they will be.
        gradients: warm up the backward passes too.

    Raises:
        ValueError: a size is not a whole number of at least 1.
    """
    for name, size in (("batch", batch), ("height", height), ("width", width)):
        if type(size) is not int or size < 1:
            raise ValueError(f"{name}={size!r}: expected a whole number of at least 1")
    config = network if isinstance(network, DANConfig) else network.config
    with torch.inference_mode(not gradients), torch.set_grad_enabled(gradients):
        for call in calls(config, batch, height, width, dtype, device):
            run(call, gradients)


@torch.no_grad()
def fill(call: Call) -> None:
    """Random values in all of the call's tensors, weights as large as trained ones, so that results stay near 1.

    On zeros a GPU is faster than on data.
    """
    for name, value in call.arguments.items():
        if isinstance(value, Tensor):
            value.normal_()
            if "weight" in name:
                value /= math.sqrt(value.shape[-1] if value.dim() == 3 else value[0].numel())


def run(call: Call, gradients: bool) -> tuple[Tensor, ...]:
    """The operator once; with ``gradients`` those of everything that can learn, too: all results.

    Gradients are of half the sum of the outputs' squares, so that the values that flow back are like those that came.
    """
    operator, arguments, learns = call
    if not learns:
        with torch.inference_mode():
            output = operator(**arguments)
        return (output,) if isinstance(output, Tensor) else output
    learn = [value.requires_grad_() for name, value in arguments.items()
             if gradients and isinstance(value, Tensor) and name != "encoder"]
    outputs = operator(**arguments)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    if not learn:
        return outputs
    return *outputs, *torch.autograd.grad(outputs, learn, [output.detach() for output in outputs])
