"""The reference model: plain PyTorch that reads like the papers."""

from .dan import DAN, DANOutput

__all__ = ["DAN", "DANOutput"]
