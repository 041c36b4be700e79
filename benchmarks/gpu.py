"""CUDA graphs of what is timed on a GPU: without the CPU's part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from dan_fast.runtime.cuda_graphs import GraphStream, replay


def captured(function: Callable[[], object], calls: int) -> Callable[[], None]:
    """Returns a function that replays one CUDA graph of ``calls`` calls of ``function``.

    As in use: the network runs from graphs, and a launch from Python takes longer than a small GPU kernel does.
    """
    def repeated() -> None:
        for _ in range(calls):
            function()

    stream = GraphStream(torch.device("cuda"))
    with torch.inference_mode():
        with stream.warm_up():
            for _ in range(3):  # whatever compiles, compiles here
                function()
        graph, _ = stream.captured(repeated)
    return partial(replay, graph)
