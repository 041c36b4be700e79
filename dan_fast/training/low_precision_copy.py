"""The copy of the network that a step in 16 bits computes with. All its weights are rounded at once.

Autocast rounds each weight in every call, and converts each gradient back, with a GPU kernel each: a thousand small
ones per step. Here one GPU kernel rounds the vector of all parameters, and a few convert the gradients.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..fast_model.image_weights import image_weights, replace_parameter
from ..fast_model.versions import parts_of
from ..model import DAN
from .flat_parameters import FlatParameters, parameter_view


class LowPrecisionCopy:
    """A copy of a network in which the weights that meet images are views of one vector in ``dtype``.

    Its other parameters share their memory with those of the original.

    Args:
        model: the original, whose parameters are views of ``weights``.
        weights: the original's parameters, with gradients.

    Attributes:
        model: the copy. Under autocast in ``dtype`` it computes the same as the original. Its parameters have no
            ``grad``; ``compute_gradients`` writes to the original's.
    """

    def __init__(self, model: DAN, weights: FlatParameters, dtype: torch.dtype) -> None:
        self._weights = weights
        self._values = torch.empty_like(weights.values, dtype=dtype)
        self.model = copy.deepcopy(model)
        rounded = image_weights(model, parts_of(model.config).plan.off_image)
        for name, parameter in model.named_parameters():
            vector = self._values if name in rounded else weights.values
            view = parameter_view(vector.detach(), weights.starts[name], parameter)
            replace_parameter(self.model, name, nn.Parameter(view, parameter.requires_grad))
        self._parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._gradients = [parameter.grad for parameter in model.parameters()
                           if parameter.requires_grad and parameter.grad is not None]

    @torch.no_grad()
    def update(self) -> None:
        """Round the original's weights as they are now."""
        self._values.copy_(self._weights.values)

    def compute_gradients(self, loss: Tensor) -> None:
        """Write the gradients of ``loss`` to those of the original; 0 where ``loss`` does not depend on a parameter."""
        # Not ``backward()``, which would add to each ``grad`` with a GPU kernel of its own.
        found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        assert self._weights.gradients is not None
        if any(gradient is None for gradient in found):
            self._weights.gradients.zero_()
        known = [(to, gradient) for to, gradient in zip(self._gradients, found, strict=True) if gradient is not None]
        torch._foreach_copy_([to for to, _ in known], [gradient for _, gradient in known])
