"""The self-test: which parts of the GPU code are fit. Later sections leave out what is not."""

from __future__ import annotations

from figures import DRY, note

from dan_fast.self_test import self_test


def run() -> None:
    if DRY:
        return
    for verdict in self_test():
        note(part=verdict.part, fit=not verdict.reason, **({"reason": verdict.reason} if verdict.reason else {}))
