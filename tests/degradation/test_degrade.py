"""The degradation by a known kernel: the published figures, and noise."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dan_fast.degradation import gaussian_kernels
from dan_fast.degradation.degrade import degrade_image


def test_degrading_agrees_with_the_published_figures(shared):
    cases = load_file(shared / "parity" / "degradation.safetensors")
    for i in range(3):
        scale = int(cases[f"{i}.scale"])
        for hr, kernel, lr in zip(cases[f"{i}.hr"], cases[f"{i}.kernel"], cases[f"{i}.lr_8bit"], strict=True):
            image = hr.permute(1, 2, 0).mul(255).round().byte()
            assert torch.allclose(image.float() / 255, hr.permute(1, 2, 0), atol=1e-6)
            expected = lr.permute(1, 2, 0).mul(255).round().byte().numpy()
            assert np.abs(degrade_image(image.numpy(), kernel, scale).astype(int) - expected).max() <= 1


def test_noise_has_the_given_deviation():
    grey = np.full((200, 200, 3), 128, np.uint8)
    kernel = gaussian_kernels(torch.tensor([2.0]), 21)[0]
    noisy = degrade_image(grey, kernel, 2, noise=10 / 255, generator=torch.Generator().manual_seed(0))
    assert noisy.std() == pytest.approx(10, rel=0.03)
    assert degrade_image(grey, kernel, 2).std() == 0
