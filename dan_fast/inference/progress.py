"""Reports of how far a call of the upscaler is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, int], object]
"""Called with the work that is done and all of it. It may raise an error, which ends the call."""


class Progress:
    """Counts the pixels that were computed, once for each pass of the network over them.

    Args:
        report: gets (done, total) after each tile of each iteration; ``None``: nobody asks.
        total: pixels times passes.
    """

    def __init__(self, report: Report | None = None, total: int = 1) -> None:
        self._report, self._total = report, total
        self._done = self._reported = 0

    def add(self, pixels: int) -> None:
        """Report that another pass over ``pixels`` is done."""
        self._done += pixels
        self._tell(min(self._done, self._total))

    @property
    def done(self) -> int:
        """Pixels times passes so far."""
        return self._done

    def back_to(self, done: int) -> None:
        """Count from ``done`` again, where work must be repeated. Nothing is reported until it is farther than ever."""
        self._done = done

    def finish(self) -> None:
        """Report that all is done, also where iterations were left out."""
        self._tell(self._total)

    def _tell(self, done: int) -> None:
        if self._report is not None and done > self._reported:
            self._reported = done
            self._report(done, self._total)
