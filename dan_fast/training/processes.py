"""The processes of one run: one per GPU where torchrun starts them, otherwise a single one.

Gradients are summed by one explicit all-reduce of one vector, not by DistributedDataParallel. A CUDA graph captures it
like any other operation, and the losses are summed along with the gradients. With the 19 MB of the largest network
there is nothing to gain from sending it in pieces during the backward pass.
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
    """This process's number (``rank``) and the ``count`` of all."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and logs."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace ``tensor`` by its sum over all processes.

        Raises:
            DanFastError: a process is gone.
        """
        if self.count > 1:
            with _clear_errors():
                dist.all_reduce(tensor)

    def from_main(self, *values: float) -> list[float]:
        """Return the main process's ``values``. All processes must call this, with equally many. No GPU is waited for.

        Raises:
            DanFastError: a process is gone.
        """
        if self.count == 1:
            return list(values)
        with _clear_errors():
            received = torch.tensor(values, dtype=torch.float64)
            dist.broadcast(received, 0, group=_cpu_group())
            return received.tolist()

    def wait_for_all(self) -> None:
        """Return when all processes have called this.

        Raises:
            DanFastError: a process is gone.
        """
        if self.count > 1:
            with _clear_errors():
                dist.barrier()


def local_device(device: torch.device) -> torch.device:
    """Return this process's own GPU in place of ``cuda``; other devices as they are."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@cache
def _cpu_group() -> dist.ProcessGroup | None:
    """A group that communicates through the CPUs; None: the default group does."""
    return None if dist.get_backend() == "gloo" else dist.new_group(timeout=TIMEOUT, backend="gloo")


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, if there are any, for the length of the block."""
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
    """A prefix for keys in torchrun's store, which still holds the addresses of processes before a restart.

    On several machines each counts its restarts itself, so the count cannot be part of the prefix; torch's own remedy
    there is TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1.
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
