"""One iteration that learns, through the operators: the model's own ``step`` and its gradients, up to rounding.

The condition path, the blocks and the end of v2's Estimator are operators whose gradients are kernels too. Between them
the result is cells, as in inference, and an image only for the loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import DAN, DANOutput
from ..ops import (
    channel_attention,
    condition_path,
    conv3x3_bias_lrelu,
    conv3x3_scale_residual,
    dpcb,
    estimator_tail,
)
from .cells import Bicubic, strided_weight, to_cells, to_image
from .collapsed_upsampler import CollapsedUpsampler, DirectUpsampler
from .v1 import attention_weights
from .v2 import condition_weights, tail_weights

# LR pixels of a batch. To collapse the upsampler and to learn through that takes about as many multiplications as it
# saves on 7,000 (x4, 64 channels).
COLLAPSE_FROM = 20_000


def iteration(model: DAN, lr: Tensor, code: Tensor) -> DANOutput:
    """``model.step(lr, code)``, differentiable in every parameter and in ``code``.

    Args:
        lr: (B, 3, h, w) in [0, 1].
        code: (B, c).
    """
    if type(model) is not DAN:  # what derives from it may compute something else
        return model.step(lr, code)
    restore, estimate = (_restore_v1, _estimate_v1) if model.config.version == "v1" else (_restore_v2, _estimate_v2)
    cells = _cells(model.Restorer, lr, restore(model.Restorer, lr, code))
    # The kernel's loss does not reach the Restorer in the published training.
    seen = cells if model.config.gradient == "all" else cells.detach()
    return DANOutput(to_image(cells, model.config.scale), *estimate(model, seen, lr))


# Parts of torch modules are declared as anything.
def _restore_v1(restorer: Any, lr: Tensor, code: Tensor) -> Tensor:
    planes = code[:, :, None, None].expand(-1, -1, *lr.shape[2:])
    return _conditional_blocks(restorer.body, restorer.head(lr), planes)


def _restore_v2(restorer: Any, lr: Tensor, code: Tensor) -> Tensor:
    x = restorer.head1(lr)
    scales = iter(condition_path(code, *condition_weights(restorer)).unbind(1))
    for group in restorer.body:
        entry = x
        for block in group.body:
            x = dpcb(x, *_two(block.body1), next(scales))
        x = _group_end(group, entry, x)
    return x


def _cells(restorer: Any, lr: Tensor, features: Tensor) -> Tensor:
    """``restorer.reconstruct(lr, features)`` as cells: neither the bicubic image nor the strided convolution of the
    result takes its own slow way."""
    scale, x = restorer.scale, restorer.fusion(features)
    if restorer.adds_bicubic:
        with torch.autocast(lr.device.type, enabled=False):
            base = Bicubic(lr.shape[1], scale, lr)(lr)
        return base + DirectUpsampler(restorer.upscale, scale, learns=True)(x)
    if x[:, 0].numel() < COLLAPSE_FROM:
        return to_cells(restorer.upscale(x), scale)
    with torch.autocast(lr.device.type, enabled=False):
        upscale = CollapsedUpsampler(restorer.upscale, x.shape[1], scale, learns=True)
    return upscale(x)


def _head(head: Any, cells: Tensor, scale: int) -> Tensor:
    """The Estimator's convolution of the result."""
    weight, padding = strided_weight(head.weight, scale)
    return F.conv2d(cells, weight, head.bias, padding=padding)


def _estimate_v1(model: Any, cells: Tensor, lr: Tensor) -> tuple[None, Tensor]:
    estimator = model.Estimator
    x = _conditional_blocks(estimator.body, estimator.head_LR(lr), _head(estimator.head_HR, cells, model.config.scale))
    return None, estimator.out(x).mean((2, 3))


def _estimate_v2(model: Any, cells: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
    estimator = model.Estimator
    entry = x = estimator.head_LR(lr)
    z = _head(estimator.head_HR[0], cells, model.config.scale)
    last = len(estimator.body.body) - 1
    for n, block in enumerate(estimator.body.body):
        weight1, bias1, weight2, bias2 = _two(block.body2)
        f2 = conv3x3_bias_lrelu(conv3x3_bias_lrelu(z, weight1, bias1), weight2, bias2, slope=1)
        if n < last:
            z = z + f2
        weight1, bias1, weight2, bias2 = _two(block.body1)
        x = conv3x3_scale_residual(conv3x3_bias_lrelu(x, weight1, bias1), weight2, bias2, f2, x)
    return estimator_tail(_group_end(estimator.body, entry, x), *tail_weights(estimator), model.encoder[0])


def _conditional_blocks(blocks: Any, x: Tensor, z: Tensor) -> Tensor:
    """v1's, each a concatenation, two convolutions and channel attention."""
    for block in blocks:
        *convolutions, attention = block.body
        y = torch.cat((x, z), 1)
        for layer in convolutions:
            y = layer(y)
        x = channel_attention(y, *attention_weights(attention), x)
    return x


def _group_end(group: Any, entry: Tensor, x: Tensor) -> Tensor:
    return 2 * x if group.residual == "doubled" else entry + x


def _two(path: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights and biases of a path's two convolutions."""
    return path[0].weight, path[0].bias, path[2].weight, path[2].bias
