"""The page of results in Markdown, from the summary.csv files of ``dan-fast evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from ..checkpoint import load
from ..config import DANConfig
from ..errors import DanFastError
from ..evaluation.summary import ALL_KERNELS, Summary, read_summary
from ..evaluation.timings import Timing, read_timings
from ..fast_model import cost
from ..model import DAN

# PSNR on Y of Gaussian8, as the papers print it.
PUBLISHED: dict[int, dict[str, dict[str, float]]] = {
    2: {"DAN v2": {"Set5": 37.60, "Set14": 33.44, "B100": 32.00}},
    3: {"DAN v2": {"Set5": 34.19, "Set14": 30.20, "B100": 29.03}},
    4: {"IKC": {"Set5": 31.67, "Set14": 28.31, "B100": 27.37}, "DAN v1": {"Set5": 31.89, "Set14": 28.42, "B100": 27.51},
        "DAN v2": {"Set5": 32.00, "Set14": 28.50, "B100": 27.56}, "best later system": {"Set5": 32.12}},
}
TIMED = (128, 128)  # width and height of the images whose times are shown


@dataclass(frozen=True)
class Measured:
    """The summaries of one network under one protocol: of each set, by kernel and over all kernels."""

    name: str
    config: DANConfig
    parameters: int
    summaries: list[Summary]

    @property
    def means(self) -> list[Summary]:
        """The summaries over all kernels, one per set."""
        return [summary for summary in self.summaries if summary.sigma == ALL_KERNELS]

    def mean(self, name: str) -> Summary | None:
        """The summary of the set ``name`` over all kernels; None where it was not measured."""
        return next((summary for summary in self.means if summary.set == name), None)


def read_measured(folder: Path) -> list[Measured]:
    """The figures in every ``NAME.csv`` of ``folder`` about the shipped weights NAME; the largest scale first.

    A folder that does not exist holds none.

    Raises:
        DanFastError: a file is not a summary, or has no kernel errors, or no weights ship under its name.
    """
    found = []
    for path in sorted(folder.glob("*.csv")):
        summaries = read_summary(path)
        if any("kernel_error" not in summary.figures for summary in summaries):
            raise DanFastError(f"{path}: has no kernel errors, which the page shows: expected figures of kernels that "
                               "are known")
        model = load(path.stem)
        found.append(Measured(path.stem, model.config, parameters(model), summaries))
    return sorted(found, key=lambda measured: (-measured.config.scale, measured.name))


def parameters(model: DAN) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def published_config(name: str, scale: int) -> DANConfig | None:
    """The config of a network of ``PUBLISHED``; None if it is not a DAN."""
    return DANConfig(version=name[-2:], scale=scale) if name.startswith("DAN") else None


def results(folder: Path) -> str:
    """The whole page, from a ``folder`` as ``dan-fast report --help`` describes it.

    Raises:
        DanFastError: the folder holds no summary, or a file in it is of another kind.
    """
    gaussian = read_measured(folder)
    if not gaussian:
        raise DanFastError(f"{folder}: holds no NAME.csv, the summary.csv of dan-fast evaluate NAME")
    times = read_times(folder)
    parts = [HEAD.format(folder=folder.name, machine=_machine(times))]
    for scale in sorted({measured.config.scale for measured in gaussian}, reverse=True):
        parts.append(_gaussian8(scale, [measured for measured in gaussian if measured.config.scale == scale], times))
    parts.append(PLOTS.format(folder=folder.name))
    for name, text in (("irregular", IRREGULAR), ("unseen", UNSEEN)):
        if measured := read_measured(folder / name):
            parts.append(text + "\n\n" + "\n\n".join(_other(m) for m in measured))
    if any((counts := iterations(folder)).values()):
        parts.append(ITERATIONS.format(folder=folder.name) + "\n\n" + _iterations(counts))
    if (peers := folder / "peers.md").is_file():
        parts.append(PEERS.format(folder=folder.name) + "\n\n" + first_table(peers.read_text(encoding="utf-8")))
    return "\n\n".join(parts) + "\n"


def iterations(folder: Path) -> dict[int, list[Measured]]:
    """The figures with other numbers of iterations: the sub-folders of ``iterations``, by number."""
    numbers = sorted(int(path.name) for path in (folder / "iterations").glob("*") if path.name.isdigit())
    return {number: read_measured(folder / "iterations" / str(number)) for number in numbers}


def first_table(page: str) -> str:
    """The first table of a page in Markdown; empty where it has none."""
    lines = dropwhile(lambda line: not line.startswith("|"), page.splitlines())
    return "\n".join(takewhile(lambda line: line.startswith("|"), lines))


def read_times(folder: Path) -> dict[str, Timing]:
    """By name of weights, the timing of images of ``TIMED`` in ``speed/NAME.csv``, from ``dan-fast bench --csv``."""
    return {path.stem: timing for path in sorted((folder / "speed").glob("*.csv"))
            for timing in read_timings(path) if (timing.width, timing.height) == TIMED}


def _machine(times: dict[str, Timing]) -> str:
    """The sentence that says where the times were measured; empty without times."""
    machines = "; ".join(dict.fromkeys(f"{timing.machine}, {timing.dtype}" for timing in times.values()))
    size = "x".join(map(str, TIMED))
    return machines and f"\n\nThe times are medians of whole calls with a low-resolution image of {size}: {machines}."


def _gaussian8(scale: int, measured: list[Measured], times: dict[str, Timing]) -> str:
    sets = [mean.set for mean in measured[0].means]
    lines = [f"## Gaussian8, x{scale}", "",
             "| | parameters | multiply-adds | ms | " + " | ".join(f"{name}, Y" for name in sets) + " | "
             + " | ".join(f"{name}, RGB" for name in sets) + " | kernel error | |",
             "|---" * (6 + 2 * len(sets)) + "|"]
    lines.append(_row("bicubic", "", "", "", _pairs(measured[0].means, "bicubic_"), "", "measured here"))
    for network in measured:
        lines.append(_row(f"**`{network.name}`**", f"{network.parameters / 1e6:.2f} M", _cost(network.config),
                          f"{times[network.name].median_ms:.0f}" if network.name in times else "",
                          _pairs(network.means, ""),
                          ", ".join(f"{mean.figures['kernel_error']:.3f}" for mean in network.means), "measured here"))
    for name, figures in PUBLISHED[scale].items():
        config = published_config(name, scale)
        size = f"{parameters(DAN(config)) / 1e6:.2f} M" if config else ""
        lines.append(_row(name, size, _cost(config) if config else "", "",
                          [f"{figures[s]:.2f}" if s in figures else "" for s in sets] + [""] * len(sets), "",
                          "as published"))
    return "\n".join(lines)


def _other(measured: Measured) -> str:
    lines = [f"**`{measured.name}`**", "",
             "| set | cases | bicubic, Y | DAN, Y | bicubic, RGB | DAN, RGB | kernel error | kernel PSNR |",
             "|---" * 8 + "|"]
    for mean in measured.means:
        cells = [mean.set, str(mean.cases), *(_pair(mean, prefix, channels) for channels in ("y", "rgb")
                                              for prefix in ("bicubic_", "")),
                 f"{mean.figures['kernel_error']:.3f}", f"{mean.figures['kernel_psnr']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _iterations(counts: dict[int, list[Measured]]) -> str:
    names = list(dict.fromkeys(measured.name for of_count in counts.values() for measured in of_count))
    lines = ["| Set5, PSNR Y (kernel error) | " + " | ".join(map(str, counts)) + " |",
             "|---" * (1 + len(counts)) + "|"]
    for name in names:
        cells = []
        for of_count in counts.values():
            found = next((m.mean("Set5") for m in of_count if m.name == name), None)
            cells.append(f"{found.figures['psnr_y']:.2f} ({found.figures['kernel_error']:.3f})" if found else "")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cost(config: DANConfig) -> str:
    return f"{cost.published(config) / 1e6:.2f} M"


def _pairs(means: list[Summary], prefix: str) -> list[str]:
    """PSNR and SSIM of every set, first on Y, then on RGB."""
    return [_pair(mean, prefix, channels) for channels in ("y", "rgb") for mean in means]


def _pair(summary: Summary, prefix: str, channels: str) -> str:
    return f"{summary.figures[f'{prefix}psnr_{channels}']:.2f} / {summary.figures[f'{prefix}ssim_{channels}']:.4f}"


def _row(name: str, size: str, multiplications: str, time: str, figures: list[str], error: str, source: str) -> str:
    return "| " + " | ".join([name, size, multiplications, time, *figures, error, source]) + " |"


HEAD = """# Results

