"""The reference model, against numbers from the published implementation and against itself."""

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from support.networks import tiny_config
from support.parity import network_case

from dan_fast import DAN, DANConfig
from dan_fast.checkpoint import infer_config
from dan_fast.training.step import losses

PARITY = ["danv1_x2_aniso", "danv2_x3_iso", "danv2_x4_iso"]


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.fixture(params=PARITY)
def parity(request, shared):
    """The tensors of one parity file, and the network in it."""
    with safe_open(shared / "parity" / f"{request.param}.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        iterations = int(file.metadata()["iterations"])
    state = {name.removeprefix("state."): t for name, t in tensors.items() if name.startswith("state.")}
    model = DAN(infer_config(state))
    model.load_state_dict(state)
    return tensors, model, iterations


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_matches_the_published_network(version):
    case = network_case(version)
    model = DAN(infer_config(case.state))
    model.load_state_dict(case.state)
    outputs = model.iterate(case.lr, case.iterations)
    found = {"sr": outputs[-1].sr, **{f"code.{i}": out.code for i, out in enumerate(outputs)}}
    if version == "v2":
        found |= {f"kernel.{i}": out.kernel.flatten(1) for i, out in enumerate(outputs)}
    assert found.keys() == case.results.keys()
    for name, tensor in found.items():
        assert relative_error(tensor, case.results[name]) < 1e-5, name


def test_every_iteration_matches_the_published_outputs(parity):
    tensors, model, iterations = parity
    for i, out in enumerate(model.iterate(tensors["lr"], iterations)):
        assert relative_error(out.sr, tensors[f"sr.{i}"]) < 1e-5
        assert relative_error(out.code, tensors[f"code.{i}"]) < 1e-5
        if model.config.version == "v2":
            assert relative_error(out.kernel.flatten(1), tensors[f"kernel.{i}"]) < 1e-5


def test_losses_and_gradients_match_the_published_ones(parity):
    tensors, model, iterations = parity
    k = model.config.kernel_size
    loss = losses(model.train(), tensors["lr"], tensors["hr"], tensors["kernel"].view(-1, k, k), iterations)
    assert relative_error(loss.sr, tensors["loss_sr"]) < 1e-5
    assert relative_error(loss.kernel, tensors["loss_kernel"]) < 1e-5
    (loss.sr + loss.kernel).backward()
    named = {f"grad.{name}": p.grad for name, p in model.named_parameters()}
    assert {name for name in tensors if name.startswith("grad.")} == set(named)
    for name, gradient in named.items():
        assert relative_error(gradient, tensors[name]) < 1e-4, name


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("image_channels", [1, 3])
def test_shapes_of_every_setting(version, scale, image_channels):
    config = DANConfig(version=version, scale=scale, image_channels=image_channels, channels=16, blocks=1,
                       groups=0 if version == "v1" else 1, estimator_channels=16, estimator_blocks=1,
                       kernel_size=6, code_length=3, iterations=2)
    out = DAN(config)(torch.rand(2, image_channels, 7, 5))
    assert out.sr.shape == (2, image_channels, 7 * scale, 5 * scale)
    assert out.code.shape == (2, 3)
    if version == "v1":
        assert out.kernel is None
    else:
        assert out.kernel.shape == (2, 6, 6)
        torch.testing.assert_close(out.kernel.sum((1, 2)), torch.ones(2))


def test_group_residuals_differ_as_documented():
    doubled, plain = (DAN(tiny_config(group_residual=r)) for r in ("doubled", "plain"))
    plain.load_state_dict(doubled.state_dict())
    x, z = torch.rand(1, 16, 6, 6), torch.rand(1, 16, 1, 1)
    block = doubled.Restorer.body[0].body[0]
    bx, bz = block(x, z)
    for model, expected in ((doubled, (2 * bx, 2 * bz)), (plain, (x + bx, z + bz))):
        for got, want in zip(model.Restorer.body[0](x, z), expected, strict=True):
            torch.testing.assert_close(got, want)


def test_only_the_last_iteration_learns_unless_asked():
    lr = torch.rand(1, 3, 8, 8)
    last, everything = (DAN(tiny_config(iterations=3, gradient=g)) for g in ("last", "all"))
    everything.load_state_dict(last.state_dict())
    for a, b in zip(last.iterate(lr), everything.iterate(lr), strict=True):
        torch.testing.assert_close(a.sr, b.sr)
    outputs = last.iterate(lr)
    assert [out.sr.requires_grad for out in outputs] == [False, False, True]
    # In "last", the kernel's loss must not reach the Restorer; in "all", it must.
    for model, reaches in ((last, False), (everything, True)):
        model(lr).kernel.square().sum().backward()
        assert (next(model.Restorer.parameters()).grad is not None) is reaches
        assert next(model.Estimator.parameters()).grad is not None


def test_last_iteration_gradients_are_those_of_the_detached_unroll():
    """The early iterations under no_grad change nothing: a plain detached loop gives the same gradients."""
    model = DAN(tiny_config(iterations=3)).double()
    lr, hr = torch.rand(2, 3, 8, 6).double(), torch.rand(2, 3, 32, 24).double()
    F.l1_loss(model(lr).sr, hr).backward()
    fast = [p.grad.clone() for p in model.Restorer.parameters()]
    model.zero_grad()
    code = model.init_ker_map.double().expand(2, -1)
    for _ in range(3):
        sr = model.Restorer(lr, code.detach())
        code = model.encode(model.Estimator(sr.detach(), lr))
    F.l1_loss(sr, hr).backward()
    for a, b in zip(fast, model.Restorer.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-12, atol=1e-14)


def test_images_of_a_batch_do_not_mix():
    model = DAN(tiny_config()).double()
    lr = torch.rand(3, 3, 9, 7).double()
    together = model(lr)
    for i in range(3):
        alone = model(lr[i:i + 1])
        torch.testing.assert_close(together.sr[i:i + 1], alone.sr, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.kernel[i:i + 1], alone.kernel, rtol=1e-12, atol=1e-12)


def test_non_contiguous_input(tiny_model):
    lr = torch.rand(1, 8, 6, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(tiny_model(lr).sr, tiny_model(lr.contiguous()).sr, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("lr", "word"), [
    (torch.rand(3, 8, 8), "shape"), (torch.rand(1, 1, 8, 8), "shape"), (torch.rand(1, 3, 0, 8), "shape"),
    (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
])
def test_bad_input_is_explained(tiny_model, lr, word):
    with pytest.raises(ValueError, match=word):
        tiny_model(lr)


def test_iterations_are_free_at_run_time(tiny_model):
    lr = torch.rand(1, 3, 8, 8)
    assert len(tiny_model.iterate(lr, 7)) == 7
    torch.testing.assert_close(tiny_model(lr, 2).sr, tiny_model.iterate(lr)[1].sr)
    with pytest.raises(ValueError, match="iterations"):
        tiny_model(lr, 0)


def test_an_encoder_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="encoder"):
        DAN(tiny_config(), torch.zeros(441, 9))


def test_published_size():
    assert sum(p.numel() for p in DAN(DANConfig()).parameters()) == pytest.approx(4.71e6, rel=2e-3)
