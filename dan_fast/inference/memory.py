"""The memory that a pass may take."""

from __future__ import annotations

import psutil
import torch

# With more than this, larger tiles save hardly any halo on a CPU.
_LARGEST_ON_CPU = 1_500_000_000


def budget(device: torch.device) -> int:
    """Bytes for the tensors of one pass: half of what is free, on a CPU at most 1.5 GB."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # PyTorch can use what it has reserved and not allocated.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + cached) // 2
    return min(psutil.virtual_memory().available // 2, _LARGEST_ON_CPU)
