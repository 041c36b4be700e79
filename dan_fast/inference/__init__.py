"""Running a network on images."""

from .upscaler import Upscaler, UpscaleResult

__all__ = ["UpscaleResult", "Upscaler"]
