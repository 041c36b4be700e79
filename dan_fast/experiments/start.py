"""Weights that all trainings of an experiment start from, and what of them is common to its networks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import checkpoint
from ..config import DANConfig
from ..errors import DanFastError
from ..model import DAN
from .experiment import Experiment, Variant


@dataclass(frozen=True)
class Start:
    """Weights to start from.

    Attributes:
        weights: a name of weights that ship, or the path of a file.
        sha256: of the file.
        network: the network that they belong to, on the CPU.
    """

    weights: str
    sha256: str
    network: DAN


def read_start(weights: str) -> Start:
    """Read ``weights``, a file or the name of weights that ship.

    Raises:
        DanFastError: there are none, they are damaged, or they have a Refiner.
    """
    path = checkpoint.weights_file(weights)
    network = checkpoint.load(weights)
    if network.config.refiner is not None:
        raise DanFastError(f"{weights}: has a Refiner, which no experiment trains or tests: take weights without one")
    name = weights if path.parent == checkpoint.WEIGHTS else str(path.resolve())
    return Start(name, hashlib.sha256(path.read_bytes()).hexdigest(), network)


def common_tensors(experiment: Experiment, start: Start) -> frozenset[str]:
    """The names of the tensors that every network of the experiment takes from the weights.

    These are what all of them have, with the shape that it has in the weights, without the modules that the question is
    about (``Experiment.anew``). So whatever starts anew on one side of a comparison starts anew on the other one too.

    Raises:
        DanFastError: there are none, or the weights are of a network that computes something else.
    """
    if experiment.refuses_weights:
        raise DanFastError(f"--init {start.weights}: this question is asked without weights to start from, as "
                           f"{experiment.refuses_weights}; leave it out")
    own, asked = start.network.config.group_residual, experiment.variants[0].preset.config.group_residual
    if own != asked:
        raise DanFastError(f"--init {start.weights}: its group_residual is {own!r}, expected {asked!r}, that of the "
                           "preset")
    common = {name: tuple(tensor.shape) for name, tensor in start.network.state_dict().items()
              if not name.startswith(experiment.anew)}
    for variant in experiment.variants:
        shapes = {name: tuple(tensor.shape) for name, tensor in _shapeless(variant).state_dict().items()}
        common = {name: shape for name, shape in common.items() if shapes.get(name) == shape}
    # Buffers are no weights, and some biases fit networks of every width.
    if not any("." in name and len(shape) > 1 for name, shape in common.items()):
        raise DanFastError(f"--init {start.weights}: no weight of it fits all networks of this experiment: take "
                           "weights of the preset's shape")
    return frozenset(common)


def started_anew(model: DAN, common: Collection[str]) -> int:
    """The number of parameters that are not among the tensors ``common``."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name not in common)


def check_complete(experiment: Experiment, start: Start, common: Collection[str]) -> None:
    """Raise DanFastError unless every network of the experiment is that of the weights and needs no training."""
    for variant in experiment.variants:
        if anew := started_anew(_shapeless(variant), common):
            raise DanFastError(f"--steps 0: {anew:,} parameters of {variant.name!r} are not taken from {start.weights} "
                               "and would be tested untrained: expected weights of the preset's shape, and a question "
                               "about trained ones, such as iterations")
        trained, asked = start.network.config.iterations, variant.preset.config.iterations
        if trained != asked:
            raise DanFastError(f"--steps 0: {start.weights} was trained with {trained} iterations, expected {asked}, "
                               "the preset's")


def _shapeless(variant: Variant) -> DAN:
    """The variant's network without memory for its tensors."""
    config: DANConfig = variant.preset.config
    with torch.device("meta"):
        encoder: Tensor = torch.empty(config.kernel_size**2, config.code_length)
        return variant.build(config, encoder)
