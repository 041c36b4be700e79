"""CUDA graphs of whole passes: what a small image costs is launching kernels, and a graph launches all at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..runtime.cuda_graphs import GraphStream, replay

# A pass: images to a tuple of results, tensors, or None where there is none.
Pass = Callable[[Tensor], tuple[Tensor | None, ...]]


class Replay(Protocol):
    """A captured pass. Its results are overwritten by the next call."""

    memory: int  # bytes

    def __call__(self, images: Tensor) -> tuple[Tensor | None, ...]: ...


class GraphStats(NamedTuple):
    """``hits``: passes replayed; ``misses``: passes run without a graph; ``captured``: graphs there are now;
    ``memory``: bytes they hold."""

    hits: int
    misses: int
    captured: int
    memory: int


class Graphs:
    """Passes by their shapes, captured when one is seen for the second time; the least used are dropped.

    Safe from several threads and streams: one replay at a time, each after the one before, whatever their streams. All
    images of one cache are on one device.

    Args:
        capacity: graphs at most.
        capture: makes a ``Replay`` of a pass and images like those to come; ``None``: as a CUDA graph. All of those
            share their memory, as only one runs at a time.
    """

    # Shapes seen once are remembered, so many of them.
    SEEN = 256

    def __init__(self, capacity: int = 8, capture: Callable[[Pass, Tensor], Replay] | None = None) -> None:
        self._capacity = capacity
        # As given: a method of this object would keep it, and its graphs' memory, when it is dropped.
        self._capture = capture
        self._stream: GraphStream | None = None
        self._pool: Any = None
        self._free: torch.cuda.Event | None = None  # since then
        self._replays: OrderedDict[Hashable, Replay] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def __call__(self, run: Pass, images: Tensor, key: Hashable = None) -> tuple[Tensor | None, ...]:
        """``run(images)``; ``key``: whatever else its results depend on. The results are the caller's own."""
        key = (tuple(images.shape), images.dtype, key)
        with self._lock:
            if key in self._replays or key in self._seen:
                return self._replayed(key, run, images)
            self._misses += 1
            self._seen[key] = None
            if len(self._seen) > self.SEEN:
                self._seen.popitem(last=False)
        return run(images)

    def _replayed(self, key: Hashable, run: Pass, images: Tensor) -> tuple[Tensor | None, ...]:
        stream = torch.cuda.current_stream(images.device) if images.is_cuda else None
        if stream and self._free:
            stream.wait_event(self._free)
        if key in self._replays:
            self._hits += 1
        else:
            self._misses += 1
            while len(self._replays) >= self._capacity:
                self._drop()
            self._replays[key] = (self._capture or self._cuda_graph)(run, images)
        self._replays.move_to_end(key)
        results = tuple(None if result is None else result.clone() for result in self._replays[key](images))
        if stream:
            self._free = stream.record_event()
        return results

    def _cuda_graph(self, run: Pass, images: Tensor) -> Replay:
        if self._stream is None:
            self._stream, self._pool = GraphStream(images.device), torch.cuda.graph_pool_handle()
        return _CudaGraph(run, images, self._stream, self._pool)

    def _drop(self) -> None:
        if self._free:
            self._free.synchronize()  # it may still run
        self._replays.popitem(last=False)

    def clear(self) -> None:
        """Drops all, for their memory."""
        with self._lock:
            while self._replays:
                self._drop()

    def stats(self) -> GraphStats:
        with self._lock:
            return GraphStats(self._hits, self._misses, len(self._replays),
                              sum(replay.memory for replay in self._replays.values()))


class _CudaGraph:
    """One captured pass.

    Args:
        run, images: the pass, and images like those to come.
        stream: where it warms up and is captured.
        pool: of the memory that it may share.
    """

    WARM_UP = 3

    def __init__(self, run: Pass, images: Tensor, stream: GraphStream, pool: Any) -> None:
        before = torch.cuda.memory_reserved(images.device)
        self._images = images.clone()
        with stream.warm_up():
            # Compiles and tunes what is not yet, and lets cuDNN choose.
            for _ in range(self.WARM_UP):
                run(self._images)
        self._graph, self._results = stream.captured(lambda: run(self._images), pool=pool)
        self.memory = max(0, torch.cuda.memory_reserved(images.device) - before)

    def __call__(self, images: Tensor) -> tuple[Tensor | None, ...]:
        self._images.copy_(images)
        replay(self._graph)
        return self._results
