"""What every CUDA graph of dan_fast needs: a stream of its own to warm up and to be captured on, and its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")

# In the whole process one graph is captured or replayed at a time: torch's default generators know one capture, and a
# replay in another thread meanwhile would fail ("Offset increment outside graph capture").
TURN = threading.RLock()


class GraphStream:
    """A stream of ``device`` on which functions warm up and are captured.

    torch's own default for captures is one stream for the process, on the device that was current first: work on
    another device would not be captured, and the graph stay empty. One stream serves all warm-ups, as torch's
    allocator keeps memory apart by stream.

    Args:
        device: a CUDA device; without a number it is the current one.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self.device)

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """What runs inside does so on the stream, between what the current one has been given and what it will be.

        cuDNN tries its algorithms for shapes that it has not seen, and the capture takes the fastest.
        """
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream), _cudnn_tries_algorithms():
            yield
        current.wait_stream(self._stream)

    def captured(self, function: Callable[[], T], *, pool: Any = None, generator: torch.Generator | None = None
                 ) -> tuple[torch.cuda.CUDAGraph, T]:
        """A graph of what ``function`` launches, and its result, which every replay overwrites.

        Args:
            pool: of the memory that the graph may share.
            generator: of the function's random numbers; the caller may seed it anew before each replay.
        """
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        # Only this thread's calls are captured: one that pins memory for a loader must not break it.
        with (TURN, torch.cuda.device(self.device), _cudnn_tries_algorithms(),
              torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local")):
            result = function()
        return graph, result


def replay(graph: torch.cuda.CUDAGraph) -> None:
    """Launch the graph on the current stream of its device."""
    with TURN:
        graph.replay()


@contextmanager
def _cudnn_tries_algorithms() -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
