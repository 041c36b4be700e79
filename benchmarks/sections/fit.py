"""The self-test of every part of the GPU code. Later sections leave out the parts that fail it."""

from __future__ import annotations

from collections.abc import Iterator

from figures import DEVICE, DRY, note

from dan_fast import self_test

SECONDS = 15  # limit for one part: one that hangs must leave time for the others


def measure() -> None:
    for part, reason in _without_a_gpu() if DRY else self_test.self_test(seconds=SECONDS):
        note(part=part, fit=not reason, **({"reason": reason} if reason else {}))


def _without_a_gpu() -> Iterator[self_test.Verdict]:
    for part in ("training_graphs", "training_plan"):
        yield self_test.Verdict(part, self_test.check(part, DEVICE))
