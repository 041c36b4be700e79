"""Which parameters meet images: those alone are taken in the type that images are computed in, if it is a narrow one.

Biases, and everything that works on a few numbers per image (the condition's path, the attention, the end of the
Estimator), stay as exact as they are: they cost nothing.
"""

from __future__ import annotations

import copy
import re

import torch
from torch import Tensor, nn

from ..model import DAN

# Convolutions that see no image, or that are made into others first (the upsampler).
_OTHERS = re.compile(r"Restorer\.(upscale|head2)\.|Restorer\.body\..*\.body2\.|Estimator\.(tail|out)\."
                     r"|(Restorer|Estimator)\.body\.\d+\.body\.3\.body\.")


def meets_images(name: str, parameter: Tensor) -> bool:
    """Whether the parameter of a DAN that has this name is a convolution's weight that is applied to images."""
    return parameter.dim() == 4 and not _OTHERS.match(name)


def with_image_weights(model: DAN, dtype: torch.dtype) -> DAN:
    """``model`` with the weights that meet images in ``dtype``: a copy, or the model itself if they are."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if meets_images(name, parameter)}
    if all(parameter.dtype == dtype for parameter in parameters.values()):
        return model
    found = copy.deepcopy(model)
    for name, parameter in parameters.items():
        replace_parameter(found, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
    return found


def replace_parameter(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put ``parameter`` where the one called ``name`` is."""
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, parameter)
