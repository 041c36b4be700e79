"""The training of a Refiner on cases, and where its weights begin."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.errors import DanFastError
from dan_fast.fast_model.alternation import Whole, restore
from dan_fast.fast_model.cells import to_cells, to_image
from dan_fast.fast_model.refiner import refine_with_gradients
from dan_fast.fast_model.versions import plan_for
from dan_fast.model import DAN

from .carried_over import with_new_refiner
from .cases import IMAGES, Batch, Cases, batch

BETAS = 0.9, 0.99
MOMENTUM = 0.95
AVERAGE = 0.999
WARMUP = 200  # steps
# The coefficients of the quintic that drives the singular values of a matrix to about 1 (Jordan et al., Muon, 2024).
QUINTIC = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


@dataclass(frozen=True)
class Recipe:
    """How a Refiner learns.

    Attributes:
        minutes: time of the training.
        true_codes: give it the codes of the true kernels, and what the Restorer makes of them, as the teacher had;
            otherwise the estimates.
        sharp_share: share of the loss to the photo; the rest is to the teacher.
        spread: standard deviation of what is added to the estimates' widths, as a share of the true width. Estimates
            are closer for photos that the Estimator was trained on than for any others: by 8 instead of 11 %, at x2 and
            sigma 1.2. A Refiner that learns with them alone trusts them too much. True codes stay as they are.
        largest_sigma: cases of wider kernels are left out; SRMDNF knows 15x15 taps, and is wrong from 3 on.
        learning_rate: Adam's, for the layers that are no 3x3 convolutions of the body.
        muon: length of a step of the body's 3x3 convolutions, in the spectral norm.
        lowers: lower both to 0 as a cosine; otherwise they stay.
    """

    minutes: float
    true_codes: bool
    sharp_share: float
    largest_sigma: float
    spread: float = 0.06
    learning_rate: float = 1e-4
    muon: float = 0.004
    lowers: bool = True
    batch: int = 4
    patch: int = 48
    seed: int = 0


@torch.no_grad()
def with_refiner(small: DAN, channels: int, groups: int, blocks: int) -> DAN:
    """``small`` with a new Refiner, which adds nothing yet, but computes the features of the Restorer.

    The Restorer's channels are its first ones, and do not depend on the others, which are random; each further group
    only doubles them at first.
    """
    model = with_new_refiner(small, channels, groups, blocks)
    assert model.Refiner is not None
    known = small.Restorer.state_dict()
    for name, new in model.Refiner.state_dict().items():
        old = known.get(name)
        if name.startswith("upscale"):
            continue
        if old is None:
            if ".body1.2." in name:
                new.zero_()
        elif name == "head1.weight":
            new[:len(old), :old.shape[1]] = old
            new[:len(old), old.shape[1]:] = 0
        elif old.dim() == 1 or name.startswith("head2"):
            new[:len(old)] = old
        else:
            new.normal_(std=old.std().item() * math.sqrt(0.5))
            new[:len(old), old.shape[1]:] = 0
            new[:len(old), :old.shape[1]] = old
    return model


def train(model: DAN, cases: Cases, recipe: Recipe, report: Callable[[int, float, DAN], None], every: int = 500
          ) -> None:
    """Train the Refiner of ``model`` in place; at the end it has the moving average of its weights.

    Args:
        report: called after every ``every`` steps and at the end with the step, the mean loss since the last call, and
            a copy of ``model`` with the averaged weights.

    Raises:
        DanFastError: there are fewer cases than patches in a batch, or no time.
    """
    refiner, scale = model.Refiner, model.config.scale
    assert refiner is not None
    model.requires_grad_(False).to(memory_format=torch.channels_last)
    refiner.requires_grad_(True)
    cases = _without_wide_kernels(cases, recipe.largest_sigma)
    if len(cases.sigma) < recipe.batch:
        raise DanFastError(f"{len(cases.sigma)} cases are fewer than the {recipe.batch} patches of a batch: make more")
    if not recipe.minutes > 0:
        raise DanFastError(f"minutes={recipe.minutes:g}: expected a positive number")
    body = [weight for name, weight in refiner.named_parameters()
            if weight.dim() == 4 and weight.shape[2] == 3 and name.startswith(("body", "fusion"))]
    others = [weight for weight in refiner.parameters() if not any(weight is taken for taken in body)]
    adam, momentum = torch.optim.Adam(others, betas=BETAS, fused=True), torch.zeros(len(body), *body[0].shape)
    average, plan = copy.deepcopy(model), plan_for(model, refines=False)
    rng, start, total, step = np.random.default_rng(recipe.seed), time.monotonic(), 0.0, 0
    while (share := (time.monotonic() - start) / (60 * recipe.minutes)) < 1:
        given = batch(cases, rng, recipe.batch, recipe.patch, scale, recipe.sharp_share)
        if not recipe.true_codes:
            given = given._replace(code=spread(model, given, recipe.spread, rng))
        loss = _loss(model, plan, given, recipe.true_codes)
        refiner.zero_grad()
        loss.backward()
        rate = min(1, (step + 1) / WARMUP) * (0.5 * (1 + math.cos(math.pi * share)) if recipe.lowers else 1)
        nn.utils.clip_grad_norm_(refiner.parameters(), 1.0)
        adam.param_groups[0]["lr"] = rate * recipe.learning_rate
        adam.step()
        _muon_step(body, momentum, rate * recipe.muon, first=step == 0)
        step += 1
        _average(average, model, 1 - min(AVERAGE, (1 + step) / (10 + step)))
        total += loss.item()
        if step % every == 0:
            report(step, total / every, average)
            total = 0.0
    if step % every:
        report(step, total / (step % every), average)
    model.load_state_dict(average.state_dict())


@torch.no_grad()
def spread(model: DAN, given: Batch, deviation: float, rng: np.random.Generator) -> Tensor:
    """The estimated codes, moved as if their widths were another one by ``deviation`` of the true width, on average."""
    factors = torch.from_numpy(rng.normal(1, deviation, len(given.sigma)).astype(np.float32)).clamp(min=0.5)
    true, other = (model.encode(gaussian_kernels(sigma, model.config.kernel_size))
                   for sigma in (given.sigma, given.sigma * factors))
    return given.code + other - true


def _loss(model: DAN, plan, given: Batch, true_codes: bool) -> Tensor:
    lr, code, sr = given.lr.contiguous(memory_format=torch.channels_last), given.code, given.sr
    if true_codes:
        with torch.no_grad():
            code = model.encode(gaussian_kernels(given.sigma, model.config.kernel_size))
            whole = Whole(plan, lr)
            restore(plan, whole, code)
            assert whole.sr is not None
            sr = whole.sr
    cells = to_cells(sr, model.config.scale).contiguous(memory_format=torch.channels_last)
    assert model.Refiner is not None
    found = to_image(refine_with_gradients(model.Refiner, lr, cells, code), model.config.scale)
    share = given.sharp_share
    return ((found - given.taught).abs() * (1 - share) + (found - given.hr).abs() * share).mean()


@torch.no_grad()
def _muon_step(weights: list[Tensor], momentum: Tensor, length: float, *, first: bool) -> None:
    """Move ``weights`` (O, I, 3, 3) along their gradients, made orthogonal as matrices (O, I * 9).

    The polynomial of a matrix X is one of X X^T times X, so that all iterations work on small matrices.
    """
    gradients = torch.stack([weight.grad.contiguous() for weight in weights if weight.grad is not None])
    momentum.copy_(gradients) if first else momentum.lerp_(gradients, 1 - MOMENTUM)
    x = gradients.lerp(momentum, MOMENTUM).flatten(2)
    x /= torch.linalg.matrix_norm(x, keepdim=True) + 1e-7
    gram = x @ x.mT
    product = torch.eye(x.shape[1]).expand_as(gram)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        polynomial = b * gram + c * gram @ gram
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        product, gram = polynomial @ product, polynomial @ gram @ polynomial
    for weight, direction in zip(weights, (product @ x).view_as(gradients), strict=True):
        weight.add_(direction, alpha=-length)


@torch.no_grad()
def _average(average: DAN, model: DAN, weight: float) -> None:
    for kept, now in zip(average.parameters(), model.parameters(), strict=True):
        if now.requires_grad:
            kept.lerp_(now, weight)


def _without_wide_kernels(cases: Cases, largest: float) -> Cases:
    rows = np.flatnonzero(cases.sigma < largest)
    return cases._replace(**{name: getattr(cases, name).of(rows) if name in IMAGES else getattr(cases, name)[rows]
                             for name in Cases._fields})
