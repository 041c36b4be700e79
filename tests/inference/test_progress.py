"""``progress`` of an upscaler's calls."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from support.networks import REFINER, tiny_network
from support.photos import photo

from dan_fast.inference import Upscaler
from dan_fast.inference.progress import Progress


class Cancelled(Exception):
    pass


@pytest.mark.parametrize("options, steps", [
    ({}, 4),  # one per iteration
    ({"tile": 16}, 4 * 15),
    ({"tile": 16, "blur": 0.8}, 4 * 15),
    ({"kernel_from": "crop"}, 4),
    ({"tile": 64, "kernel_from": "crop"}, 4 * 2),  # no larger than a crop
    ({"ensemble": True}, 32),
    ({"tolerance": 2}, 2),  # stops after one, and says that all is done
], ids=str)
def test_it_grows_to_the_total(tiny_model, options, steps, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # one tile at a time
    image, seen = photo(40, 70), []
    upscaler = Upscaler(tiny_model, **options)
    found = upscaler(image, progress=lambda done, total: seen.append((done, total)), wants_kernel=False)
    assert np.array_equal(found.image, upscaler(image, wants_kernel=False).image)
    dones, totals = zip(*seen, strict=True)
    assert all(type(number) is int for number in (*dones, *totals))
    assert len(set(totals)) == 1 and dones[-1] == totals[0] and len(dones) == steps
    assert dones[0] > 0 and all(a < b for a, b in pairwise(dones))


def test_all_calls_report(tiny_model):
    upscaler, image = Upscaler(tiny_model), photo(200, 150)
    for call in (lambda report: upscaler(image, kernel=np.ones((3, 3)) / 9, progress=report),
                 lambda report: upscaler.batch([image] * 3, progress=report),
                 lambda report: upscaler(torch.rand(2, 3, 20, 20), progress=report),
                 lambda report: upscaler.estimate_kernel(image, progress=report),
                 lambda report: Upscaler(tiny_model, kernel_from="crop").estimate_kernel(image, progress=report),
                 lambda report: Upscaler(tiny_model, kernel_from="crop")(image, progress=report),
                 lambda report: Upscaler(tiny_model, tile=64)(image, progress=report)):
        seen = []
        call(lambda done, total, seen=seen: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1] and len(seen) == len(set(seen))


@pytest.mark.parametrize("options", [{}, {"tile": 16}])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_error_in_it_cancels(tiny_model, options, after):
    upscaler, image, calls = Upscaler(tiny_model, **options), photo(40, 70), []

    def cancel(done, total):
        calls.append(done)
        if len(calls) == after:
            raise Cancelled

    expected = upscaler(image).image
    with pytest.raises(Cancelled):
        upscaler(image, progress=cancel)
    assert len(calls) == after
    assert np.array_equal(upscaler(image).image, expected)


def test_tiles_that_did_not_fit_are_not_counted_twice(tiny_model, monkeypatch):
    upscaler, seen, failed = Upscaler(tiny_model, tile=64), [], []
    write = type(upscaler._canvas(torch.zeros(1, 3, 4, 4))).write

    def fails_once(canvas, sr, *place):
        if len(seen) > 6 and not failed:
            failed.append(1)
            raise torch.OutOfMemoryError("out of memory")
        write(canvas, sr, *place)
    monkeypatch.setattr("dan_fast.inference.canvas.Canvas.write", fails_once)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.warns(UserWarning, match="smaller tiles"):
        upscaler(photo(100, 150), progress=lambda done, total: seen.append((done, total)))
    dones, totals = zip(*seen, strict=True)
    assert failed and len(set(totals)) == 1 and dones[-1] == totals[0]
    assert all(a < b for a, b in pairwise(dones))


@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"tile": 16, "blur": 0.8}, {"kernel_from": "crop"},
                                     {"tolerance": 0.0}, {"tolerance": 0.0, "tile": 16}], ids=str)
@pytest.mark.parametrize("known", [False, True])
def test_the_work_of_a_refiner_is_expected(options, known, monkeypatch):
    """What is counted adds up to what was announced."""
    finished = []
    finish = Progress.finish
    monkeypatch.setattr(Progress, "finish", lambda self: finished.append((self.done, self._total)) or finish(self))
    refining = tiny_network(iterations=3, **REFINER).eval()
    kernel = np.ones((3, 3)) / 9 if known else None
    Upscaler(refining, **options)(photo(200, 150), kernel=kernel, progress=lambda done, total: None)
    Upscaler(refining, **options).estimate_kernel(photo(200, 150), progress=lambda done, total: None)
    # With a tolerance a result that stops early is restored again; here none does.
    spare = 200 * 150 if "tolerance" in options and not known else 0
    assert finished[0][0] == finished[0][1] - spare and finished[1][0] == finished[1][1]
