"""A Refiner of one network as the beginning of one for another, of any scale.

In LR pixels the widest blur of setting 1 is the same at every scale, so that the body's work is too: it is carried over
as it is. What depends on the scale is the number of result pixels per LR pixel, and the code of a blur: the layers that
meet them are multiplied with the resampling between the two grids of pixels, and with an affine map between the codes.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.model import DAN

KERNELS = 256  # that the map between codes is fitted to
RIDGE = 1e-4  # as a share of the codes' variance: without it, small errors of the code grow


def with_new_refiner(small: DAN, channels: int, groups: int, blocks: int) -> DAN:
    """The Restorer, Estimator and basis of ``small``, with a new Refiner, which adds nothing."""
    model = DAN(replace(small.config, refiner_channels=channels, refiner_groups=groups, refiner_blocks=blocks))
    others = {name: tensor for name, tensor in small.state_dict().items() if not name.startswith("Refiner.")}
    model.load_state_dict({**model.state_dict(), **others})
    return model


@torch.no_grad()
def with_refiner_of(small: DAN, source: DAN) -> DAN:
    """``small``, without its own Refiner if it has one, with that of ``source``, fitted to its scale and codes.

    Raises:
        DanFastError: ``source`` has no Refiner, or is for images of other channels.
    """
    if source.Refiner is None:
        raise DanFastError("it has no Refiner: expected weights of a network with one")
    if source.config.image_channels != small.config.image_channels:
        raise DanFastError(f"it is for images of {source.config.image_channels} channels: expected "
                           f"{small.config.image_channels}, as the network has")
    model = with_new_refiner(small, source.config.refiner_channels, source.config.refiner_groups,
                             source.config.refiner_blocks)
    refiner, known = model.Refiner, source.Refiner.state_dict()
    assert refiner is not None
    colours, old, new = small.config.image_channels, source.config.scale, small.config.scale
    to_old, to_new = _overlap(old, new), _overlap(new, old)
    head = known["head1.weight"]
    result = torch.einsum("oapq,ab->obpq", head[:, colours:], _per_colour(to_old, colours))
    known["head1.weight"] = torch.cat((head[:, :colours], result), 1)
    known["upscale.0.weight"] = torch.einsum("ba,aipq->bipq", _per_colour(to_new, colours), known["upscale.0.weight"])
    known["upscale.0.bias"] = _per_colour(to_new, colours) @ known["upscale.0.bias"]
    # With the same basis too, the same blur in LR pixels has another code at another scale.
    if old != new or not torch.equal(small.encoder, source.encoder):
        matrix, shift = _code_map(small, source)
        known["head2.bias"] = known["head2.bias"] + known["head2.weight"].flatten(1) @ shift
        known["head2.weight"] = (known["head2.weight"].flatten(1) @ matrix.T)[:, :, None, None]
    refiner.load_state_dict(known)
    return model


def _overlap(rows: int, columns: int) -> Tensor:
    """(rows, columns): the share of each of ``rows`` equal parts of a length that each of ``columns`` parts covers."""
    edges = [torch.arange(count + 1, dtype=torch.float64) / count for count in (rows, columns)]
    ends = torch.minimum(edges[0][1:, None], edges[1][1:])
    starts = torch.maximum(edges[0][:-1, None], edges[1][:-1])
    return ((ends - starts).clamp(min=0) * rows).float()


def _per_colour(overlap: Tensor, colours: int) -> Tensor:
    """The resampling of the pixels of a cell in the order of ``pixel_unshuffle``: colour, row, column."""
    return torch.kron(torch.eye(colours), torch.kron(overlap, overlap))


def _code_map(small: DAN, source: DAN) -> tuple[Tensor, Tensor]:
    """Matrix and shift with which code of ``source`` = code of ``small`` @ matrix + shift.

    They are fitted to isotropic Gaussian kernels of the widths, in LR pixels, that both networks know.
    """
    ranges = [[sigma / model.config.scale for sigma in Degradation.setting1(model.config.scale).sigma]
              for model in (small, source)]
    sigmas = torch.linspace(max(low for low, _ in ranges), min(high for _, high in ranges), KERNELS)  # in LR pixels
    codes = [model.encode(gaussian_kernels(sigmas * model.config.scale, model.config.kernel_size)).double()
             for model in (small, source)]
    means = [code.mean(0) for code in codes]
    ours, theirs = (code - mean for code, mean in zip(codes, means, strict=True))
    gram = ours.T @ ours
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    matrix = torch.linalg.solve(gram, ours.T @ theirs)
    return matrix.float(), (means[1] - means[0] @ matrix).float()
