"""Distribute broken files to child processes, which may crash or hang, and collect what went wrong."""

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .child import case

TESTS = str(Path(__file__).parents[1])
HANGS = 120  # seconds without output after which a child hangs


@dataclass
class Failure:
    """A broken file that was neither read nor refused properly."""

    kind: str
    number: int
    why: str
    content: bytes
    name: str

    def save(self, folder: Path) -> Path:
        """Write the file into ``folder`` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.kind}-{self.number}-{self.name}"
        path.write_bytes(self.content)
        return path


def fuzz(kind: str, seed: int, count: int, *, first: int = 0, workers: int = 1) -> Iterator[Failure | None]:
    """Read ``count`` broken files of ``kind``, one of ``KINDS``; yield a failure, or None, as each is done."""
    results: queue.Queue[tuple[int, str | None]] = queue.Queue()
    for worker in range(workers):
        threading.Thread(target=_watch, args=(kind, seed, range(first + worker, first + count, workers), results),
                         daemon=True).start()
    files = importlib.import_module(f"{__package__}.{kind}").sound_files()
    for _ in range(count):
        number, why = results.get()
        yield Failure(kind, number, why, *reversed(case(kind, seed, number, files))) if why else None


def _watch(kind: str, seed: int, numbers: range, results: queue.Queue) -> None:
    """Start one child after another, each at the file after the one at which the last child died."""
    while numbers:
        command = [sys.executable, "-m", f"{__package__}.child", kind, str(seed),
                   *map(str, (numbers.start, numbers.stop, numbers.step))]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))})
        current, wrong = None, None
        timer = _timer(child)
        for line in child.stdout:
            timer.cancel()
            timer = _timer(child)
            event = json.loads(line)
            if "wrong" in event:
                wrong = event["why"]
                continue
            if current is not None:
                results.put((current, wrong))
                numbers = numbers[1:]
            current, wrong = event.get("begins"), None
        timer.cancel()
        code, said = child.wait(), child.stderr.read()
        if not numbers:
            return
        if current is None:  # before the first file: no child would get further
            for number in numbers:
                results.put((number, f"the child could not start: {said[-500:]}"))
            return
        results.put((current, f"the process ended with {code}, a crash or more than {HANGS} s: {said[-500:]}"))
        numbers = numbers[1:]


def _timer(child: subprocess.Popen) -> threading.Timer:
    timer = threading.Timer(HANGS, child.kill)
    timer.daemon = True
    timer.start()
    return timer
