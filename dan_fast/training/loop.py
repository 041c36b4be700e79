"""A training run: it can be killed at any time, goes on where it was, and says how it goes."""

from __future__ import annotations

import copy
import logging
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .. import checkpoint
from ..config import DANConfig
from ..degradation.pipeline import Degradation
from ..errors import DanFastError
from ..files import atomic_path
from ..model import DAN
from .data import PatchDataset, patch_loader
from .guard import DivergenceGuard
from .presets import Preset
from .settings import TrainingSettings
from .step import Losses, losses, update_average

STATE = "state.pt"
WEIGHTS = "weights.safetensors"
MAX_ROLLBACKS = 5
log = logging.getLogger("dan_fast.train")

# Called with the averaged network, the step and the writer; returns PSNR on Y, dB.
Validation = Callable[[DAN, int, SummaryWriter], float]


@dataclass(frozen=True)
class RunOptions:
    """Where and how a run runs. None of it changes the result, but for rounding.

    Args:
        out: the run's folder: ``state.pt`` (to resume from), ``weights.safetensors`` (the averaged
            weights, to use), TensorBoard's event files.
        device: where to train.
        bf16: run the network in bfloat16 (autocast); weights, losses and optimiser stay float32.
        workers: processes that read images; 0: the training process itself.
        log_every, save_every, validate_every: steps between scalars, checkpoints, validations.
    """

    out: Path
    device: torch.device
    bf16: bool = False
    workers: int = 0
    log_every: int = 50
    save_every: int = 1000
    validate_every: int = 2000


class Run:
    """Everything that a checkpoint holds, and the step that changes it."""

    def __init__(self, preset: Preset, seed: int, options: RunOptions) -> None:
        self.preset, self.seed, self.options = preset, seed, options
        torch.manual_seed(seed)
        encoder = preset.degradation.encoder(preset.config.code_length).matrix
        model = DAN(preset.config, encoder).to(options.device)
        # The convolutions are fastest on channels_last, on CPUs as on GPUs.
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), betas=(0.9, 0.99), fused=True)
        self.guard = DivergenceGuard()
        self.step = 0
        self.rollbacks = 0

    def train_step(self, hr: Tensor) -> Losses:
        """One optimiser step on ``hr`` (B, 3, H, W) uint8; which degradation it gets follows from the step."""
        settings, options = self.preset.training, self.options
        hr = hr.to(options.device, non_blocking=True).float().div(255)
        generator = torch.Generator(options.device).manual_seed(self.seed * 1_000_003 + self.step)
        lr, kernel = self.preset.degradation(hr, generator)
        lr = lr.contiguous(memory_format=torch.channels_last)
        # Each rollback halves the learning rate: the same one would diverge again.
        rate = settings.learning_rate_at(self.step) * 0.5**self.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        iterations = settings.iterations_at(self.step, self.preset.config.iterations)
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.bf16):
            loss = losses(self.model, lr, hr, kernel, iterations)
        total = loss.sr + settings.kernel_weight * loss.kernel
        total.backward()
        norm = clip_grad_norm_(self.model.parameters(), settings.clip)
        verdict = self.guard.judge(total.item(), norm.item())
        if verdict == "ok":
            self.optimizer.step()
            update_average(self.average, self.model, settings.ema, self.step)
        elif verdict == "skip":
            log.warning("step %d: loss %.4g, gradient norm %.4g: skipped", self.step, total.item(), norm.item())
        else:
            self._roll_back(total.item())
        self.step += 1
        return loss

    def _roll_back(self, loss: float) -> None:
        if self.rollbacks >= MAX_ROLLBACKS:
            raise DanFastError(f"training diverged {MAX_ROLLBACKS + 1} times, at last in step {self.step}; "
                               "a lower learning rate or a larger batch may help")
        state = read_state(self.options.out)
        self._restore_weights(state)
        self.rollbacks += 1
        log.warning("step %d: diverged (loss %.4g): back to the weights of step %d, learning rate halved",
                    self.step, loss, state["step"])

    def save(self) -> None:
        """Write the state and the usable weights, each whole or not at all."""
        state = {
            "preset": {name: asdict(getattr(self.preset, name)) for name in ("config", "degradation", "training")},
            "seed": self.seed, "step": self.step, "rollbacks": self.rollbacks, "guard": self.guard.state_dict(),
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self.options.out / STATE) as temporary:
            torch.save(state, temporary)
        checkpoint.save(self.average, self.options.out / WEIGHTS)

    @classmethod
    def resume(cls, options: RunOptions) -> Run:
        """The run that was saved in ``options.out``; goes on with the losses of an unbroken one."""
        state = read_state(options.out)
        run = cls(saved_preset(state), state["seed"], options)
        run._restore_weights(state)
        run.step, run.rollbacks = state["step"], state["rollbacks"]
        run.guard.load_state_dict(state["guard"])
        return run

    def _restore_weights(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])


