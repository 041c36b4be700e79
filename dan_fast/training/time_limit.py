"""The minutes that a command has for its part of a run: where in them it is, and when it has to end."""

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

# Kept for the end of the process itself: seconds, or a share of the time if that is less.
EXIT, EXIT_SHARE = 2.0, 0.1
# By how much a save may take longer than the longest before.
SAVE_MARGIN = 1.5
# The same of validations; the first one may take this share of the time, and so much is kept for one at the end.
VALIDATION_MARGIN, LONGEST_VALIDATION, FINAL_VALIDATION = 1.25, 0.1, 0.05
log = logging.getLogger("dan_fast.train")


class TimeLimit:
    """Tells which share of a part's time is used up: the schedule goes by it, and the part ends with it.

    A part is what one command trains, from the first step that it takes to the last. The share is 0 before the first
    and 1 after the last; what comes before (start-up, data) and after (a save, a validation) is not in it. How long
    that will be is told by the saves, validations and steps before, so that the command ends within its minutes.

    With several processes the main one's clock holds for all: ``tick`` and ``may_…`` must be called by all.

    Args:
        minutes: from ``started`` to the end of the command.
        started: when the command began, as ``now`` tells time; None: now.
        now: seconds.
    """

    def __init__(self, minutes: float, started: float | None = None, *,
                 now: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self._now = minutes, now
        self._started = now() if started is None else started
        self._total = 60 * minutes
        self._save = 0.0  # seconds, the longest
        self._validation: float | None = None  # the same; None: none yet
        self._validates = False
        self._steps: deque[float] = deque(maxlen=16)  # seconds, the last ones
        self._first = self._last = 0.0  # when training began and when the last step ended, in seconds used
        self.share = 0.0

    @property
    def used(self) -> float:
        """Seconds since the command began."""
        return self._now() - self._started

    @property
    def left(self) -> float:
        """Seconds, below 0 if the time is over."""
        return self._total - self.used

    def begin(self, settings: TrainingSettings, device: torch.device, processes: Processes, *, anew: bool,
              validates: bool) -> None:
        """Training begins now.

        Args:
            anew: the run's beginning, or a part that takes it up again: with ``warmup`` and ``short_until``.
            validates: there will be validations.

        Raises:
            DanFastError: no time is left for it.
        """
        self._anew = anew
        self.settings = settings if anew else settings.without_beginning()
        self._processes, self._validates = processes, validates
        # Steps that a GPU is behind, and first steps that are slow as its graph is not there yet.
        self._behind, self._not_counted = (LAG + 2, WARM_UP + 2) if device.type == "cuda" else (1, 0)
        self._first = self._last = self.used
        over, = processes.from_main(float(self._first >= self._end()))
        if over:
            raise DanFastError(f"minutes={self.minutes:g}: {self._first:.1f} s were over when training could begin, "
                               f"and {self._total - self._end():.1f} s are kept for its end: expected more minutes")

    @property
    def position(self) -> float:
        """What the schedule takes for the number of the step."""
        return self.share * self.settings.steps

    @property
    def begins(self) -> bool:
        """Whether the run would have to begin anew if it ended here."""
        return self._anew and self.settings.begins_at(self.position)

    def tick(self) -> bool:
        """A step has ended; returns whether it was the last."""
        used = self.used
        if self._not_counted:
            self._not_counted -= 1
        else:
            self._steps.append(used - self._last)
        self._last = used
        ahead = self._behind * statistics.median(self._steps) if self._steps else 0.0
        length = self._end() - ahead - self._first
        # Never back, though the end comes nearer or goes away as more is known of it.
        share = 1.0 if length <= 0 else min(max(self.share, (used - self._first) / length), 1.0)
        self.share, = self._processes.from_main(share)
        return self.share >= 1

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A save is made inside: no step's time, and so long it may take again."""
        begin = self.used
        yield
        self._last = self.used
        self._save = max(self._save, self._last - begin)

    def may_save(self) -> bool:
        """Whether there is time for a save before the last one."""
        may, = self._processes.from_main(float(self.used + SAVE_MARGIN * self._save < self._end()))
        return bool(may)

    def may_validate(self, at_the_end: bool) -> bool:
        """Whether there is time for a validation now, before the last step or after it was saved."""
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
        """A validation is made inside, no step's time; gives a function that tells whether it has to give up.

        That is asked before every piece of it, and none may take longer than the longest before.
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
        """The validation did give up: there will be no other."""
        self._validates = False
        log.warning("a validation takes more than %.0f %% of the time, or than is left: given up, no other will "
                    "follow; fewer images for --val help", 100 * LONGEST_VALIDATION)

    def _validation_time(self) -> float:
        if self._validation is None:
            return FINAL_VALIDATION * self._total
        return VALIDATION_MARGIN * self._validation

    def _deadline(self) -> float:
        """When the last save has to begin."""
        return self._total - min(EXIT, EXIT_SHARE * self._total) - SAVE_MARGIN * self._save

    def _end(self) -> float:
        """When the last step has to be done: then it is saved, validated and, with the best weights noted, saved."""
        if not self._validates:
            return self._deadline()
        return self._deadline() - self._validation_time() - SAVE_MARGIN * self._save
