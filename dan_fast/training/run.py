"""A training run: the state that a checkpoint holds, and the steps that change it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import checkpoint
from ..config import DANConfig
from ..errors import DanFastError
from ..model import DAN
from .checkpoints import Checkpoints, code_revision
from .clock import StepClock, StepTimes
from .config_file import preset_from_dict, preset_to_dict, write_config
from .delayed_reports import LAG, DelayedReports
from .parts import MIB, write_parts
from .precision import Precision, faster_precision
from .presets import Preset
from .processes import Processes
from .step import LossFunction, Report, TrainingStep
from .time_limit import TimeLimit

CONFIG = "config.json"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
MAX_ROLLBACKS = 5  # in a row
# Steps after a roll back for which the learning rate is lower.
RECOVERY = 2000
Build = Callable[[DANConfig, Tensor], DAN]
log = logging.getLogger("dan_fast.train")


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run is computed. None of these options changes the result, except by rounding.

    Args:
        out: the run's folder: ``checkpoints/`` (to resume from), ``config.json`` (all settings),
            ``weights.safetensors`` (the averaged weights, to use), ``best.safetensors`` (those of the best
            validation), ``metrics.csv``, ``validation.csv`` and TensorBoard's event files.
        device: where to train.
        bf16: run the network in bfloat16 (autocast); weights, losses and optimiser stay in float32. ``None``: if that
            is faster; a resumed run keeps its type.
        workers: processes that read images; 0: the training process itself.
        log_every, save_every, validate_every: steps between scalars, checkpoints, validations.
        profile: write a trace of a few steps, ``trace.json``.
        parts: a folder to which each checkpoint is also written in parts (``training/parts.py``).
        part_bytes: the largest size of a part.
    """

    out: Path
    device: torch.device
    bf16: bool | None = False
    workers: int = 0
    log_every: int = 50
    save_every: int = 1000
    validate_every: int = 2000
    profile: bool = False
    parts: Path | None = None
    part_bytes: int = int(MIB * 2**20)


