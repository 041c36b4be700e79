"""How fast a run trains: images per second of its finished steps, and how long each waited for its images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor


class Speed(NamedTuple):
    """Over the steps since the last report; nan if none of them was taken by this process.

    Attributes:
        images_per_s: images in finished steps per second; validations do not count.
        data_ms: waited for images, per step.
        waited: share of the time that was spent waiting for images.
    """

    images_per_s: float
    data_ms: float
    waited: float


class Pace:
    """Knows when steps were done, which their reports, read some steps late, do not tell.

    Args:
        step: the last step that was taken before this process began.
        batch: images per step, of all processes.
    """

    def __init__(self, step: int, batch: int) -> None:
        self._batch = batch
        self._step = self._taken = step
        self._finished = time.perf_counter()
        self._waits: dict[int, float] = {}
        self._pauses: dict[int, float] = {}  # after a step

    def waiting_for(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """``batches``, one per step; the time until each is there counts as that step's waiting."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            if batch is None:
                return
            self._taken += 1
            self._waits[self._taken] = time.perf_counter() - start
            yield batch

    @contextmanager
    def not_counting(self) -> Iterator[None]:
        """What is done inside is no step's time."""
        start = time.perf_counter()
        yield
        self._pauses[self._taken] = self._pauses.get(self._taken, 0.0) + time.perf_counter() - start

    def until(self, step: int, finished: float) -> Speed:
        """From the step that was asked for last to ``step``, which was done at ``finished``, of ``perf_counter()``."""
        steps = step - self._step
        if steps <= 0:
            return Speed(math.nan, math.nan, math.nan)
        paused = sum(self._pauses.pop(taken) for taken in list(self._pauses) if taken < step)
        waited = sum(self._waits.pop(taken) for taken in list(self._waits) if taken <= step)
        seconds = max(finished - self._finished - paused, 1e-9)
        self._step, self._finished = step, finished
        return Speed(steps * self._batch / seconds, 1000 * waited / steps, waited / seconds)


def in_words(images_per_s: float) -> str:
    """``"1.3 images/s"``, ``"1780 images/s"``."""
    digits = 0 if images_per_s >= 100 else 1 if images_per_s >= 1 else 3
    return f"{images_per_s:.{digits}f} images/s"