<!-- written by `make results` from the CSVs in {folder}/; do not edit -->

PSNR in dB / SSIM of 8-bit images, without a border of `scale` pixels; Y is BT.601 luma. Multiply-adds are those of four
iterations as the papers write them, and of the Refiner, per pixel of the low-resolution image. The kernel error is the
sum of absolute differences to the true kernel, 0 to 2, one number per set. Bicubic is MATLAB's. Rows marked "as
published" are the papers' figures on their copies of the test images; they were not measured here. The figures by
kernel are in [{folder}]({folder}). `dan_fast/weights/NAME.md` says how each network was trained and chosen,
`v2-0.3M-x4` after its figure on Set5 was seen. `make measure DATA=… KERNELS=…` measures everything again.{machine}"""

PLOTS = """![PSNR against cost]({folder}/cost.png)

![PSNR against the true sigma]({folder}/sigma.png)

Estimated kernels (above) and true ones (below) of the photos that ship:

![kernels]({folder}/kernels.png)"""

IRREGULAR = """## Irregular kernels

One random kernel per image, anisotropic and disturbed, as in DIV2KRK (31x31 at x4, 11x11 at x2). Weights that were
trained on isotropic blur estimate a round kernel. DIV2KRK itself was not measured here; its published figures, PSNR on
Y, are 32.58 at x2 and 28.74 at x4 for DAN v2, and 32.98 and 28.99 for the best later systems."""

UNSEEN = """## Kernels that no training has seen

The 12 kernels of KAIR's `kernels_12.mat` (4 isotropic Gaussians, 4 anisotropic ones, 4 of motion) and the 8 camera
shakes of Levin 2009, each on every image. The centres of mass of the 12 kernels of motion and shake lie up to 4.4
pixels off their middles. They shift the image, which DAN cannot know, and PSNR punishes the shift."""

ITERATIONS = """## Iterations

The networks were trained with 4 iterations and tested with 1 to 8.

![PSNR per iteration]({folder}/iterations.png)"""

PEERS = """## Other networks

Networks of others at x4, PSNR on Y; how many images of a set were measured is in brackets. Several were trained for
something else, and SRMDNF is told the blur: [the page of the comparison]({folder}/peers.md) says so, has SSIM, figures
by sigma, pictures, and how the times were taken. `python -m benchmarks.peers --data DIR` measures it again."""
