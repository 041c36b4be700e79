"""A tiny network for commands, and photos for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dan_fast.checkpoint import save
from dan_fast.cli import main
from dan_fast.config import DANConfig
from dan_fast.model import DAN


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a network of random weights at x4."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(DAN(DANConfig(channels=16, groups=1, blocks=1, estimator_channels=16, estimator_blocks=1,
                       upsampler="direct", group_residual="plain")), path)
    return path


@pytest.fixture
def upscale(tiny_weights: Path) -> Callable[..., int]:
    """``dan-fast upscale`` with the tiny network; returns the exit code."""
    return lambda *arguments: main(["upscale", *map(str, arguments), "--weights", str(tiny_weights), "--device", "cpu"])
