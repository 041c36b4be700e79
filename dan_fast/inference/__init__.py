"""Running a network on images."""

from .upscaler import Upscaler, UpscaleResult, UpscalerStats

__all__ = ["UpscaleResult", "Upscaler", "UpscalerStats"]
