"""The plots of docs/results.md."""

from __future__ import annotations

from pathlib import Path

from ..evaluation.plots import plot
from ..evaluation.summary import ALL_KERNELS
from ..fast_model import cost
from .tables import PUBLISHED, iterations, published_config, read_measured


def draw(folder: Path) -> None:
    """Write ``cost.png``, ``sigma.png`` and, if iterations were measured, ``iterations.png`` to ``folder``.

    Raises:
        DanFastError: matplotlib is not installed, or a CSV is not a summary.
    """
    _cost(folder)
    _sigma(folder)
    if any(iterations(folder).values()):
        _iterations(folder)


def _cost(folder: Path) -> None:
    """Plot PSNR against cost, on Set5 alone, for which all papers have figures."""
    with plot(folder / "cost.png") as axes:
        for color, (scale, published) in enumerate(PUBLISHED.items()):
            measured = [m for m in read_measured(folder) if m.config.scale == scale]
            if not measured:
                continue
            for network in measured:
                if mean := network.mean("Set5"):
                    _point(axes, cost.published(network.config), mean.figures["psnr_y"], network.name, f"C{color}", "o")
                    axes.axhline(mean.figures["bicubic_psnr_y"], color=f"C{color}", ls=":", lw=1)
            for name, figures in published.items():
                if config := published_config(name, scale):
                    _point(axes, cost.published(config), figures["Set5"], f"{name} x{scale}, as published",
                           f"C{color}", "s")
        axes.set(xscale="log", xlabel="multiply-adds per pixel of the low-resolution image", ylabel="PSNR on Y, dB",
                 title="Set5, Gaussian8; dotted: bicubic")
        axes.margins(x=0.25, y=0.1)


def _point(axes, x: float, y: float, text: str, color: str, marker: str) -> None:
    axes.plot(x, y, marker, color=color)
    # The points of v1 and v2 nearly coincide, and so do those of networks for round and for irregular blur.
    above = not (text.startswith("DAN v1") or "irregular" in text)
    axes.annotate(text, (x, y), xytext=(0, 7 if above else -16), textcoords="offset points", ha="center",
                  fontsize="small")


def _sigma(folder: Path) -> None:
    networks = read_measured(folder)
    sets = dict(zip((mean.set for mean in networks[0].means), ("solid", "dashed", "dashdot"), strict=False))
    with plot(folder / "sigma.png") as axes:
        for color, network in enumerate(networks):
            for name, style in sets.items():
                by_kernel = [summary for summary in network.summaries
                             if summary.set == name and summary.sigma != ALL_KERNELS]
                sigmas = [float(summary.sigma) for summary in by_kernel]
                axes.plot(sigmas, [summary.figures["psnr_y"] for summary in by_kernel], ls=style, color=f"C{color}",
                          label=network.name if style == "solid" else None)
                axes.plot(sigmas, [summary.figures["bicubic_psnr_y"] for summary in by_kernel], ls=style,
                          color="silver", zorder=1)
        axes.set(xlabel="true sigma of Gaussian8, pixels of the sharp image", ylabel="PSNR on Y, dB",
                 title=f"{', '.join(map(' '.join, sets.items()))}; grey: bicubic")
        axes.figure.legend(loc="outside right upper", fontsize="small")


def _iterations(folder: Path) -> None:
    counts = iterations(folder)
    with plot(folder / "iterations.png", height=3.2) as axes:
        for network in next(iter(counts.values())):
            found = {count: mean.figures["psnr_y"] for count, of_count in counts.items()
                     for measured in of_count if measured.name == network.name and (mean := measured.mean("Set5"))}
            best = max(found.values())
            axes.plot(list(found), [psnr - best for psnr in found.values()], "o-",
                      label=f"{network.name}, best {best:.2f}")
        axes.set(xlabel="iterations at test time", ylabel="PSNR on Y below the best, dB", title="Set5, Gaussian8")
        axes.legend(fontsize="small")
