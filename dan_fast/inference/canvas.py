"""The images that people have, converted to those that a network takes, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import DanFastError
from ..ops.resize import bicubic_resize
from .progress import Progress

_LARGEST = {torch.uint8: 255, torch.uint16: 65535}
_ARRAYS = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
_TENSORS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_ROUNDING = 1e-3
_BICUBIC_REACH = 2  # LR pixels to either side that an enlarged pixel depends on
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class UserImage(NamedTuple):
    """A user's image as a tensor, and the way back.

    Attributes:
        pixels: (N, 1 or 3, H, W): uint8, uint16 or floating point; shares memory with the image if it can.
        give_back: converts such a tensor, channels_last, to the kind of image that the user gave.
    """

    pixels: Tensor
    give_back: Callable[[Tensor], Any]


def user_image(image: Any, image_channels: int) -> UserImage:
    """Convert ``image`` for a network of ``image_channels`` channels.

    Args:
        image: an array, HxWx3 (RGB) or HxW (grey), uint8, uint16 or floating point in [0, 1]; a PIL image of mode RGB,
            L or I;16; or a tensor, floating point in [0, 1], (3, H, W), (B, 3, H, W) or with 1 channel.

    Raises:
        DanFastError: it is something else; the message says what to do.
    """
    if isinstance(image, Tensor):
        found = _from_tensor(image)
    elif isinstance(image, Image.Image):
        if image.mode not in ("RGB", "L", "I;16"):
            raise DanFastError(f"the image has mode {image.mode}, expected RGB or L: image.convert('RGB')")
        found = _from_array(np.array(image), Image.fromarray)
    elif isinstance(image, np.ndarray):
        found = _from_array(image, lambda array: array)
    else:
        raise DanFastError(f"image is {type(image).__name__}, expected a numpy array, a PIL image or a torch tensor")
    if found.pixels.shape[1] == 3 and image_channels == 1:
        raise DanFastError("the image is in colour and the model is for grey images: give it HxW")
    return found


def _from_array(array: np.ndarray, wrap: Callable[[np.ndarray], Any]) -> UserImage:
    if array.dtype.newbyteorder("=") not in _ARRAYS:
        raise DanFastError(f"image is {array.dtype}, expected uint8, uint16, or float16, float32 or float64 in [0, 1]")
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or 0 in array.shape:
        raise DanFastError(f"image has shape {array.shape}, expected HxWx3 (RGB) or HxW (grey), not empty")
    grey = array.ndim == 2
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    pixels = torch.from_numpy(array if array.flags.writeable else array.copy())
    pixels = pixels[None] if grey else pixels.permute(2, 0, 1)
    _check_range(pixels)

    def give_back(result: Tensor) -> Any:
        pixels = result[0, 0] if grey else result[0].permute(1, 2, 0)
        return wrap(pixels.cpu().contiguous().numpy())

    return UserImage(pixels[None], give_back)


def _from_tensor(tensor: Tensor) -> UserImage:
    if tensor.dtype not in _TENSORS:
        raise DanFastError(f"image is a tensor of {tensor.dtype}, expected floating point in [0, 1], of 16, 32 or 64 "
                           "bits")
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "without values (meta)" if tensor.is_meta else f"of layout {tensor.layout}"
        raise DanFastError(f"image is a tensor {kind}, expected a dense one: image.to_dense()")
    if tensor.dim() not in (3, 4) or tensor.shape[-3] not in (1, 3) or 0 in tensor.shape:
        raise DanFastError(f"image has shape {tuple(tensor.shape)}, expected (3, H, W) or (B, 3, H, W), or 1 channel, "
                           "not empty")
    _check_range(tensor)
    if tensor.dim() == 3:
        return UserImage(tensor[None], lambda result: result[0].contiguous())
    return UserImage(tensor, lambda result: result.contiguous())


def _check_range(pixels: Tensor) -> None:
    """Raise ``DanFastError`` if floating-point ``pixels`` are not in [0, 1], up to the rounding of 16 bits."""
    if not pixels.is_floating_point():
        return
    lowest, highest = (value.item() for value in pixels.aminmax())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise DanFastError("image holds numbers that are not finite, expected floating point in [0, 1]")
    if lowest < -_ROUNDING or highest > 1 + _ROUNDING:
        raise DanFastError(f"image holds numbers from {lowest:.4g} to {highest:.4g}, expected floating point in "
                           "[0, 1]: divide it by its largest possible value, 255 for 8 bits, or give it as uint8")


class _Written(NamedTuple):
    """Facts about a result that was written.

    Attributes:
        finite: (,) bool.
        dtype: what the network computed in.
    """

    finite: Tensor
    dtype: torch.dtype


class Canvas:
    """LR images of one size, read in windows, and HR images of their type, written in windows.

    ``write`` does not wait for a GPU; ``complete`` does.

    Args:
        pixels: (N, 1 or 3, H, W) as ``UserImage.pixels``.
        scale: 2, 3 or 4.
        image_channels: of the network; a grey image goes through a network for colour as three equal channels.
        device: of the network.
        result: (N, 1 or 3, H*s, W*s) of the same type; ``None``: nothing can be written.
        strength: share of what is written, 0 to 1; the rest is the bicubic enlargement of the LR image.
        progress: of the call; views share it.
        written: what was written since the last ``complete``; views share the list.
    """

    def __init__(self, pixels: Tensor, scale: int, image_channels: int, device: torch.device,
                 result: Tensor | None = None, *, strength: float = 1.0, progress: Progress | None = None,
                 written: list[_Written] | None = None) -> None:
        self.pixels, self.scale, self.image_channels, self.device = pixels, scale, image_channels, device
        self.result, self.strength = result, strength
        self.progress = Progress() if progress is None else progress
        self.written: list[_Written] = [] if written is None else written
        self._largest = _LARGEST.get(pixels.dtype, 1)

    def with_result(self) -> Canvas:
        """The same images with an empty result, channels_last."""
        count, channels, height, width = self.pixels.shape
        shape = count, height * self.scale, width * self.scale, channels
        # A GPU writes into pinned memory by itself, and twice as fast.
        pinned = self.device.type == "cuda" and not self.pixels.is_cuda
        result = torch.empty(shape, dtype=self.pixels.dtype, device=self.pixels.device, pin_memory=pinned)
        return self._like(self.pixels, result.permute(0, 3, 1, 2))

    def split(self, batch: int = 1) -> list[Canvas]:
        """Views of ``batch`` images each, the last of those that are left."""
        results = [None] * len(self) if self.result is None else self.result.split(batch)
        return [self._like(*parts) for parts in zip(self.pixels.split(batch), results, strict=False)]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.pixels.shape[2], self.pixels.shape[3]

    def array(self) -> np.ndarray:
        """The first image, HxWxC."""
        return self.pixels[0].permute(1, 2, 0).cpu().numpy()

    def read(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """A window of every image, (N, image channels, h, w) float32 in [0, 1], on the network's device."""
        window = self.pixels[..., rows, columns]
        if window.dtype == torch.uint16:  # GPUs can hardly compute with it
            window = window.float()
        values = window.to(self.device).float() / self._largest
        return values.expand(-1, self.image_channels, -1, -1)

    def write(self, sr: Tensor, rows: slice = slice(None), columns: slice = slice(None)) -> None:
        """Clamp and round ``sr``, (N, image channels, h*s, w*s), into a window of the result in HR pixels.

        Raises:
            DanFastError: ``sr`` is not finite; if a GPU computed it, ``complete`` raises it.
        """
        self.expect_finite(sr, sr.dtype)
        if not sr.is_cuda:
            self.complete()
        assert self.result is not None, "the canvas has no result to write to"
        values = sr.float()
        if self.strength < 1:
            values = torch.lerp(self._bicubic(rows, columns), values, self.strength)
        values = values.clamp(0, 1)
        if self.pixels.shape[1] < self.image_channels:
            values = (values * values.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        if self._largest > 1:
            values = values.mul_(self._largest).round_()
        if self.result.dtype == torch.uint8:
            values = values.to(torch.uint8)  # less to move
        window = self.result[..., rows, columns]
        if values.dtype == window.dtype and values.stride() == window.stride():
            window.copy_(values, non_blocking=True)
        else:
            window.copy_(values.to(window.device))

    def expect_finite(self, values: Tensor, dtype: torch.dtype) -> None:
        """Let ``complete`` raise an error if ``values``, which were computed in ``dtype``, are not finite."""
        self.written.append(_Written(values.isfinite().all(), dtype))

    def _bicubic(self, rows: slice, columns: slice) -> Tensor:
        """The bicubic enlargement of a window of the result, as of the whole image."""
        window, inside = [], []
        for part, length in zip((rows, columns), self.size, strict=True):
            begin, end, _ = part.indices(length * self.scale)
            first, last = begin // self.scale - _BICUBIC_REACH, -(-end // self.scale) + _BICUBIC_REACH
            window.append(slice(max(first, 0), min(last, length)))
            inside.append(slice(begin - window[-1].start * self.scale, end - window[-1].start * self.scale))
        return bicubic_resize(self.read(*window), self.scale)[..., inside[0], inside[1]]

    def complete(self) -> None:
        """Wait until everything that was written is there.

        Raises:
            DanFastError: some of it is not finite.
        """
        written = self.written.copy()
        self.written.clear()
        if not written or torch.stack([write.finite for write in written]).all():
            return
        dtype = written[0].dtype
        cure = f", or {dtype} is too small for them: use float32" if torch.finfo(dtype).bits < 32 else ""
        raise DanFastError(f"the network's output is not finite: the weights are broken{cure}")

    def _like(self, pixels: Tensor, result: Tensor | None) -> Canvas:
        return Canvas(pixels, self.scale, self.image_channels, self.device, result, strength=self.strength,
                      progress=self.progress, written=self.written)