class Run:
    """The state of a training run, and the steps that change it.

    Two runs with the same preset and seed take the same steps, whenever they are killed and resumed: patches,
    degradations and the moment at which the report of a step is read depend on the seed and the step alone.

    Args:
        build: makes the network from a config and an encoder's matrix; an experiment may make another one than DAN.
        loss: the loss function, as in ``TrainingStep``.

    Attributes:
        model: the network that is trained.
        average: the moving average of its weights, which is validated and saved for use.
        step: steps taken.
        rollbacks: in a row, without ``RECOVERY`` steps between them.
        low_until: the step from which on the learning rate is as scheduled again.
        best: PSNR and step of the best validation.
        limit: the minutes of a run by the clock.
        begins: whether it is still in its beginning: warm-up and short iterations.
        minutes_before: by the clock, those of the parts before this one.
    """

    def __init__(self, preset: Preset, seed: int, options: RunOptions, processes: Processes | None = None, *,
                 build: Build = DAN, loss: LossFunction | None = None) -> None:
        self.preset, self.seed, self.options = preset, seed, options
        self.processes = processes or Processes()
        if preset.training.batch % self.processes.count:
            raise DanFastError(f"batch={preset.training.batch} cannot be shared by {self.processes.count} processes: "
                               "expected a multiple")
        torch.manual_seed(seed)
        encoder = preset.degradation.encoder(preset.config.code_length).matrix
        self.model = build(preset.config, encoder).to(options.device)
        choose_what_learns(self.model, preset.training.learns)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.precision = (faster_precision(preset.config, options.device) if options.bf16 is None
                          else Precision(options.bf16, "as asked for"))
        self.training_step = TrainingStep(self.model, self.average, preset.degradation, preset.training,
                                 bf16=self.precision.bf16, processes=self.processes, loss=loss)
        self.checkpoints = Checkpoints(options.out / "checkpoints")
        self.delayed_reports = DelayedReports(LAG)
        self.clock = StepClock(options.device)
        self.step = 0
        self.rollbacks = 0
        self.low_until = 0
        self.best = (float("-inf"), 0)
        self.limit: TimeLimit | None = None
        self.begins = True
        self.minutes_before = 0.0

    @property
    def minutes(self) -> float:
        """Minutes of a run by the clock until now, in all its parts."""
        return self.minutes_before + (self.limit.used / 60 if self.limit else 0)

    @torch.no_grad()
    def start_from(self, source: DAN, only: Collection[str] | None = None) -> list[str]:
        """Copy every tensor of ``source`` that has the same name and shape here; call it before the first step.

        The encoder is copied too, as the weights depend on it.

        Args:
            only: the names of the tensors to copy; None: all that fit.

        Returns:
            The names of the tensors that stay as initialised.

        Raises:
            DanFastError: no tensor fits.
        """
        others: dict[str, Tensor] = {name: tensor for name, tensor in source.state_dict().items()
                                     if only is None or name in only}
        anew: list[str] = []
        for model in (self.model, self.average):
            own = model.state_dict()
            anew = [name for name, tensor in own.items() if name not in others or others[name].shape != tensor.shape]
            if len(anew) == len(own):
                raise DanFastError("no tensor of the weights to start from has the shape that this network needs")
            for name in own.keys() - anew:
                own[name].copy_(others[name])
        return anew

    def train_on(self, hr: Tensor, stop: bool = False) -> None:
        """Take one optimiser step.

        Args:
            hr: (B, 3, H, W) uint8. Its degradation depends on the seed and the step.
            stop: this process was asked to stop, which the step's report passes on to all processes.
        """
        settings, step, position = self.preset.training, self.step, float(self.step)
        if self.limit:
            settings, position = self.limit.settings, self.limit.position
        if step == self.low_until:
            if self.rollbacks:
                log.info("step %d: learning rate as scheduled again", step)
            self.rollbacks = 0
        report = self.training_step(
            hr, seed=self.seed * 1_000_003 + step,
            # Each roll back halves it for a while: unchanged, the run would diverge again.
            learning_rate=settings.learning_rate_at(position) * 0.5**self.rollbacks,
            # Faster in the first steps, when the weights change most.
            average_weight=1 - min(settings.ema, (1 + step) / (10 + step)),
            iterations=settings.iterations_at(position, self.preset.config.iterations), stop=stop)
        self.step += 1
        self.begins = self.limit.begins if self.limit else settings.begins_at(self.step)
        self.delayed_reports.push(self.step, report, self.clock.step_ended())

    def reports(self, *, all_of_them: bool = False) -> Iterator[tuple[int, Report, StepTimes | None]]:
        """Yield number (from 1), report and times of each step that is known by now; roll back if the run has diverged.

        The times are None for steps saved by a version of dan_fast that did not save them.

        Args:
            all_of_them: wait for the reports of all steps.
        """
        for step, values, times in self.delayed_reports.read(0 if all_of_them else None):
            report = Report(*values)
            if report.diverged:
                self._roll_back(step, report)
            elif report.skipped:
                log.warning("step %d: loss %.4g, gradient norm %.4g: skipped", step,
                            report.sr + self.preset.training.kernel_weight * report.kernel, report.gradient_norm)
            yield step, report, times

    def _roll_back(self, step: int, report: Report) -> None:
        why = f"training diverged in step {step} (loss {report.sr:.4g} and {report.kernel:.4g})"
        if self.rollbacks >= MAX_ROLLBACKS:
            raise DanFastError(f"{why}, for the {MAX_ROLLBACKS + 1}th time in a row; "
                               "a lower learning rate or a larger batch may help")
        # The newest checkpoint may hold weights that were already diverging.
        state = self.checkpoints.read(skip=self.rollbacks)
        self.training_step.load_state_dict(state["step_state"], guard=False)
        self.training_step.guard.reset()
        self.delayed_reports.clear()
        self.rollbacks += 1
        self.low_until = self.step + RECOVERY
        log.warning("%s: back to the weights of step %d, learning rate halved until step %d", why, state["step"],
                    self.low_until)

    def save(self) -> None:
        """Write a checkpoint and the averaged weights, each whole or not at all. The main process writes, all wait.

        Raises:
            OSError: a file cannot be written; the earlier checkpoints stay.
        """
        if self.processes.main:
            written = self.checkpoints.write(self.step, {
                "preset": preset_to_dict(self.preset), "seed": self.seed, "step": self.step, "code": code_revision(),
                "rollbacks": self.rollbacks, "low_until": self.low_until, "best": self.best,
                "bf16": self.training_step.bf16, "begins": self.begins, "minutes": self.minutes,
                "step_state": self.training_step.state_dict(), "reports": self.delayed_reports.state_dict(),
                "times": self.delayed_reports.times(), "generator": torch.get_rng_state()})
            self.write_weights()
            if self.options.parts:
                write_parts(written, self.options.parts, self.options.part_bytes)
        self.processes.wait_for_all()

    def write_weights(self) -> None:
        """Write the averaged weights and the settings.

        Raises:
            OSError: a file cannot be written.
        """
        checkpoint.save(self.average, self.options.out / WEIGHTS)
        write_config(self.options.out / CONFIG, self.preset, self.seed)

    def save_if_best(self, psnr: float) -> None:
        """Save the averaged weights as the best ones if ``psnr`` is the highest so far."""
        if psnr > self.best[0]:
            self.best = psnr, self.step
            if self.processes.main:
                checkpoint.save(self.average, self.options.out / BEST)

    @classmethod
    def resume(cls, options: RunOptions, processes: Processes | None = None, *, build: Build = DAN,
               loss: LossFunction | None = None) -> Run:
        """Return the run that was saved in ``options.out``. It goes on with the losses of an uninterrupted one.

        ``build`` and ``loss`` must be the same as before, as no checkpoint holds them.

        Raises:
            DanFastError: there is no checkpoint, or none can be read.
        """
        state = Checkpoints(options.out / "checkpoints").read()
        run = cls(preset_from_dict(state["preset"], str(options.out)), state["seed"], options, processes,
                  build=build, loss=loss)
        if options.bf16 is None and "bf16" in state:  # earlier versions did not save it
            run.precision = Precision(state["bf16"], "as the run began")
            run.training_step.bf16 = run.precision.bf16
        run.training_step.load_state_dict(state["step_state"])
        run.delayed_reports.load_state_dict(state["reports"], state.get("times", {}))
        torch.set_rng_state(state["generator"])
        for name in ("step", "rollbacks", "low_until", "best"):
            setattr(run, name, state[name])
        # Earlier versions knew no minutes.
        run.begins = state.get("begins", run.preset.training.begins_at(run.step))
        run.minutes_before = state.get("minutes", 0.0)
        if (now := code_revision()) != state["code"]:
            log.warning("the run was saved by dan_fast %s, this is %s: the losses may differ", state["code"], now)
        return run


def choose_what_learns(model: DAN, learns: str) -> None:
    """Freeze all modules but the Refiner if ``learns`` says so.

    Raises:
        DanFastError: the network has no Refiner.
    """
    if learns == "all":
        return
    if model.Refiner is None:
        raise DanFastError("learns='refiner': the network has no Refiner: take a preset that has one, or set "
                           "config.refiner_channels, refiner_groups and refiner_blocks in a --config file")
    model.requires_grad_(False)
    model.Refiner.requires_grad_(True)