def read_state(folder: Path) -> dict:
    """What ``Run.save`` wrote into ``folder``; ``DanFastError`` if there is nothing, or nothing usable."""
    path = folder / STATE
    if not path.is_file():
        raise DanFastError(f"{folder}: holds no run to resume ({STATE} is missing)")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a damaged file
        raise DanFastError(f"{path}: cannot be read, it is damaged or no training state ({error})") from None


def saved_preset(state: dict) -> Preset:
    """The preset in a state, as it was when the run began."""
    parts = state["preset"]
    degradation = {**parts["degradation"], "sigma": tuple(parts["degradation"]["sigma"])}
    return Preset(DANConfig(**parts["config"]), Degradation(**degradation), TrainingSettings(**parts["training"]))


def train(run: Run, data: list[Path], validation: Validation | None = None) -> bool:
    """Train ``run`` to its last step. Returns False if the user stopped it before; it is saved either way."""
    settings, options = run.preset.training, run.options
    scale = run.preset.config.scale
    dataset = PatchDataset(data, settings.patch * scale, channels=run.preset.config.image_channels, seed=run.seed)
    _ = dataset[run.step * settings.batch]  # says here, rather than in a worker, if nothing can be read
    loader = patch_loader(dataset, settings.batch, run.step, settings.steps, options.workers)
    parameters = sum(p.numel() for p in run.model.parameters())
    log.info("%d images, %.3f M parameters, steps %d to %d on %s in %s", len(dataset.files), parameters / 1e6,
             run.step, settings.steps, options.device, "bfloat16" if options.bf16 else "float32")
    if run.step == 0:
        run.save()  # something to roll back to
    with (SummaryWriter(str(options.out), purge_step=run.step + 1) as writer, _StopSignal() as stop,
          tqdm(initial=run.step, total=settings.steps, unit="step", dynamic_ncols=True, smoothing=0.05) as bar):
        for hr in loader:
            loss = run.train_step(hr)
            bar.update()
            if run.step % options.log_every == 0:
                _write_scalars(run, loss, writer)
                bar.set_postfix(sr=f"{loss.sr.item():.4f}", kernel=f"{loss.kernel.item():.2e}", refresh=False)
            last = run.step == settings.steps
            if run.step % options.save_every == 0 or last or stop.requested:
                run.save()
            if validation and (run.step % options.validate_every == 0 or last) and not stop.requested:
                psnr = validation(run.average, run.step, writer)
                writer.add_scalar("validation/psnr_y", psnr, run.step)
                log.info("step %d: %.2f dB on Y", run.step, psnr)
            if stop.requested:
                log.info("stopped and saved at step %d; --resume goes on", run.step)
                return False
    return True


def _write_scalars(run: Run, loss: Losses, writer: SummaryWriter) -> None:
    writer.add_scalar("loss/sr", loss.sr.item(), run.step)
    writer.add_scalar("loss/kernel", loss.kernel.item(), run.step)
    writer.add_scalar("learning_rate", run.optimizer.param_groups[0]["lr"], run.step)
    writer.add_scalar("rollbacks", run.rollbacks, run.step)


class _StopSignal:
    """Notes the first Ctrl-C (or SIGTERM) instead of breaking a step in the middle; the second one breaks."""

    def __enter__(self) -> _StopSignal:
        self.requested = False
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        log.info("stopping after this step …")

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
