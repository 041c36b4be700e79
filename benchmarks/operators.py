"""The calls of operators that benchmarks time, and the same in plain PyTorch.

``dan_fast.ops.example_calls`` has the calls of operators that take tensors. Here those of the stacks of blocks and of
``conv3x3_bias`` are added, whose weights come from modules.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dan_fast import DANConfig
from dan_fast.fast_model.dual_path import dpcb_weights
from dan_fast.fast_model.v1 import crb_weights
from dan_fast.fast_model.v2 import dpcg_weights
from dan_fast.model.estimator import EstimatorV1, EstimatorV2
from dan_fast.model.restorer import RestorerV1, RestorerV2
from dan_fast.ops import conv3x3_bias, crb_stack, dpcb_stack, dpcg, example_calls
from dan_fast.ops.example_calls import Call
from dan_fast.ops.layout import SLOPE
from dan_fast.training.presets import get_preset

# The published networks and the small one that ships, all x4.
NETWORKS = {"v2": "v2-x4", "v1": "v1-x4", "v2-small": "v2-0.3M-x4"}


def config_of(network: str) -> DANConfig:
    return get_preset(NETWORKS[network]).config


def all_calls(config: DANConfig, batch: int, height: int, width: int, dtype: torch.dtype, device: torch.device | str
              ) -> Iterator[Call]:
    """Yield a call of every operator that the network uses, for LR images (batch, 3, height, width)."""
    yield from example_calls.calls(config, batch, height, width, dtype, device)
    yield from stack_calls(config, batch, height, width, dtype, device)


def stack_calls(config: DANConfig, batch: int, height: int, width: int, dtype: torch.dtype,
                device: torch.device | str) -> Iterator[Call]:
    """Yield the bodies of Restorer and Estimator and the convolutions after the Restorer's; all for inference."""
    def image(channels: int) -> Tensor:
        x = torch.randn(batch, channels, height, width, device=device).to(dtype)
        return x.contiguous(memory_format=torch.channels_last)

    def module(kind: type[torch.nn.Module]) -> Any:
        made = kind(config).requires_grad_(False).to(device, dtype)
        return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    channels, width_of_estimator = config.channels, config.estimator_channels
    if config.version == "v1":
        code = torch.randn(batch, config.code_length, device=device).to(dtype)
        yield Call(crb_stack, {"x": image(channels), "z": code, "weights": crb_weights(module(RestorerV1))}, False)
        yield Call(crb_stack, {"x": image(width_of_estimator), "z": image(width_of_estimator),
                               "weights": crb_weights(module(EstimatorV1))}, False)
    else:
        weights = dpcb_weights(module(RestorerV2))
        modulation = 0.3 * torch.rand(batch, len(weights.weight1), channels, device=device)
        yield Call(dpcb_stack, {"x": image(channels), "weights": weights, "modulation": modulation}, False)
        yield Call(dpcg, {"x": image(width_of_estimator), "z": image(width_of_estimator),
                          "weights": dpcg_weights(module(EstimatorV2))}, False)
    for outputs in {channels, config.image_channels * config.scale**2 if config.upsampler == "direct" else channels}:
        layer = torch.nn.Conv2d(channels, outputs, 3).requires_grad_(False).to(device, dtype)
        weight = layer.weight.contiguous(memory_format=torch.channels_last)
        yield Call(conv3x3_bias, {"x": image(channels), "weight": weight, "bias": layer.bias}, False)


def once(call: Call, gradients: bool) -> tuple[Tensor, ...]:
    """Return all results of one call, and with ``gradients`` those of all its tensors too."""
    # The timing is in inference mode, in which no tensor that requires a gradient may be made.
    with torch.inference_mode(not gradients), torch.set_grad_enabled(gradients):
        return example_calls.compute(call, gradients)


def positional(function: Callable) -> Callable:
    """Return ``function`` taking a call's arguments, whose names may differ but whose order is the operator's."""
    return lambda **arguments: function(*arguments.values())


def plain(call: Call) -> Call:
    """Return the same call of plain PyTorch: a function of ``PLAIN``, or else the operator's reference."""
    name = call.operator.__name__
    reference = getattr(importlib.import_module(call.operator.__module__), f"{name}_ref")
    return call._replace(operator=positional(PLAIN.get(name, reference)))


def per_pixel(modulation: Tensor, x: Tensor) -> Tensor:
    """Return ``modulation``, (B, C) or an image, in the shape and dtype for a product with ``x``."""
    return (modulation if modulation.dim() == 4 else modulation[:, :, None, None]).to(x.dtype)


# References compute in float32 and round at the end. A plain network in 16 bits computes in its own dtype, which is
# faster: so do the functions below, with those fused operations that PyTorch has.

def plain_lrelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(F.conv2d(x, weight, bias, padding=1), SLOPE, inplace=True)


def plain_residual(x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor) -> Tensor:
    return torch.addcmul(residual, F.conv2d(x, weight, bias, padding=1), per_pixel(modulation, x))


def plain_dpcb(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, modulation: Tensor) -> Tensor:
    return plain_residual(plain_lrelu(x, weight1, bias1), weight2, bias2, modulation, x)


def plain_dpcb_stack(x: Tensor, weights: Any, modulation: Tensor) -> Tensor:
    entry = x
    for n in range(len(weights.weight1)):
        x = plain_dpcb(x, weights.weight1[n], weights.bias1[n], weights.weight2[n], weights.bias2[n], modulation[:, n])
        if n % weights.blocks == weights.blocks - 1:
            x = entry = 2 * x if weights.group_residual == "doubled" else entry + x
    return x


def plain_modulate(x: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor) -> Tensor:
    return torch.addcmul(x, f1 + bias[:, None, None], per_pixel(modulation, x))


def plain_channel_attention(y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
                            residual: Tensor) -> Tensor:
    hidden = F.leaky_relu(F.linear(y.mean((2, 3)), weight1, bias1), SLOPE)
    return torch.addcmul(residual, y, F.linear(hidden, weight2, bias2).sigmoid()[:, :, None, None])


def plain_estimator_tail(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                         encoder: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve the whole image, as the Estimator's layers do."""
    features = F.conv2d(x, conv_weight, conv_bias, padding=1).mean((2, 3))
    kernel = F.linear(features, out_weight, out_bias).softmax(1)
    side = round(len(out_weight)**0.5)
    return kernel.unflatten(1, (side, side)), kernel @ encoder


def plain_next_condition(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    from dan_fast.ops.condition_path import condition_path_ref

    kernel, code = plain_estimator_tail(*arguments[:6])
    return kernel, code, condition_path_ref(code, *arguments[6:])


PLAIN: dict[str, Callable] = {
    "conv3x3_bias_lrelu": plain_lrelu, "conv3x3_scale_residual": plain_residual, "dpcb": plain_dpcb,
    "dpcb_stack": plain_dpcb_stack, "modulate": plain_modulate, "channel_attention": plain_channel_attention,
    "estimator_tail": plain_estimator_tail, "next_condition": plain_next_condition}
