"""Divides the minutes that a command has for its part of a run between steps, saves and validations."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..errors import DanFastError
from .capture import WARM_UP
from .delayed_reports import LAG
from .processes import Processes
from .settings import TrainingSettings

# Reserved for the exit of the process: seconds, or a share of the time if that is less.
EXIT, EXIT_SHARE = 2.0, 0.1
# A save is expected to take at most this factor of the longest one before.
SAVE_MARGIN = 1.5
# The same factor for validations; the share of the time that any of them may take; the share that is reserved for one
# at the end while none has been measured.
VALIDATION_MARGIN, LONGEST_VALIDATION, FINAL_VALIDATION = 1.25, 0.1, 0.05
log = logging.getLogger("dan_fast.train")


class TimeLimit:
    """Keeps the share of the time that is used up, which the schedule follows, and ends the part in time.

    A part of a run is what one command trains, from its first step to its last. The share is 0 before the first step
    and 1 after the last. What comes before (start-up, data) and after (a save, a validation) does not count for it.
    How long the latter will take is estimated from earlier saves, validations and steps, so that the command ends
    within its minutes.

    With several processes the main one's clock holds for all, so all must call ``tick`` and ``may_…``.

    Args:
        minutes: from ``started`` to the end of the command.
        started: when the command began, on the clock of ``now``; None: now.
        now: returns the time in seconds.

    Attributes:
        share: of the part's time, 0 to 1.
        settings: those that the part is trained with.
    """

    def __init__(self, minutes: float, started: float | None = None, *,
                 now: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self._now = minutes, now
        self._started = now() if started is None else started
        self._total = 60 * minutes
        self._save = 0.0  # seconds of the longest save
        self._validation: float | None = None  # seconds of the longest validation, if there was one
        self._validates = False
        self._steps: deque[float] = deque(maxlen=16)  # seconds of the last steps
        self._first = self._last = 0.0  # seconds used when training began and when the last step ended
        self.share = 0.0

    @property
    def used(self) -> float:
        """Seconds since the command began."""
        return self._now() - self._started

    @property
    def left(self) -> float:
        """Seconds until the minutes are over; negative afterwards."""
        return self._total - self.used

    def begin(self, settings: TrainingSettings, device: torch.device, processes: Processes, *, anew: bool,
              validates: bool) -> None:
        """Note that training begins now.

        Args:
            anew: whether the part has the run's beginning, ``warmup`` and ``short_until``.
            validates: whether there will be validations.

        Raises:
            DanFastError: no time is left for training.
        """
        self._anew = anew
        self.settings = settings if anew else settings.without_beginning()
        self._processes, self._validates = processes, validates
        # Steps by which a GPU is behind, and first steps that do not count, as they are slow without the CUDA graph.
        self._behind, self._not_counted = (LAG + 2, WARM_UP + 2) if device.type == "cuda" else (1, 0)
        self._first = self._last = self.used
        over, = processes.from_main(float(self._first >= self._end()))
        if over:
            raise DanFastError(f"minutes={self.minutes:g}: {self._first:.1f} s were over when training could begin, "
                               f"and {self._total - self._end():.1f} s are kept for its end: expected more minutes")

    @property
    def position(self) -> float:
        """The step at which the schedule is: the share of ``steps``."""
        return self.share * self.settings.steps

    @property
    def begins(self) -> bool:
        """Whether the part is in the run's beginning, so that a run that ended here would have to repeat it."""
        return self._anew and self.settings.begins_at(self.position)

    def tick(self) -> bool:
        """Note that a step has ended; return whether it was the last."""
        used = self.used
        if self._not_counted:
            self._not_counted -= 1
        else:
            self._steps.append(used - self._last)
        self._last = used
        ahead = self._behind * statistics.median(self._steps) if self._steps else 0.0
        length = self._end() - ahead - self._first
        # It never decreases, though the end may move as more is known about the time it takes.
        share = 1.0 if length <= 0 else min(max(self.share, (used - self._first) / length), 1.0)
        self.share, = self._processes.from_main(share)
        return self.share >= 1

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure the save made in the block; its time counts for no step."""
        begin = self.used
        yield
        self._last = self.used
        self._save = max(self._save, self._last - begin)

    def may_save(self) -> bool:
        """Whether there is time for another save before the last one."""
        may, = self._processes.from_main(float(self.used + SAVE_MARGIN * self._save < self._end()))
        return bool(may)

    def may_validate(self, at_the_end: bool) -> bool:
        """Whether there is time for a validation now. ``at_the_end``: the last step has been saved."""
        if not self._validates:
            return False
        if at_the_end:
            may = self.used + self._validation_time() / VALIDATION_MARGIN < self._deadline()
        else:
            expected = (LONGEST_VALIDATION * self._total if self._validation is None else self._validation_time())
            may = self.used + expected < self._end()
        may_all, = self._processes.from_main(float(may))
        if at_the_end and not may_all:
            log.info("no time is left for a validation")
        return bool(may_all)

    @contextmanager
    def validating(self) -> Iterator[Callable[[], bool]]:
        """Measure the validation made in the block, whose time counts for no step.

        Yields a function that says whether the validation must give up. It is to be called before each image, and
        expects an image to take at most as long as the slowest so far.
        """
        begin = last = self.used
        deadline, longest = min(begin + LONGEST_VALIDATION * self._total, self._deadline()), 0.0

        def must_give_up() -> bool:
            nonlocal last, longest
            last, before = self.used, last
            longest = max(longest, last - before)
            return last + longest > deadline

        yield must_give_up
        self._last = self.used
        self._validation = max(self._validation or 0.0, self._last - begin)

    def validation_gave_up(self) -> None:
        """Note that a validation gave up: there will be no other."""
        self._validates = False
        log.warning("a validation takes more than %.0f %% of the time, or than is left: given up, no other will "
                    "follow; fewer images for --val help", 100 * LONGEST_VALIDATION)

    def _validation_time(self) -> float:
        if self._validation is None:
            return FINAL_VALIDATION * self._total
        return VALIDATION_MARGIN * self._validation

    def _deadline(self) -> float:
        """Seconds used when the last save has to begin."""
        return self._total - min(EXIT, EXIT_SHARE * self._total) - SAVE_MARGIN * self._save

    def _end(self) -> float:
        """Seconds used when the last step has to be done; then come a save, a validation and a save of its result."""
        if not self._validates:
            return self._deadline()
        return self._deadline() - self._validation_time() - SAVE_MARGIN * self._save
