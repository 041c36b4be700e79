"""The network that a step in 16 bits computes with: its weights rounded once, not where each of them is used.

Autocast rounds every weight in every call, and its gradient back, in a kernel each: a thousand small ones a step. Here
one kernel rounds the vector of all parameters, and the gradients come back in a few.
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
    """A network whose weights that meet images are views of one vector in ``dtype``; all others are the given ones'.

    Args:
        model: whose parameters are those of ``weights``.
        weights: with gradients.

    Attributes:
        model: the network. Under autocast in ``dtype`` it computes what the given one does, and nothing is rounded
            that was before. Its parameters have no ``grad``: ``compute_gradients`` finds them.
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
    def round(self) -> None:
        """Take over the weights as they are now."""
        self._values.copy_(self._weights.values)

    def compute_gradients(self, loss: Tensor) -> None:
        """Put the gradients of ``loss`` into those of ``weights``; what it does not depend on has zeros."""
        # Not ``backward()``: it would add to ``grad``, in a kernel each.
        found = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        assert self._weights.gradients is not None
        if any(gradient is None for gradient in found):
            self._weights.gradients.zero_()
        known = [(to, gradient) for to, gradient in zip(self._gradients, found, strict=True) if gradient is not None]
        torch._foreach_copy_([to for to, _ in known], [gradient for _, gradient in known])
