"""One iteration that learns, through the operators: the model's own ``step`` and its gradients, up to rounding.

The condition path, the blocks and the end of v2's Estimator are operators whose gradients are kernels too; what stands
between them (heads, fusion, upsampler) is the model's own modules.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..inference.cells import to_image
from ..inference.collapse import CollapsedUpsampler
from ..model import DAN, DANOutput
from ..ops import (
    attention_weights,
    channel_attention,
    condition_path,
    condition_weights,
    conv3x3_bias_lrelu,
    conv3x3_scale_residual,
    dpcb,
    estimator_tail,
    tail_weights,
)

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
    sr = restore(model.Restorer, lr, code)
    # The kernel's loss does not reach the Restorer in the published training.
    return estimate(model, sr if model.config.gradient == "all" else sr.detach(), lr, sr)


# Parts of torch modules are declared as anything.
def _restore_v1(restorer: Any, lr: Tensor, code: Tensor) -> Tensor:
    planes = code[:, :, None, None].expand(-1, -1, *lr.shape[2:])
    return _reconstruct(restorer, lr, _conditional_blocks(restorer.body, restorer.head(lr), planes))


def _restore_v2(restorer: Any, lr: Tensor, code: Tensor) -> Tensor:
    x = restorer.head1(lr)
    scales = iter(condition_path(code, *condition_weights(restorer)).unbind(1))
    for group in restorer.body:
        entry = x
        for block in group.body:
            x = dpcb(x, *_two(block.body1), next(scales))
        x = _group_end(group, entry, x)
    return _reconstruct(restorer, lr, x)


def _reconstruct(restorer: Any, lr: Tensor, features: Tensor) -> Tensor:
    """``restorer.reconstruct``; of many pixels the published upsampler as one convolution."""
    if restorer.adds_bicubic or features[:, 0].numel() < COLLAPSE_FROM:
        return restorer.reconstruct(lr, features)
    with torch.autocast(lr.device.type, enabled=False):
        upscale = CollapsedUpsampler(restorer.upscale, features.shape[1], restorer.scale, learns=True)
    return to_image(upscale(restorer.fusion(features)), restorer.scale)


def _estimate_v1(model: Any, seen: Tensor, lr: Tensor, sr: Tensor) -> DANOutput:
    estimator = model.Estimator
    x = _conditional_blocks(estimator.body, estimator.head_LR(lr), estimator.head_HR(seen))
    return DANOutput(sr, None, estimator.out(x).mean((2, 3)))


def _estimate_v2(model: Any, seen: Tensor, lr: Tensor, sr: Tensor) -> DANOutput:
    estimator = model.Estimator
    entry = x = estimator.head_LR(lr)
    z = estimator.head_HR(seen)
    last = len(estimator.body.body) - 1
    for n, block in enumerate(estimator.body.body):
        weight1, bias1, weight2, bias2 = _two(block.body2)
        f2 = conv3x3_bias_lrelu(conv3x3_bias_lrelu(z, weight1, bias1), weight2, bias2, slope=1)
        if n < last:
            z = z + f2
        weight1, bias1, weight2, bias2 = _two(block.body1)
        x = conv3x3_scale_residual(conv3x3_bias_lrelu(x, weight1, bias1), weight2, bias2, f2, x)
    return DANOutput(sr, *estimator_tail(_group_end(estimator.body, entry, x), *tail_weights(estimator),
                                         model.encoder[0]))


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
