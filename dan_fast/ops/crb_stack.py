"""Conditional residual blocks with channel attention: the bodies of v1's Restorer and Estimator, for inference.

On the CPU the compiled extension computes a block in one go, with weights of ``packing``. In the Restorer the condition
is the same in every pixel, and so is its part of the first convolution, but for the border: it becomes a bias. On a GPU
the convolutions are PyTorch's (cuDNN's), filled up to a number of channels that these are fast with, and the GPU
kernels of ``channel_attention`` follow them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors, flattened, refuse_gradient
from .backend import choose
from .channel_attention import channel_attention_ref
from .conv3x3_bias_lrelu import conv3x3_bias_lrelu_ref
from .layout import channels_last, empty_channels_last, to_nchw, to_nhwc
from .packing import MOST_CHANNELS, cpp_refusal, fill_up, pack_convolutions, packed

NAME = "crb_stack"
HAS = ("torch", "cpp", "triton")
CUDNN_CHANNELS = 8  # cuDNN uses tensor cores for multiples of it; v1 has 74 channels


class CRBWeights(NamedTuple):
    """The layers of N blocks in order; E = C + Cz channels of image and condition, S in the attention.

    Attributes:
        weight1, bias1: (E, E, 3, 3) and (E,), of each block's first convolution.
        weight2, bias2: (C, E, 3, 3) and (C,), of its second convolution.
        squeeze, squeeze_bias: (S, C, 1, 1) and (S,), of the first layer of its attention.
        excite, excite_bias: (C, S, 1, 1) and (C,), of the second layer of its attention.
    """

    weight1: list[Tensor]
    bias1: list[Tensor]
    weight2: list[Tensor]
    bias2: list[Tensor]
    squeeze: list[Tensor]
    squeeze_bias: list[Tensor]
    excite: list[Tensor]
    excite_bias: list[Tensor]


def crb_stack_ref(x: Tensor, z: Tensor, weights: CRBWeights) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``crb_stack``. Differentiable."""
    return _forward_ref(x, z, *weights)


def _forward_ref(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
                 bias2: Sequence[Tensor], squeeze: Sequence[Tensor], squeeze_bias: Sequence[Tensor],
                 excite: Sequence[Tensor], excite_bias: Sequence[Tensor]) -> Tensor:
    for n in range(len(weight1)):
        y = _convolutions_ref(x, z, weight1[n], bias1[n], weight2[n], bias2[n])
        x = channel_attention_ref(y, squeeze[n].flatten(1), squeeze_bias[n], excite[n].flatten(1), excite_bias[n], x)
    return x


def _convolutions_ref(x: Tensor, z: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    if z.dim() == 2:
        z = z[:, :, None, None].expand(-1, -1, *x.shape[2:])
    activated = conv3x3_bias_lrelu_ref(torch.cat((x, z), 1), weight1, bias1)
    return F.conv2d(activated, weight2, bias2.to(weight2.dtype), padding=1)


def _forward_triton(x: Tensor, z: Tensor, lists: Sequence[Sequence[Tensor]]) -> Tensor:
    from dan_fast_kernels import channel_attention as kernels

    x = channels_last(x)
    padding = -(x.shape[1] + z.shape[1]) % CUDNN_CHANNELS
    if padding:
        z = F.pad(z, (0, 0) * (z.dim() - 2) + (0, padding))
        lists = (*packed(_pack_padded, *lists[:4]), *lists[4:])
    with torch.autocast(x.device.type, enabled=False):
        for *convolutions, squeeze, squeeze_bias, excite, excite_bias in zip(*lists, strict=True):
            y = _convolutions_ref(x, z, *convolutions)
            x, _ = kernels.forward(y, squeeze.flatten(1), squeeze_bias, excite.flatten(1), excite_bias, x)
    return channels_last(x)


def _pack_padded(weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor], bias2: Sequence[Tensor]
                 ) -> tuple[Sequence[Tensor], ...]:
    """Both convolutions, the E channels between them filled up with zeros to a multiple of ``CUDNN_CHANNELS``."""
    padding = -len(bias1[0]) % CUDNN_CHANNELS

    def padded(weight: Tensor, out: int) -> Tensor:
        return channels_last(F.pad(weight, (0, 0, 0, 0, 0, padding, 0, out)))
    return ([padded(weight, padding) for weight in weight1], [F.pad(bias, (0, padding)) for bias in bias1],
            [padded(weight, 0) for weight in weight2], bias2)


