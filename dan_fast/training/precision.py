"""Which floating point type a training is faster in, on a device."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..config import DANConfig
from ..ops.conv3x3 import chosen_for


class Precision(NamedTuple):
    """``bf16``: run the network in bfloat16, else in float32; ``why``: in a few words."""

    bf16: bool
    why: str


def faster_precision(config: DANConfig, device: torch.device) -> Precision:
    """The faster one for a network of ``config`` on ``device``.

    On a CPU v2's blocks are compiled operators in float32, if these take its numbers of channels. They are faster than
    bfloat16 even where the CPU has instructions for that: 77 images/s against 50 on an AMD EPYC (Zen 4, two cores,
    ``v2-0.3M-x4``). All else is PyTorch's, which is faster in bfloat16 with such instructions (50 against 38; v1 1.7
    times as fast) and ten times slower without.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return Precision(capability >= (8, 0), f"the GPU has capability {'.'.join(map(str, capability))}, "
                         "bfloat16 begins at 8.0")
    if config.version == "v2" and all(chosen_for("dpcb", torch.empty(1, channels, 1, 1)) == "cpp"
                                      for channels in (config.channels, config.estimator_channels)):
        return Precision(False, "the C++ operators compute in it")
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return Precision(True, "the CPU has instructions for it")
    return Precision(False, "the CPU has no instructions for bfloat16")
