"""Chooses between float32 and bfloat16: whichever trains a network faster on a device."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..config import DANConfig
from ..ops.conv3x3 import chosen_for


class Precision(NamedTuple):
    """The type that a network computes in while it is trained.

    Attributes:
        bf16: bfloat16; otherwise float32.
        why: the reason in a few words, for the log.
    """

    bf16: bool
    why: str


def faster_precision(config: DANConfig, device: torch.device) -> Precision:
    """Return the faster type for a network of ``config`` on ``device``.

    On a CPU a v2 with the direct upsampler runs almost entirely in compiled operators if it is in float32 and they
    support its numbers of channels. They are faster than bfloat16 even on a CPU that has instructions for it. Images
    per second in float32 and in bfloat16 on an AMD EPYC (Zen 4, two cores):

    ==================================================  ====  ====
    ``v2-0.3M-x4``                                      68.4  49.7
    the first with 16 channels                          126   85
    the first with 64 channels, two groups of 3 blocks  41.2  32.5
    the first in PyTorch's operators                    38.3  49.2
    the first with 24 channels, so in PyTorch's         41.8  55.1
    the first with the published upsampler              25.9  32.9
    ``v2-x4``                                           3.5   4.0
    ``v1-x4``                                           2.4   3.8
    ==================================================  ====  ====

    On one core of an AMD EPYC (Zen 5) ``v2-1.7M-x4`` takes 285 and 356 ms for a step of four 48x48 patches if only its
    Refiner learns, 364 and 443 ms if all of it does.

    A CPU without such instructions emulates bfloat16, ten times as slow as float32.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return Precision(capability >= (8, 0), f"the GPU has capability {'.'.join(map(str, capability))}, "
                         "bfloat16 begins at 8.0")
    if (config.version, config.upsampler) == ("v2", "direct") and all(
            chosen_for("dpcb", torch.empty(1, channels, 1, 1)) == "cpp"
            for channels in (config.channels, config.estimator_channels, config.refiner_channels or config.channels)):
        return Precision(False, "the C++ operators compute in it")
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return Precision(True, "the CPU has instructions for it")
    return Precision(False, "the CPU has no instructions for bfloat16")
