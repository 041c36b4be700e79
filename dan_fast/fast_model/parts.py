"""The parts that every version of DAN must bring to the fast network; ``versions`` collects them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..config import DANConfig
from ..model import DAN
from .plan import Plan


class Reach(NamedTuple):
    """The distances that the layers of a version see, added up along the longest way through them.

    Attributes:
        restorer: LR pixels, from ``lr`` to the features.
        estimator_head: HR pixels, of the Estimator's convolution of the result.
        estimator: LR pixels, from that convolution's output to the sums over the image.
    """

    restorer: int
    estimator_head: int
    estimator: int


class Cost(NamedTuple):
    """Multiplications per LR pixel.

    Attributes:
        restorer_body: the Restorer's blocks as the paper writes them.
        planned_body: the same as the plan computes them, without Winograd's saving.
        estimator: the Estimator as the paper writes it, by part: ``"head of lr"``, ``"head"``, ``"body"``, ``"tail"``.
    """

    restorer_body: float
    planned_body: float
    estimator: Mapping[str, float]


class Parts(NamedTuple):
    """The parts that differ between versions. All parts are required.

    Attributes:
        plan: the network prepared for inference.
        features: the Restorer's body with gradients, from (restorer, lr, code): (B, C, h, w).
        estimate: the Estimator with gradients, from (model, the result as cells, lr): the kernel (B, k, k), or None
            where it is not estimated, and the code (B, c).
        reach: how far a network of this shape sees.
        cost: how many multiplications a network of this shape takes.
        plans_training_on_cpu: whether a plan made for a single training step saves time on a CPU.
    """

    plan: type[Plan]
    features: Callable[[Any, Tensor, Tensor], Tensor]
    estimate: Callable[[DAN, Tensor, Tensor], tuple[Tensor | None, Tensor]]
    reach: Callable[[DANConfig], Reach]
    cost: Callable[[DANConfig], Cost]
    plans_training_on_cpu: bool
