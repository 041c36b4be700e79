"""The closeness of two images or two blur kernels: ``dan_fast.evaluation.metrics`` under its short name."""

from .evaluation.metrics import kernel_error, kernel_psnr, psnr, ssim

__all__ = ["kernel_error", "kernel_psnr", "psnr", "ssim"]
