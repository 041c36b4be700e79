"""Which settings of a saved run may change when it is resumed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace

from ..errors import DanFastError
from .presets import Preset
from .run import Run


def change_settings(run: Run, wanted: Preset, seed: int, named: Collection[str]) -> None:
    """Let the resumed ``run`` go on with the settings ``wanted``.

    Its length may change, ``steps`` and ``minutes``; by the clock the schedule too. Everything else, the seed included,
    must be as it was, so that the run stays one that can be repeated.

    Args:
        named: the fields of ``TrainingSettings`` that the user named, rather than the preset behind ``wanted``. Fields
            that may change and are not named stay as saved, and so does a warm-up by the clock: ``wanted`` may have
            another one only because its preset has none.

    Raises:
        DanFastError: another setting differs.
    """
    saved = run.preset
    by_clock = (wanted if "minutes" in named else saved).training.minutes > 0
    may_change = {"steps", "minutes", *(["schedule"] if by_clock else [])}
    stay = {*may_change, *(["warmup"] if by_clock else [])} - {*named}
    as_saved = {name: getattr(saved.training, name) for name in stay}
    wanted = replace(wanted, training=replace(wanted.training, **as_saved))
    for before, after in (({"seed": run.seed}, {"seed": seed}), (asdict(saved.config), asdict(wanted.config)),
                          (asdict(saved.degradation), asdict(wanted.degradation)),
                          (asdict(saved.training), asdict(wanted.training))):
        for name in before:
            if name not in may_change and before[name] != after[name]:
                raise DanFastError(f"{name}={after[name]}: the run in {run.options.out} has {before[name]}; "
                                   "leave it out, or start anew in another --out")
    run.preset = wanted
