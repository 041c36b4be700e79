"""Tests that all operators of compiled 3x3 convolutions share.

A test module derives a class from ``StackTests``, which names its operator and draws its arguments.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import dan_fast_kernels
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from dan_fast.errors import DanFastError
from dan_fast.ops import backend, packing
from support.winograd import MARGIN, Rounded


def doubled(arguments):
    return tree_map_only(Tensor, Tensor.double, arguments)


def draw(*shape: int) -> Tensor:
    """A weight as a trained network has them, or a bias."""
    fan_in = shape[1] * shape[2] * shape[3] if len(shape) == 4 else 0
    return torch.randn(shape) * ((2 / fan_in) ** 0.5 if fan_in else 0.1)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Root mean square of the error relative to the result."""
    return ((found - exact).norm() / exact.norm()).item()


def each_number_of_threads(call) -> list[Tensor]:
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results += [call(), call()]
        return results
    finally:
        torch.set_num_threads(before)


class StackTests:
    """``case(batch, channels, height, width, **variant)`` draws the operator's arguments: x first, the weights last.
    ``module()`` is a part of a network, ``arguments(module, x)`` the operator's for it.
    """

    op: Any
    reference: Any
    registered: Any  # of torch.ops
    bound = 1e-6  # of the error relative to the result; a wrong tile, row or strip is wrong by 1e-1
    variants: tuple[dict[str, Any], ...] = ({},)

    def case(self, batch: int, channels: int, height: int, width: int, **variant: Any) -> tuple:
        raise NotImplementedError

    def module(self) -> torch.nn.Module:
        raise NotImplementedError

    def arguments(self, module: torch.nn.Module, x: Tensor) -> tuple:
        raise NotImplementedError

    def flat(self, arguments: tuple) -> tuple:
        """The arguments of the registered operator."""
        raise NotImplementedError

    def changed(self, module: torch.nn.Module) -> torch.nn.Conv2d:
        """The layer that a test changes."""
        return [part for part in module.modules() if isinstance(part, torch.nn.Conv2d) and part.kernel_size == (3, 3)
                ][-1]

    def error(self, arguments: tuple) -> float:
        """Root mean square of the operator's error relative to the result."""
        found, exact = self.op(*arguments), self.reference(*doubled(arguments))
        assert found.shape == exact.shape and found.dtype == torch.float32
        assert found.is_contiguous(memory_format=torch.channels_last)
        return relative_error(found, exact)

    def assert_errs_as_winograd_does(self, arguments: tuple) -> None:
        with Rounded():
            rounded = self.reference(*arguments)
        allowed = MARGIN * relative_error(rounded, self.reference(*doubled(arguments)))
        found = self.error(arguments)
        assert found <= allowed, f"{found / 2**-24:.1f} units of 2^-24, expected at most {allowed / 2**-24:.1f}"

    @pytest.mark.parametrize("channels", [16, 32, 64])
    def test_any_size(self, native, channels):
        """On a few pixels a rounding error is chance: one bound for all."""
        sizes = [(1, 1), (1, 37), (37, 1), (2, 3), (4, 4), (5, 9), (8, 8), (13, 17), (23, 6)]
        sizes += [tuple(torch.randint(1, 30, (2,)).tolist()) for _ in range(3)]
        for variant in self.variants:
            for number, (height, width) in enumerate(sizes):
                error = self.error(self.case(1 + number % 3, channels, height, width, **variant))
                assert error <= self.bound, (variant, height, width)

    def test_rows_longer_than_a_step(self, native):
        """An image so wide that the first convolution is only a few rows ahead of the second."""
        for variant in self.variants:
            assert self.error(self.case(1, 16, 41, 500, **variant)) <= self.bound

    @pytest.mark.parametrize("batch, height, width", [(1, 45, 19), (2, 9, 9), (3, 18, 130)])
    @pytest.mark.parametrize("channels", [16, 64])
    def test_same_bits_for_any_number_of_threads(self, native, batch, height, width, channels):
        for variant in self.variants:
            arguments = self.case(batch, channels, height, width, **variant)
            first, *others = each_number_of_threads(lambda arguments=arguments: self.op(*arguments))
            assert all(torch.equal(first, other) for other in others)

    def test_calls_from_several_threads_at_once(self, native):
        """The results are right, and the threads may still run on every core that they might run on before."""
        def cores() -> list[set[int]]:
            found = []
            for task in os.listdir("/proc/self/task") if hasattr(os, "sched_getaffinity") else ():
                with suppress(ProcessLookupError):  # it has just ended
                    found.append(os.sched_getaffinity(int(task)))
            return found

        allowed = cores()
        for variant in self.variants:
            arguments = self.case(2, 16, 45, 33, **variant)
            expected = self.op(*arguments)
            with ThreadPoolExecutor(3) as pool:
                results = [pool.submit(self.op, *arguments) for _ in range(24)]
                assert all(torch.equal(result.result(), expected) for result in results)
        assert all(own in allowed for own in cores())

    def test_an_image_is_alone_in_its_batch(self, native):
        for variant in self.variants:
            *images, weights = self.case(3, 16, 13, 22, **variant)
            together = self.op(*images, weights)
            for n in range(3):
                assert torch.equal(together[n:n + 1], self.op(*(image[n:n + 1] for image in images), weights))

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_what_is_not_finite_stays_so(self, native, value):
        for variant in self.variants:
            x, *others = self.case(2, 16, 30, 30, **variant)
            x[1, 3, 20, 20] = value
            bad = ~self.reference(x, *others).isfinite()
            found = self.op(x, *others)
            assert bad[1].any() and (~found[bad].isfinite()).all() and found[0].isfinite().all()

    def test_any_layout(self, native):
        last = {"memory_format": torch.channels_last}
        for variant in self.variants:
            arguments = self.case(2, 16, 7, 9, **variant)
            expected = self.op(*arguments)
            images_last = tree_map_only(Tensor, lambda t: t.contiguous(**last) if t.dim() == 4 else t, arguments)
            assert torch.equal(self.op(*images_last), expected)
            turned = tree_map_only(Tensor, lambda t: t.mT.contiguous().mT if t.dim() > 1 else t, arguments)
            assert torch.equal(self.op(*turned), expected)

    def test_reads_only_its_arguments(self, native):
        """NaNs before, between and behind the values of tensors that are parts of larger ones."""
        def inside(tensor: Tensor) -> Tensor:
            around = torch.full([size + 2 for size in tensor.shape], float("nan"))
            return around[tuple(slice(1, -1) for _ in tensor.shape)].copy_(tensor)

        for variant in self.variants:
            arguments = self.case(2, 16, 7, 9, **variant)
            assert torch.equal(self.op(*tree_map_only(Tensor, inside, arguments)), self.op(*arguments))

    @pytest.mark.parametrize("how", ["in place", "replaced", "data", "loaded", "optimiser", "fused optimiser"])
    def test_a_changed_parameter_is_noticed(self, native, how):
        module = self.module()
        x = torch.randn(1, 16, 9, 9)
        torch.manual_seed(1)

        def both():
            with torch.no_grad(), torch.random.fork_rng():
                arguments = self.arguments(module, x)
                return self.op(*arguments), self.reference(*arguments)

        before, _ = both()
        conv = self.changed(module)
        if how == "in place":
            with torch.no_grad():
                conv.bias[3] += 1
        elif how == "replaced":
            conv.weight = torch.nn.Parameter(conv.weight * 2)
        elif how == "data":
            conv.weight.data = conv.weight.data * 2
        elif how == "loaded":
            module.load_state_dict({name: value * 1.5 for name, value in module.state_dict().items()})
        else:
            fused = how == "fused optimiser"
            optimiser = torch.optim.Adam([conv.weight], 0.1, fused=fused)
            conv.weight.sum().backward()
            optimiser.step()
            if fused:  # PyTorch does not count its steps; our training does this after each
                torch.autograd.graph.increment_version([conv.weight])
        found, expected = both()
        assert (found - before).abs().max() > 1e-2
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_parameters_made_in_inference_mode(self, native):
        with torch.inference_mode():
            *images, weights = self.case(1, 16, 8, 8)
            self.op(*images, weights)
            weights.weight1[-1].mul_(3)
            torch.testing.assert_close(self.op(*images, weights), self.reference(*images, weights),
                                       rtol=1e-4, atol=1e-4)

    def test_packed_weights_go_with_the_parameters(self, native):
        arguments = self.case(1, 16, 4, 4)
        count = len(packing._packed)
        self.op(*arguments)
        self.op(*arguments)
        assert len(packing._packed) == count + 1
        del arguments
        assert len(packing._packed) == count

    @pytest.mark.parametrize("name", ["torch", "cpp"])
    def test_opcheck(self, native, name):
        for variant in self.variants:
            with backend(name):
                torch.library.opcheck(self.registered, self.flat(self.case(2, 16, 5, 6, **variant)))

    def test_compiles_and_exports(self):
        tests = self

        class Body(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.part = tests.module().requires_grad_(False)

            def forward(self, *images):
                return tests.op(*images, tests.arguments(self.part, images[0])[-1])

        body = Body()
        *images, _ = self.arguments(body.part, torch.randn(2, 16, 6, 7))
        expected = body(*images)
        torch.testing.assert_close(torch.compile(body, fullgraph=True)(*images), expected)
        program = torch.export.export(body, tuple(images))
        assert self.registered in [node.target for node in program.graph.nodes]
        torch.testing.assert_close(program.module()(*images), expected)

    def test_backends(self, native):
        arguments = self.case(1, 16, 5, 5)
        with backend("torch"):
            assert torch.equal(self.op(*arguments),
                               self.reference(*arguments).contiguous(memory_format=torch.channels_last))
        other = self.case(1, 28, 5, 5)
        with backend("cpp"):
            with pytest.raises(DanFastError, match="C is 28 and the extension takes multiples of 16 up to 80"):
                self.op(*other)
            with pytest.raises(DanFastError, match="float64 and the extension"):
                self.op(*doubled(arguments))
        # Without a backend by name, PyTorch computes these.
        torch.testing.assert_close(self.op(*other), self.reference(*other))

    def test_without_the_extension(self, monkeypatch):
        monkeypatch.setattr(dan_fast_kernels, "EXTENSION", None)
        arguments = self.case(1, 16, 5, 5)
        torch.testing.assert_close(self.op(*arguments), self.reference(*arguments))

    def test_autocast_leaves_it_in_float32(self):
        arguments = self.case(1, 28, 5, 5)
        with torch.autocast("cpu", torch.bfloat16):
            found = self.op(*arguments)
        torch.testing.assert_close(found, self.reference(*arguments))

    def test_a_needed_gradient_is_refused(self):
        x, *others = self.case(1, 16, 5, 5)
        with pytest.raises(ValueError, match="has no gradient"):
            self.op(x.requires_grad_(), *others)