def _pack_image(*lists: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """For a condition (B, Cz, H, W): both convolutions packed, biases of the first (N, 1, E), and the attention."""
    attention = (torch.stack([tensor.flatten(1) if tensor.dim() > 1 else tensor for tensor in tensors])
                 for tensors in lists[4:])
    return (pack_convolutions(*lists[:2]), pack_convolutions(*lists[2:4]),
            fill_up(torch.stack(list(lists[1])), 1)[:, None], *attention)


def _pack_planes(*lists: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """For a condition (B, Cz): the same, and last the condition's part of the first convolution, (N, 9, Cz, E)."""
    weight1, bias1, weight2, *others = lists
    channels = weight2[0].shape[0]
    taps = fill_up(torch.stack([weight[:, channels:] for weight in weight1]), 1)
    image = [weight[:, :channels] for weight in weight1]
    return *_pack_image(image, bias1, weight2, *others), taps.flatten(3).permute(0, 3, 2, 1).contiguous()


def _reached(length: int, like: Tensor) -> Tensor:
    """(3, 3): whether the first, an inner and the last of ``length`` rows (first index) has a pixel at each tap."""
    reached = like.new_ones(3, 3)
    # Not reached[0, 0] = 0, which copies from the host: no CUDA graph can be captured there.
    for row, tap in ((0, 0), (2, 2), *([(0, 2)] if length == 1 else [])):
        reached[row, tap].zero_()
    return reached


def _forward_cpp(x: Tensor, z: Tensor, lists: Sequence[Sequence[Tensor]]) -> Tensor:
    channels, height, width = x.shape[1:]
    if z.dim() == 2:
        one, two, bias, *attention, taps = packed(_pack_planes, *lists)
        places = torch.kron(_reached(height, x), _reached(width, x))  # (9 places, 9 taps)
        biases = bias + places @ (z[:, None, None, None] @ taps).squeeze(3)
        both = to_nhwc(x)
    else:
        one, two, bias, *attention = packed(_pack_image, *lists)
        biases = bias.expand(len(x), -1, -1, -1)
        both = to_nhwc(fill_up(torch.cat((x, z), 1), 1))
    out = torch.ops.dan_fast.crb_stack_cpp(both, biases.contiguous(), one, two, *attention)
    return channels_last(to_nchw(out)[:, :channels])


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
        bias2: Sequence[Tensor], squeeze: Sequence[Tensor], squeeze_bias: Sequence[Tensor], excite: Sequence[Tensor],
        excite_bias: Sequence[Tensor]) -> Tensor:
    lists = (weight1, bias1, weight2, bias2, squeeze, squeeze_bias, excite, excite_bias)
    tensors = (x, z, *flattened(lists))
    refusal = cpp_refusal(x.shape[1], tensors)
    if (both := x.shape[1] + z.shape[1]) > MOST_CHANNELS and not refusal:
        refusal = f"C + Cz is {both} and the extension takes up to {MOST_CHANNELS}"
    chosen = choose(NAME, HAS, *tensors, part="channel_attention", cpp_refuses=refusal)
    if chosen == "triton":
        return _forward_triton(x, z, lists)
    if chosen == "cpp":
        return _forward_cpp(x, z, lists)
    with torch.autocast(x.device.type, enabled=False):
        return channels_last(_forward_ref(x, z, *lists))


@_op.register_fake
def _fake(x, z, weight1, bias1, weight2, bias2, squeeze, squeeze_bias, excite, excite_bias):
    return empty_channels_last(x)


def crb_stack(x: Tensor, z: Tensor, weights: CRBWeights) -> Tensor:
    """Conditional residual blocks, one after the other (v1: arXiv 2010.02631, section 3.3, fig. 3). For inference.

    A block computes ``y = W2 * lrelu0.2(W1 * (x, z) + b1) + b2``, where (,) is a concatenation and W * a 3x3
    convolution with zero padding, and ``x <- x + y a`` with ``a = sigmoid(E lrelu0.2(S mean(y) + s) + e)``, one
    factor per channel.
    ``crb_stack(restorer.head(lr), code, crb_weights(restorer))`` and
    ``crb_stack(estimator.head_LR(lr), estimator.head_HR(sr), crb_weights(estimator))`` are the bodies of v1.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 and C + Cz at most 80; its rounding, its packed weights
    and its results around values that are not finite: as ``dpcb_stack``, but that the mean carries those everywhere.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1; copied if it is not channels_last.
        z: the condition, the same for every block: (B, Cz), one value for every pixel, or (B, Cz, H, W).
        weights: of N blocks; ``crb_weights(network)`` makes them. On the device of ``x``; the
            convolutions' weights of its dtype.

    Returns:
        (B, C, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    condition = ("B", "Z", "H", "W") if z.dim() == 4 else ("B", "Z")
    shapes: dict[str, Any] = {
        "weight1": ("E", "E", 3, 3), "bias1": ("E",), "weight2": ("C", "E", 3, 3), "bias2": ("C",),
        "squeeze": ("S", "C", 1, 1), "squeeze_bias": ("S",), "excite": ("C", "S", 1, 1), "excite_bias": ("C",)}
    sizes = check_tensors({"x": (x, IMAGE), "z": (z, condition),
                           **{name: (getattr(weights, name), shape) for name, shape in shapes.items()}},
                          same_dtype=("z", "weight1", "weight2"), advice="crb_weights(network) makes weights")
    if sizes["E"] != sizes["C"] + sizes["Z"]:
        raise ValueError(f"weight1[0] has E={sizes['E']} channels, expected C + Z = {sizes['C']} + {sizes['Z']}, those "
                         "of x and z: crb_weights(network) makes weights")
    refuse_gradient(NAME, (x, z, *flattened(weights)))
    return _op(x, z, *weights)
