"""One operator a file: reference, registration, public function. The compiled ones are used where they exist."""

from .blur_downsample import blur_downsample

__all__ = ["blur_downsample"]
