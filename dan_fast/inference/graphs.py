"""CUDA graphs of whole passes: small images cost mostly launches of GPU kernels, and a graph launches all at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..runtime.cuda_graphs import GraphStream, replay

# A pass: from a batch of images to its results, each a tensor or None.
Pass = Callable[[Tensor], tuple[Tensor | None, ...]]


class Replay(Protocol):
    """A captured pass. Its results are overwritten by the next call."""

    memory: int  # bytes

    def __call__(self, images: Tensor) -> tuple[Tensor | None, ...]: ...


class GraphStats(NamedTuple):
    """Counts of what an upscaler's graphs did.

    Attributes:
        hits: passes that were replayed.
        misses: passes that were computed without a graph.
        captured: graphs that there are now.
        memory: bytes that they hold.
    """

    hits: int
    misses: int
    captured: int
    memory: int


class Graphs:
    """A cache of captured passes. One is captured when its shape comes for the second time; the least recently used
    one is dropped for it.

    Safe to use from several threads and streams: replays follow each other, whatever their streams. All images are on
    one device.

    Args:
        capacity: how many passes are captured at most.
        capture: makes a ``Replay`` from a pass and images like those to come; ``None``: a CUDA graph. CUDA graphs
            share their memory, as only one is replayed at a time.
    """

    SEEN = 256  # how many shapes that came once are remembered

    def __init__(self, capacity: int = 8, capture: Callable[[Pass, Tensor], Replay] | None = None) -> None:
        self._capacity = capacity
        # Not bound to ``_cuda_graph`` here: a method would keep this object, and its graphs' memory, alive.
        self._capture = capture
        self._stream: GraphStream | None = None
        self._pool: Any = None
        self._free: torch.cuda.Event | None = None  # when the last replay ends
        self._replays: OrderedDict[Hashable, Replay] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def __call__(self, compute: Pass, images: Tensor, key: Hashable = None) -> tuple[Tensor | None, ...]:
        """``compute(images)``. The results are the caller's own.

        ``key``: everything but the images that the results depend on.
        """
        key = (tuple(images.shape), images.dtype, key)
        with self._lock:
            if key in self._replays or key in self._seen:
                return self._replayed(key, compute, images)
            self._misses += 1
            self._seen[key] = None
            if len(self._seen) > self.SEEN:
                self._seen.popitem(last=False)
        return compute(images)

    def _replayed(self, key: Hashable, compute: Pass, images: Tensor) -> tuple[Tensor | None, ...]:
        stream = torch.cuda.current_stream(images.device) if images.is_cuda else None
        if stream and self._free:
            stream.wait_event(self._free)
        if key in self._replays:
            self._hits += 1
        else:
            self._misses += 1
            while len(self._replays) >= self._capacity:
                self._drop()
            self._replays[key] = (self._capture or self._cuda_graph)(compute, images)
        self._replays.move_to_end(key)
        results = tuple(None if result is None else result.clone() for result in self._replays[key](images))
        if stream:
            self._free = stream.record_event()
        return results

    def _cuda_graph(self, compute: Pass, images: Tensor) -> Replay:
        if self._stream is None:
            self._stream, self._pool = GraphStream(images.device), torch.cuda.graph_pool_handle()
        return _CudaGraph(compute, images, self._stream, self._pool)

    def _drop(self) -> None:
        if self._free:
            self._free.synchronize()  # the graph may still be running
        self._replays.popitem(last=False)

    def clear(self) -> None:
        """Drop all graphs, to free their memory."""
        with self._lock:
            while self._replays:
                self._drop()

    def stats(self) -> GraphStats:
        """The counts so far."""
        with self._lock:
            return GraphStats(self._hits, self._misses, len(self._replays),
                              sum(replay.memory for replay in self._replays.values()))


class _CudaGraph:
    """One captured pass.

    Args:
        compute: the pass.
        images: like those to come.
        stream: where the pass warms up and is captured.
        pool: memory shared with other graphs.
    """

    WARM_UP = 3

    def __init__(self, compute: Pass, images: Tensor, stream: GraphStream, pool: Any) -> None:
        before = torch.cuda.memory_reserved(images.device)
        self._images = images.clone()
        with stream.warm_up():
            # GPU kernels are compiled and tuned now, and cuDNN chooses its own.
            for _ in range(self.WARM_UP):
                compute(self._images)
        self._graph, self._results = stream.captured(lambda: compute(self._images), pool=pool)
        self.memory = max(0, torch.cuda.memory_reserved(images.device) - before)

    def __call__(self, images: Tensor) -> tuple[Tensor | None, ...]:
        self._images.copy_(images)
        replay(self._graph)
        return self._results
