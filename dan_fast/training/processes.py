"""The processes of one run, one a GPU, as torchrun starts them; without torchrun it is one.

Gradients are summed by one explicit all-reduce of one vector, not by DistributedDataParallel: a CUDA graph captures it
like any other operation, the losses travel along, and for the 19 MB of the largest network there is nothing to gain
from sending it in pieces during the backward pass.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import DanFastError

TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Processes:
    """Which one this is (``rank``), of how many."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """The one that writes files and talks to the user."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace ``tensor`` by its sum over all processes; ``DanFastError`` if one of them is gone."""
        if self.count > 1:
            with _clear_errors():
                dist.all_reduce(tensor)

    def from_main(self, *values: float) -> list[float]:
        """What the main process calls this with; all must, and with as many. The GPUs are not waited for.

        Raises:
            DanFastError: a process is gone.
        """
        if self.count == 1:
            return list(values)
        with _clear_errors():
            told = torch.tensor(values, dtype=torch.float64)
            dist.broadcast(told, 0, group=_cpu_group())
            return told.tolist()

    def wait_for_all(self) -> None:
        """Return when all processes have called this; ``DanFastError`` if one of them is gone."""
        if self.count > 1:
            with _clear_errors():
                dist.barrier()


def local_device(device: torch.device) -> torch.device:
    """This process's own GPU of the machine; other devices as they are."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@cache
def _cpu_group() -> dist.ProcessGroup | None:
    """Processes by way of their CPUs; None: that is how they talk anyway."""
    return None if dist.get_backend() == "gloo" else dist.new_group(timeout=TIMEOUT, backend="gloo")


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did, for the length of the block."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with _clear_errors():
        store, rank, count = next(dist.rendezvous("env://"))
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=count,
                                store=dist.PrefixStore(_store_prefix(), store), timeout=TIMEOUT)
    try:
        yield Processes(dist.get_rank(), count)
    finally:
        dist.destroy_process_group()


def _store_prefix() -> str:
    """What tells this start of the processes from the ones before, whose addresses are still in torchrun's store.

    On several machines each counts for itself; TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is torch's own remedy there.
    """
    one_machine = os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]
    return f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}" if one_machine else "attempt"


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch raises nothing more precise
        raise DanFastError(f"another process of this run is gone ({str(error).splitlines()[0][:200]}); "
                           "--resume auto goes on from the last checkpoint") from None
