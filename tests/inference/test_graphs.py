"""The cache of CUDA graphs: captured, replayed and dropped graphs; on the CPU with passes that stand for graphs."""

from __future__ import annotations

import threading

import pytest
import torch

from dan_fast.inference.graphs import Graphs


class Recorded:
    """Like a captured pass: its results are overwritten by the next replay."""

    memory = 100

    def __init__(self, run, images):
        self.run, self.images = run, images.clone()
        self.results = run(self.images)
        self.replays = 0

    def __call__(self, images):
        self.images.copy_(images)
        for result, new in zip(self.results, self.run(self.images), strict=True):
            if result is not None:
                result.copy_(new)
        self.replays += 1
        return self.results


def double(images):
    return 2 * images, None


@pytest.fixture
def captured():
    return []


@pytest.fixture
def graphs(captured):
    def capture(run, images):
        captured.append(Recorded(run, images))
        return captured[-1]
    return Graphs(capacity=2, capture=capture)


def test_a_shape_is_captured_when_it_is_seen_again(graphs, captured):
    for n in range(4):
        images = torch.rand(1, 3, 4, 5)
        found, nothing = graphs(double, images)
        assert torch.equal(found, 2 * images) and nothing is None
        assert len(captured) == (n > 0)
    assert graphs.stats() == (2, 2, 1, 100)


def test_shape_dtype_and_key_tell_passes_apart(graphs, captured):
    for images in (torch.rand(1, 3, 4, 5), torch.rand(2, 3, 4, 5), torch.rand(1, 3, 4, 5).double()):
        for key in ("a", "b"):
            graphs(double, images, key)
    assert not captured and graphs.stats() == (0, 6, 0, 0)


def test_results_belong_to_the_caller(graphs):
    first, second = torch.rand(2, 2), torch.rand(2, 2)
    graphs(double, first)
    kept, _ = graphs(double, first)
    graphs(double, second)
    assert torch.equal(kept, 2 * first)


def test_the_least_used_is_dropped(graphs, captured):
    a, b, c = (torch.rand(n, 1) for n in (1, 2, 3))
    for images in (a, a, b, b, a, c, c):
        graphs(double, images)
    assert len(captured) == 3 and graphs.stats().captured == 2 and graphs.stats().memory == 200
    graphs(double, a)  # was used after b
    assert len(captured) == 3 and captured[0].replays == 3
    graphs(double, b)
    assert len(captured) == 4


def test_clear_drops_all(graphs):
    for _ in range(2):
        graphs(double, torch.rand(1, 1))
    graphs.clear()
    assert graphs.stats().captured == 0 == graphs.stats().memory
    images = torch.rand(1, 1)
    assert torch.equal(graphs(double, images)[0], 2 * images)


def test_a_pass_that_cannot_be_captured_says_so_and_is_tried_again(captured):
    def refuse(run, images):
        raise RuntimeError("capture")
    graphs = Graphs(capture=refuse)
    images = torch.rand(1, 1)
    graphs(double, images)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="capture"):
            graphs(double, images)
    assert graphs.stats().captured == 0


def test_several_threads(graphs):
    wrong = []

    def work(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(200):
            images = torch.rand(int(torch.randint(1, 5, (1,), generator=generator)), 3, generator=generator)
            if not torch.equal(graphs(double, images)[0], 2 * images):
                wrong.append(seed)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and graphs.stats().captured <= 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    graphs = Graphs()
    weight = torch.randn(8, 3, 3, 3, device="cuda")

    def run(images):
        return torch.nn.functional.conv2d(images, weight, padding=1), None
    side = torch.cuda.Stream()
    for n in range(6):
        images = torch.rand(1, 3, 16, 16 + n % 2, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(side if n > 3 else torch.cuda.current_stream()):
            found, _ = graphs(run, images)
        torch.cuda.synchronize()
        torch.testing.assert_close(found, run(images)[0])
    assert graphs.stats().hits == 2 and graphs.stats().captured == 2
