"""CUDA graphs: warm-up and capture on a stream of their own, and one capture or replay at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")

# Held while a graph is captured or replayed, by one thread of the process at a time: torch's default generators know
# one capture, and a replay in another thread meanwhile would fail ("Offset increment outside graph capture").
TURN = threading.RLock()


class GraphStream:
    """A stream of ``device`` on which functions warm up and are captured.

    By default torch captures on one stream for the whole process, on the device that was current first: work on
    another device would not be captured, and the graph would stay empty. All warm-ups share one stream, as torch's
    allocator reuses memory only within a stream.

    Args:
        device: a CUDA device; without an index it is the current one.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self._stream = torch.cuda.Stream(self.device)

    @contextmanager
    def warm_up(self) -> Iterator[None]:
        """Run the block on the side stream, after pending work and before later work of the current stream.

        For shapes that it has not seen, cuDNN tries its algorithms; the capture then takes the fastest.
        """
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream), _cudnn_tries_algorithms():
            yield
        current.wait_stream(self._stream)

    def captured(self, function: Callable[[], T], *, pool: Any = None, generator: torch.Generator | None = None
                 ) -> tuple[torch.cuda.CUDAGraph, T]:
        """Capture the work that ``function`` launches.

        Args:
            function: called once.
            pool: memory pool that the graph may share with others.
            generator: draws the function's random numbers; the caller may seed it anew before each replay.

        Returns:
            The graph, and the function's result, which every replay overwrites.
        """
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        # Only this thread's calls are checked: another thread that pins memory for a loader must not break the capture.
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
