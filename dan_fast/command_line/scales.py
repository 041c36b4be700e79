"""Upscalers of several scales, of which each photo gets the smallest that reaches the size that the user wants."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoint import BEST, weights_file
from ..inference import Upscaler, UpscalerStats
from ..inference.graphs import GraphStats
from .upscaler_options import make_upscaler


class Upscalers:
    """The upscalers of a command, made when they are first needed.

    With ``--weights`` there is one. Without, and with a wanted size, there are the best that ship at each scale.

    Args:
        args: of the command, with the options of ``upscaler_options``.
        any_scale: choose among the scales.
    """

    def __init__(self, args: argparse.Namespace, any_scale: bool) -> None:
        self._args = args
        self._names: dict[int, str] = BEST if any_scale and args.weights == "default" else {0: args.weights}
        self._made: dict[str, Upscaler] = {}
        # One is made at once: bad weights and options are errors of the command, not of its first photo.
        self._named(next(iter(self._names.values())))

    def files(self) -> list[Path]:
        """The weight files that may be used."""
        return [weights_file(name) for name in self._names.values()]

    def reaching(self, factor: float) -> Upscaler:
        """The upscaler of the smallest scale of at least ``factor``, or else of the largest."""
        scale = min((scale for scale in self._names if scale >= factor), default=max(self._names))
        return self._named(self._names[scale])

    def stats(self) -> UpscalerStats:
        """Counts and times of all upscalers together."""
        found = [upscaler.stats() for upscaler in self._made.values()]
        stages = dict.fromkeys(stage for stats in found for stage in stats.seconds)
        seconds = {stage: sum(stats.seconds.get(stage, 0.0) for stats in found) for stage in stages}
        return UpscalerStats(sum(stats.images for stats in found), seconds,
                             GraphStats(*map(sum, zip(*(stats.graphs for stats in found), strict=True))))

    @property
    def on_gpu(self) -> bool:
        return any(upscaler.device.type == "cuda" for upscaler in self._made.values())

    def _named(self, weights: str) -> Upscaler:
        if weights not in self._made:
            self._made[weights] = make_upscaler(argparse.Namespace(**{**vars(self._args), "weights": weights}))
        return self._made[weights]
