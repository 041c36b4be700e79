"""The weights that are applied to images: they alone are rounded to the type that images are computed in.

Biases, and all weights that are applied to a few numbers per image (the condition's path, the attention, the end of
the Estimator), stay as exact as they are: they cost nothing.
"""

from __future__ import annotations

import copy
import re

import torch
from torch import nn

from ..model import DAN

# Their layers are made into one convolution first.
_UPSAMPLERS = "Restorer.upscale.", "Refiner.upscale."


def image_weights(model: DAN, off_image: re.Pattern[str]) -> dict[str, nn.Parameter]:
    """The weights of the convolutions that are applied to images, by name.

    ``off_image``: the names of those that are not, as in ``Plan``.
    """
    return {name: parameter for name, parameter in model.named_parameters()
            if parameter.dim() == 4 and not name.startswith(_UPSAMPLERS) and not off_image.match(name)}


def with_image_weights(model: DAN, dtype: torch.dtype, off_image: re.Pattern[str]) -> DAN:
    """``model`` with its ``image_weights`` in ``dtype``: a copy, or the model itself if they are."""
    parameters = image_weights(model, off_image)
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
