"""Quality of every entry on every case, and the time that a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dan_fast.evaluation.degraded_set import Degraded, DegradedSet, isotropic
from dan_fast.evaluation.measure import upscale_cases
from dan_fast.files import SAMPLES
from dan_fast.image_files import find_images

from .entries import COMPARED, SCALE, Entry

THREADS = 2
ROUNDS = 7
SIDE = 128  # of the low-resolution image that is timed


@dataclass(frozen=True)
class Measured:
    """One entry, by its label, on one image under one kernel; PSNR in dB, both on Y without a border of 4 pixels."""

    protocol: str
    set: str
    image: str
    kernel: int
    sigma: float | None
    entry: str
    psnr_y: float
    ssim_y: float


def measure(folders: Sequence[Path], entries: Sequence[Entry], limit: int | None, on_skip: Callable[[str], None],
            known: Iterable[Measured] = (), save: Callable[[Sequence[Measured]], None] = lambda rows: None
            ) -> list[Measured]:
    """Measure all ``entries`` on the first ``limit`` images of each folder, under the protocols of ``COMPARED``.

    Args:
        known: results that are taken as they are; ``entry`` is the entry's label.
        save: called with all results so far, those that are known included, after each set and if something fails or
            the user stops.
    """
    left = {_key(row): row for row in known}  # until they are reached
    sets = [(name, DegradedSet.from_folder(folder, SCALE, protocol, limit))
            for name, protocol in COMPARED.items() for folder in folders]
    chosen = {name: [entry for entry in entries if name in entry.protocols] for name in COMPARED}
    total = sum(len(degraded) * len(chosen[name]) for name, degraded in sets)
    rows: list[Measured] = []
    try:
        with tqdm(total=total, unit="result", smoothing=0) as bar:
            for name, degraded in sets:
                bar.set_description(f"{degraded.name}, {name}")
                for case in degraded.cases(on_skip):
                    for entry in chosen[name]:
                        key = name, degraded.name, case.image, case.kernel_index, entry.label
                        rows.append(left.pop(key, None) or _measured(name, degraded.name, case, entry))
                        bar.update()
                save([*rows, *left.values()])
    except BaseException:
        save([*rows, *left.values()])
        raise
    return rows


def _measured(protocol: str, name: str, case: Degraded, entry: Entry) -> Measured:
    [done] = upscale_cases([case], entry.upscale, SCALE)
    return Measured(protocol, name, case.image, case.kernel_index, case.sigma, entry.label, done.psnr_y, done.ssim_y)


def _key(row: Measured) -> tuple[str, str, str, int, str]:
    return row.protocol, row.set, row.image, row.kernel, row.entry


def time_entries(entries: Sequence[Entry], case: Degraded, rounds: int = ROUNDS) -> dict[str, float]:
    """Time whole calls, 8-bit image in and out, on ``THREADS`` threads.

    Entries take turns, so that a busy moment of the machine falls on all of them. The first round does not count.

    Returns:
        Milliseconds by name: the median over ``rounds``.
    """
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with tqdm(total=(1 + rounds) * len(entries), desc="times", unit="call") as bar:
            for _ in range(1 + rounds):
                for entry in entries:
                    start = time.perf_counter()
                    entry.upscale(case)
                    seconds[entry.name].append(time.perf_counter() - start)
                    bar.update()
    finally:
        torch.set_num_threads(before)
    return {name: 1000 * statistics.median(found[1:]) for name, found in seconds.items()}


def timed_case() -> Degraded:
    """A photo that ships, blurred and shrunk to 128x128."""
    case = next(iter(photos(isotropic(2.4))))
    lr = np.ascontiguousarray(case.lr[:SIDE, :SIDE])
    assert lr.shape == (SIDE, SIDE, 3)
    return Degraded(case.image, 0, 2.4, case.hr[:SCALE * SIDE, :SCALE * SIDE], lr, case.kernel)


def photos(protocol) -> Iterator[Degraded]:
    """The photos that ship, CC0, degraded."""
    images = tuple((path, path.name) for path in find_images([SAMPLES]))
    return iter(DegradedSet("photos", images, SCALE, protocol))


def mean(rows: Sequence[Measured]) -> tuple[float, float] | None:
    """Mean PSNR and SSIM of ``rows``; None without any."""
    if not rows:
        return None
    return float(np.mean([row.psnr_y for row in rows])), float(np.mean([row.ssim_y for row in rows]))
