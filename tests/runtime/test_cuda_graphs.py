"""CUDA graphs use the right device, one at a time, and go with their owner; stand-ins take the place of torch.cuda."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast.degradation.pipeline import Degradation
from dan_fast.inference.graphs import Graphs
from dan_fast.runtime.cuda_graphs import TURN, GraphStream, replay
from dan_fast.training import capture
from dan_fast.training.settings import TrainingSettings
from dan_fast.training.step import TrainingStep


class Cuda:
    """The part of ``torch.cuda`` that ``GraphStream`` uses; it records devices. Device 0 is current at first."""

    class Stream:
        def __init__(self, device):
            self.device = torch.device(device)

        def wait_stream(self, other):
            pass

    def __init__(self):
        self.here, self.on, self.captures = 0, self.Stream("cuda:0"), []

    def current_device(self):
        return self.here

    def current_stream(self, device=None):
        return self.on if device is None or self.on.device == device else self.Stream(device)

    @contextmanager
    def device(self, device):
        before, self.here = self.here, device.index
        yield
        self.here = before

    @contextmanager
    def stream(self, stream):
        before, self.on = self.on, stream
        yield
        self.on = before

    @contextmanager
    def graph(self, graph, pool=None, stream=None, capture_error_mode="global"):
        """Like torch's: without a stream it takes one of the device that was current first."""
        stream = stream or self.Stream("cuda:0")
        self.captures.append((self.here, stream.device.index, capture_error_mode))
        with self.stream(stream):
            yield

    def CUDAGraph(self):
        return SimpleNamespace(replay=lambda: None, register_generator_state=lambda generator: None)


@pytest.fixture
def cuda(monkeypatch):
    stand_in = Cuda()
    for name in ("Stream", "current_device", "current_stream", "device", "stream", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    return stand_in


@pytest.mark.parametrize("device, index", [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_captures_on_the_device_that_it_is_for(cuda, device, index):
    stream, seen = GraphStream(torch.device(device)), []

    def function():
        seen.append((cuda.current_device(), cuda.current_stream().device.index, torch.backends.cudnn.benchmark))
        return "result"
    with stream.warm_up():
        function()
    _, result = stream.captured(function)
    assert result == "result" and seen == [(index, index, True)] * 2
    assert cuda.captures == [(index, index, "thread_local")]
    assert cuda.here == 0 and not torch.backends.cudnn.benchmark


def test_a_warm_up_that_fails_leaves_the_settings_as_they_were(cuda):
    with pytest.raises(RuntimeError, match="no"), GraphStream(torch.device("cuda")).warm_up():
        raise RuntimeError("no")
    assert not torch.backends.cudnn.benchmark


def test_one_stream_for_all_warm_ups_of_training_and_for_its_capture(cuda):
    streams = set()

    def function():
        streams.add(cuda.current_stream())
        return SimpleNamespace(device=torch.device("cuda:1"), record_stream=lambda stream: None)
    captured = capture.Captured(function, SimpleNamespace(device=torch.device("cuda:1")))
    for _ in range(capture.WARM_UP + 3):
        captured()
    assert len(streams) == 1 and streams.pop().device.index == 1 and len(cuda.captures) == 1


def test_training_graphs_can_be_left_out(cuda, monkeypatch):
    monkeypatch.setenv("DAN_FAST_WITHOUT", "training_graphs")
    calls = []

    def function():
        calls.append(1)
        return SimpleNamespace(device=torch.device("cuda:0"), record_stream=lambda stream: None)
    captured = capture.Captured(function, SimpleNamespace(device=torch.device("cuda:0")))
    for _ in range(capture.WARM_UP + 3):
        captured()
    assert len(calls) == capture.WARM_UP + 3 and not cuda.captures


def test_a_replay_waits_for_a_capture_in_another_thread(cuda):
    events, capturing = [], threading.Event()

    def function():
        capturing.set()
        assert not waits.wait(0.2)  # the replay had time to begin
        events.append("captured")

    waits = threading.Event()

    def replays():
        capturing.wait()
        replay(SimpleNamespace(replay=lambda: (waits.set(), events.append("replayed"))))
    thread = threading.Thread(target=replays)
    thread.start()
    GraphStream(torch.device("cuda")).captured(function)
    thread.join()
    assert events == ["captured", "replayed"]
    with TURN, TURN:  # a capture may be inside a turn that its thread holds already
        pass


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_dropped_cache_is_gone_at_once(cuda, no_collector):
    graphs = Graphs()
    gone = weakref.ref(graphs)
    del graphs
    assert gone() is None


def test_a_dropped_upscaler_is_gone_at_once(no_collector):
    model = dan_fast.DAN(tiny_config(upsampler="published")).eval()
    for _ in range(2):  # PyTorch and the operators keep what they prepare at the first call
        upscaler = dan_fast.Upscaler(model)
        upscaler(torch.rand(3, 8, 9))
        gone = [weakref.ref(part) for part in (upscaler, upscaler.plan, upscaler._engine, upscaler._engine.graphs)]
        del upscaler
    assert [part() for part in gone] == [None] * 4


def test_a_dropped_step_is_gone_at_once(cuda, no_collector):
    model = dan_fast.DAN(tiny_config(scale=2, kernel_size=9))
    for _ in range(2):
        step = TrainingStep(copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False),
                            Degradation(2, 9, (0.2, 2.0)), TrainingSettings(batch=2, patch=8))
        step(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), seed=0, learning_rate=1e-3, average_weight=0.1, iterations=1)
        step._captured = 1, capture.Captured(step.as_function(1), SimpleNamespace(device=torch.device("cuda:0")))
        gone = [weakref.ref(step), weakref.ref(step._captured[1])]
        del step
    assert [part() for part in gone] == [None] * 2


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_on_a_gpu_that_is_not_the_current_one():
    device, graphs = torch.device("cuda:1"), Graphs()
    for n in range(4):
        images = torch.full((1, 3, 4, 5), float(n), device=device)
        found, _ = graphs(lambda images: (2 * images, None), images)
        assert torch.equal(found, 2 * images)
    assert graphs.stats().hits == 2
