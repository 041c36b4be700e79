"""Captures a function on fixed tensors as one CUDA graph and replays it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from dan_fast_kernels.without import without
from torch import Tensor

from ..runtime.cuda_graphs import GraphStream, replay

# Calls before the capture, in which libraries choose their algorithms and allocate their workspaces.
WARM_UP = 3


class Captured:
    """Calls ``function`` in the first ``WARM_UP`` calls, then replays what it launched on the GPU.

    Args:
        function: reads and writes the same tensors in every call, never waits for the GPU, and returns a tensor, which
            the next call overwrites.
        generator: draws the function's random numbers; the caller may seed it again before each call.
    """

    def __init__(self, function: Callable[[], Tensor], generator: torch.Generator) -> None:
        self._function, self._generator = function, generator
        self._stream = GraphStream(generator.device)
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> Tensor:
        if self._calls < WARM_UP or without("training_graphs"):
            self._calls += 1
            with self._stream.warm_up():
                output = self._function()
            output.record_stream(torch.cuda.current_stream(output.device))
            return output
        if self._graph is None:
            self._graph, self._output = self._stream.captured(self._function, generator=self._generator)
        replay(self._graph)
        return self._output
