"""Images of any size through a DAN network."""

from __future__ import annotations

import copy
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..degradation import PCAEncoder
from ..errors import DanFastError
from ..model import DAN, DANOutput
from .plan import plan_for
from .tiling import halo_of, most_textured, tile_side, tiles

# Side of the crop that the kernel of an image too large for one tile is estimated from.
CROP = 192
SMALLEST_TILE = 16
# Bytes for one tile's tensors. Fixed rather than what is free now: the same photo gives the
# same result on a busy machine.
BUDGET = {"cpu": 1_500_000_000, "cuda": 4_000_000_000}


class UpscaleResult(NamedTuple):
    """What :class:`Upscaler` returns.

    Attributes:
        image: (H*s)x(W*s)x3 RGB, or (H*s)x(W*s) for a grey input, in the input's type.
        kernel: (k, k) float32, not negative, sum 1: the estimated blur in HR pixels.
    """

    image: np.ndarray
    kernel: np.ndarray


class Upscaler:
    """Upscales images and tells the blur that it found.

    An image that fits into one tile gets the model's own result, ``model(lr)`` rounded. Larger ones:

    * The kernel is taken to be the same everywhere. It is estimated by all iterations on the
      192x192 crop with the most texture; this approximates (and on photos usually betters) the
      kernel of the whole image. The rest of the image is restored once, with the code that the
      crop's last iteration used.
    * The image is restored in tiles with a halo. For v2 this equals one pass over the whole
      image, to float rounding, if the Restorer sees no further than the halo's 28 pixels (up to
      12 blocks). A deeper one sees further, and its tiles differ slightly, most where they meet.
      v1's channel attention averages over the tile, not the image, which differs a little
      everywhere.

    No more than one tile is held as floats.

    Args:
        model: the network; it is copied, and stays as it is.
        tile: side of a tile in LR pixels, without the halo, at least 16; ``None``: as large as a
            fixed memory budget allows (1.5 GB on CPU, 4 GB on a GPU): about 800 for the small
            networks and 300 for the published one, at x4 on CPU.
        dtype: floating-point type to compute in; ``None``: the model's.
        device: where to compute; ``None``: where the model is.

    Raises:
        DanFastError: ``tile`` or ``dtype`` is impossible.
    """

    def __init__(self, model: DAN, *, tile: int | None = None, dtype: torch.dtype | None = None,
                 device: torch.device | str | None = None) -> None:
        if tile is not None and (type(tile) is not int or tile < SMALLEST_TILE):
            raise DanFastError(f"tile={tile!r}: expected a whole number of at least {SMALLEST_TILE} "
                               "(LR pixels), or None to choose it by memory")
        if dtype is not None and not dtype.is_floating_point:
            raise DanFastError(f"dtype={dtype}: expected a floating-point type")
        self.device = torch.device(device) if device is not None else model.encoder.device
        self.dtype = dtype if dtype is not None else model.encoder.dtype
        self.model = copy.deepcopy(model).eval().requires_grad_(False).to(self.device, self.dtype)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.plan = plan_for(self.model)
        self.scale = model.config.scale
        self.tile = tile if tile is not None else tile_side(model.config, BUDGET.get(self.device.type, BUDGET["cpu"]))

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> UpscaleResult:
        """Upscale ``image``: HxWx3 RGB or HxW grey, uint8 or uint16.

        Raises:
            DanFastError: the image is of another kind, or is in colour and the model is for grey
                images; or the network gave no finite numbers.
        """
        self._check(image)
        height, width = image.shape[:2]
        last, code = self._estimate(image)
        if max(height, width) <= self.tile:
            return UpscaleResult(self._pixels(last.sr, image), self._kernel(last))
        result = np.empty((height * self.scale, width * self.scale, *image.shape[2:]), image.dtype)
        for tile in tiles(height, width, self.tile, halo_of(self.model.config)):
            sr = self.plan.restore(self._tensor(image[tile.window]), code)
            result[tile.core_in_output(self.scale)] = self._pixels(sr[(..., *tile.core_in_window(self.scale))], image)
        return UpscaleResult(result, self._kernel(last))

    @torch.inference_mode()
    def estimate_kernel(self, image: np.ndarray) -> np.ndarray:
        """The ``kernel`` that ``self(image)`` would return, without restoring the image."""
        self._check(image)
        return self._kernel(self._estimate(image)[0])

    def _estimate(self, image: np.ndarray) -> tuple[DANOutput, Tensor]:
        """The last iteration on the image or its most textured crop, and the code it started from."""
        if max(image.shape[:2]) > self.tile:
            image = image[most_textured(image, CROP)]
        return self.plan.last(self._tensor(image))

    def _tensor(self, image: np.ndarray) -> Tensor:
        """(1, channels of the model, h, w) in [0, 1]."""
        values = torch.from_numpy(image.astype(np.float32) / np.iinfo(image.dtype).max)
        if values.dim() == 2:
            values = values[..., None].expand(-1, -1, self.model.config.image_channels)
        return values.permute(2, 0, 1)[None].to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)

    def _pixels(self, sr: Tensor, image: np.ndarray) -> np.ndarray:
        """``sr`` (1, C, h, w) as pixels of the type and kind of ``image``."""
        if not sr.isfinite().all():
            raise DanFastError(f"the network's output is not finite: the weights are broken, or {self.dtype} "
                               "is too small for them: use float32")
        values = sr[0].permute(1, 2, 0).float().clamp(0, 1).cpu().numpy()
        if image.ndim == 2:
            values = values[..., 0] if values.shape[2] == 1 else cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
        return np.rint(values * np.iinfo(image.dtype).max).astype(image.dtype)

    def _kernel(self, last: DANOutput) -> np.ndarray:
        # v1 estimates only the code: the basis gives back the closest kernel that it can write.
        kernel = PCAEncoder(self.model.encoder[0]).decode(last.code) if last.kernel is None else last.kernel
        kernel = kernel[0].float().clamp(min=0)
        return (kernel / kernel.sum()).cpu().numpy()

    def _check(self, image: np.ndarray) -> None:
        if not isinstance(image, np.ndarray):
            raise DanFastError(f"image is {type(image).__name__}, expected a numpy array")
        if image.dtype not in (np.uint8, np.uint16):
            raise DanFastError(f"image is {image.dtype}, expected uint8 or uint16")
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or 0 in image.shape:
            raise DanFastError(f"image has shape {image.shape}, expected HxWx3 (RGB) or HxW (grey), not empty")
        if image.ndim == 3 and self.model.config.image_channels == 1:
            raise DanFastError("the image is in colour and the model is for grey images: give it HxW")
