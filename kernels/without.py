"""Parts of the GPU code that can be left out by name: if one of them fails on a GPU, the others still work.

``DAN_FAST_WITHOUT`` holds names of ``PARTS``, separated by commas, and is read at each call::

    DAN_FAST_WITHOUT=conv3x3,training_graphs dan-fast train …

``dan-fast doctor --gpu`` tries every part and prints the names to put there.
"""

from __future__ import annotations

import os
from functools import cache

VARIABLE = "DAN_FAST_WITHOUT"

# Each part's name and what does its work instead. Operators come first.
PARTS = {
    "conv3x3": "cuDNN's convolutions and PyTorch's operations after them",
    "condition_path": "PyTorch, two small matrix products per block",
    "estimator_tail": "PyTorch",
    "modulate": "PyTorch",
    "channel_attention": "PyTorch",
    "convolution": "cuDNN's convolutions, and a pass that adds the bias",
    "upsampler": "cuDNN's convolutions, one for the inside and one for each edge and corner",
    "blur_downsample": "PyTorch, a convolution and a resize",
    "descriptors": "loads by address instead of the copy engine's (TMA)",
    "programmatic_launch": "a kernel starts when the one before has ended",
    "inference_graphs": "kernels are launched one by one",
    "training_graphs": "kernels are launched one by one",
    "training_plan": "the plain model computes the iterations that do not learn",
}


def without(part: str) -> bool:
    """Whether ``DAN_FAST_WITHOUT`` names ``part``, one of ``PARTS``; ``ValueError`` if it names an unknown part."""
    if part not in PARTS:
        raise KeyError(part)
    return part in names(os.environ.get(VARIABLE, ""))


@cache
def names(value: str) -> frozenset[str]:
    """The names in ``value``, separated by commas; none if it is empty; ``ValueError`` if one is unknown."""
    found = frozenset(name for name in map(str.strip, value.split(",")) if name)
    for name in sorted(found):
        if name not in PARTS:
            raise ValueError(f"{VARIABLE}={value}: there is no part {name!r}; expected some of {', '.join(PARTS)}")
    return found
