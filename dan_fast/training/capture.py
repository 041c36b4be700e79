"""A function of tensors that stay where they are, as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..devices import side_stream

# Calls before the capture: libraries choose their algorithms and allocate what they keep.
WARM_UP = 3


class Captured:
    """Calls ``function`` the first times, then replays what it launched on the GPU.

    Args:
        function: reads and writes the same tensors each time, never waits for the GPU, and returns a tensor, which the
            next call overwrites.
        generator: of its random numbers; the caller may seed it anew before each call.
    """

    def __init__(self, function: Callable[[], Tensor], generator: torch.Generator) -> None:
        self._function, self._generator = function, generator
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> Tensor:
        if self._calls < WARM_UP:
            self._calls += 1
            with side_stream(self._generator.device):
                output = self._function()
            output.record_stream(torch.cuda.current_stream(output.device))
            return output
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            # Only this thread's calls: a thread that pins memory for the loader must not break the capture.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._output = self._function()
            self._graph = graph
        self._graph.replay()
        return self._output
