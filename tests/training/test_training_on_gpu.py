"""The training step on a GPU: with a CUDA graph it takes the same steps as without."""

import copy

import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast.degradation.pipeline import Degradation
from dan_fast.evaluation.degraded_set import images_below
from dan_fast.training import capture
from dan_fast.training.checkpoints import Checkpoints
from dan_fast.training.data import PatchDataset, StreamPart, on_device, patch_loader
from dan_fast.training.gpu_images import GPUImages
from dan_fast.training.jpeg_pack import write_jpeg_pack
from dan_fast.training.loop import train
from dan_fast.training.presets import Preset
from dan_fast.training.run import Run, RunOptions
from dan_fast.training.settings import TrainingSettings
from dan_fast.training.step import TrainingStep
from dan_fast.training.time_limit import TimeLimit

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

STEPS = 8


def make_step(gradient: str = "last", bf16: bool = False) -> TrainingStep:
    torch.manual_seed(0)
    model = dan_fast.DAN(tiny_config(scale=2, gradient=gradient)).cuda()
    return TrainingStep(model, copy.deepcopy(model).requires_grad_(False),
                        Degradation(2, 21, (0.6, 2.0), irregular=True, noise=0.1),
                        TrainingSettings(batch=4, patch=16), bf16=bf16)


def take(step: TrainingStep, n: int) -> torch.Tensor:
    hr = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    return step(hr.pin_memory(), seed=n, learning_rate=1e-3 / (n + 1), average_weight=0.1,
                iterations=2 if n < STEPS // 4 else 4)


def reports(monkeypatch, warm_up: int, gradient: str, bf16: bool) -> torch.Tensor:
    """Take ``STEPS`` steps, the first ``warm_up`` of them without a graph."""
    monkeypatch.setattr(capture, "WARM_UP", warm_up)
    # Otherwise cuDNN adds up weight gradients in any order, and Adam's first step depends on nothing but their signs.
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    step = make_step(gradient, bf16)
    return torch.stack([take(step, n).clone() for n in range(STEPS)]).cpu()


@pytest.mark.parametrize("gradient", ["last", "all"])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_graph_takes_the_steps_of_eager_code(monkeypatch, gradient, bf16):
    graph, eager = (reports(monkeypatch, warm_up, gradient, bf16) for warm_up in (1, STEPS))
    # Only the first step starts from the same weights; rounding errors grow from step to step.
    torch.testing.assert_close(graph[0], eager[0], rtol=5e-3 if bf16 else 1e-4, atol=1e-6)
    torch.testing.assert_close(graph, eager, rtol=5e-2 if bf16 else 1e-2, atol=1e-5)
    assert len(set(graph[:, 0].tolist())) == STEPS  # each step has another seed and another loss


def test_no_step_waits():
    step = make_step(bf16=True)
    take(step, 0)  # libraries wait when they are initialised, and so does copying the network
    batches = [torch.zeros(4, 3, 32, 32, dtype=torch.uint8).pin_memory() for _ in range(3)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        for n, hr in enumerate(batches):
            step(hr, seed=n, learning_rate=1e-3, average_weight=0.1, iterations=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def allocated() -> int:
    """Return allocated bytes without the workspaces that cuBLAS keeps per stream, 32 MiB each on sm_90."""
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


def test_a_dropped_step_gives_its_memory_back():
    before = allocated()
    step = make_step(bf16=True)
    for n in range(capture.WARM_UP + 3):
        take(step, n)
    assert step._captured is not None and allocated() > before
    del step
    assert allocated() <= before + 2**20  # libraries may keep something


def test_patches_on_the_gpu_are_those_of_the_cpu():
    dataset = PatchDataset([dan_fast.files.SAMPLES], 48)
    stream, device = StreamPart(range(4), 8), torch.device("cuda")
    expected = torch.cat(list(patch_loader(dataset, stream, 0)))
    assert torch.equal(torch.cat(list(GPUImages(dataset, device).batches(stream, 8))).cpu(), expected)
    copied = [batch.clone() for batch in on_device(patch_loader(dataset, stream, 2), device)]
    assert torch.equal(torch.cat(copied).cpu(), expected)


def test_by_the_clock_it_is_saved_in_time(tmp_path):
    """With a pack of JPEGs on the GPU, and two graphs one after the other."""
    pack = tmp_path / "photos.zip"
    write_jpeg_pack(images_below([dan_fast.files.SAMPLES]), pack, 90, print)
    settings = TrainingSettings(steps=100, minutes=0.5, batch=4, patch=16, schedule="cosine", short_until=0.3, warmup=3)
    preset = Preset(tiny_config(scale=2), Degradation(2, 21, (0.2, 2.0)), settings)
    run = Run(preset, 0, RunOptions(tmp_path / "run", torch.device("cuda"), log_every=1, save_every=500))
    limit = TimeLimit(settings.minutes)
    assert train(run, [pack], limit=limit)
    assert 0 < limit.left < 10 and Checkpoints(tmp_path / "run/checkpoints").read()["step"] == run.step > 50
    last = (tmp_path / "run/metrics.csv").read_text().splitlines()[-1].split(",")
    assert int(last[0]) == run.step and float(last[4]) < 0.01 * settings.learning_rate
