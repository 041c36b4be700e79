import json
import zipfile
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.networks import REFINER, tiny_config

import dan_fast
from dan_fast import DAN
from dan_fast.checkpoint import METADATA_KEY, infer_config
from dan_fast.errors import CheckpointError

SHAPES = [
    {"scale": 4}, {"scale": 3}, {"scale": 2, "kernel_size": 11}, {"groups": 3, "blocks": 2},
    {"upsampler": "published", "group_residual": "doubled"}, {"image_channels": 1, "code_length": 15},
    {"upsampler": "published", "group_residual": "doubled", "scale": 2, "image_channels": 1, "kernel_size": 8},
    {"version": "v1", "groups": 0, "blocks": 2, "upsampler": "published", "group_residual": "doubled", "scale": 3},
    {"version": "v1", "groups": 0, "channels": 32, "estimator_blocks": 2}, REFINER,
    {"upsampler": "published", "group_residual": "doubled", "scale": 2, "image_channels": 1, **REFINER},
]


def same(a: DAN, b: DAN) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_config_follows_from_names_and_shapes(shape):
    config = tiny_config(**shape)
    assert infer_config(DAN(config).state_dict()) == config


@pytest.mark.parametrize("name", ["danv1_x2_aniso", "danv2_x3_iso", "danv2_x4_iso"])
def test_published_names(shared, name, tmp_path):
    """A file as the published implementation writes it loads, and goes back to the same tensors."""
    tensors = safetensors.torch.load_file(shared / "parity" / f"{name}.safetensors")
    state = {n.removeprefix("state."): t for n, t in tensors.items() if n.startswith("state.")}
    torch.save(state, tmp_path / "published.pth")
    model = dan_fast.load(tmp_path / "published.pth")
    back = dan_fast.to_published(model)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


def test_round_trip_keeps_everything(tmp_path):
    model = DAN(tiny_config(group_residual="doubled", gradient="all"))
    dan_fast.save(model, tmp_path / "m.safetensors")
    loaded = dan_fast.load(tmp_path / "m.safetensors", iterations=7)
    assert loaded.config == replace(model.config, iterations=7)
    assert same(model, loaded) and not loaded.training
    (tmp_path / "other").write_bytes(b"")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert dan_fast.load(tmp_path / "m.safetensors", dtype=torch.bfloat16).encoder.dtype == torch.bfloat16


def test_parameters_in_half_the_room(tmp_path):
    model = DAN(tiny_config(**REFINER)).eval()
    for dtype in (torch.float32, torch.float16):
        dan_fast.save(model, tmp_path / f"{dtype}.safetensors", dtype=dtype)
    files = [tmp_path / f"{dtype}.safetensors" for dtype in (torch.float32, torch.float16)]
    saved = sum(parameter.numel() for parameter in model.parameters()) * 2
    assert files[0].stat().st_size - files[1].stat().st_size == pytest.approx(saved, rel=0.01)
    loaded = dan_fast.load(files[1])
    assert torch.equal(loaded.encoder, model.encoder)
    for found, parameter in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, parameter.half().float())
    assert same(dan_fast.load(files[0]), model)
    model.Refiner.fusion.bias.data[2] = 1e5
    for dtype in (torch.float16, torch.int8):
        with pytest.raises(CheckpointError, match=f"{dtype} cannot hold"):
            dan_fast.save(model, tmp_path / "large.safetensors", dtype=dtype)
    assert not (tmp_path / "large.safetensors").exists()


@pytest.mark.parametrize("wrap", [
    lambda s: {f"module.{k}": v for k, v in s.items()},
    lambda s: {"state_dict": s}, lambda s: {"params": s, "epoch": 3},
    lambda s: {k: v.half() for k, v in s.items()},
])
@pytest.mark.parametrize("legacy", [False, True])
def test_what_trainers_make_of_a_state_dict(tiny_model, tmp_path, wrap, legacy):
    torch.save(wrap(tiny_model.state_dict()), tmp_path / "m.pth", _use_new_zipfile_serialization=not legacy)
    loaded = dan_fast.load(tmp_path / "m.pth")
    for name, tensor in tiny_model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)


def test_a_loaded_network_trains(tiny_weights):
    model = dan_fast.load(tiny_weights).train()
    model(torch.rand(1, 3, 8, 8)).sr.mean().backward()
    assert all(p.grad is not None for p in model.Restorer.parameters())


def refused(path, *words):
    with pytest.raises(CheckpointError) as caught:
        dan_fast.load(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_missing_files_and_names(tmp_path):
    refused(tmp_path / "no.pth", "no.pth", "default")
    refused("v9-huge", "v9-huge", "default")
    refused(tmp_path, str(tmp_path))


def test_truncated_files(tiny_model, tiny_weights, tmp_path):
    torch.save(tiny_model.state_dict(), tmp_path / "m.pth")
    for path in (tmp_path / "m.pth", tiny_weights):
        whole = path.read_bytes()
        for share in (0.0, 0.01, 0.5, 0.99):
            path.write_bytes(whole[:int(len(whole) * share)])
            refused(path, path.name, "damaged")


def test_foreign_files(tmp_path):
    for name, content in (("a.pth", b"not a checkpoint"), ("b.safetensors", b"\x89PNG\r\n\x1a\n" + b"0" * 64)):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, name)
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "c.pth")
    refused(tmp_path / "c.pth", "not a DAN network", "conv.weight")
    torch.save([1, 2, 3], tmp_path / "d.pth")
    refused(tmp_path / "d.pth", "list")
    torch.save({}, tmp_path / "e.pth")
    refused(tmp_path / "e.pth", "no tensors")


class Evil:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return (open, ("evil-was-here", "w"))


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"Restorer.head1.weight": Evil()}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", "evil.pth")
    assert not (tmp_path / "evil-was-here").exists()


def test_sizes_that_a_file_only_claims(tiny_model, tmp_path):
    state = dict(tiny_model.state_dict())
    state["encoder"] = torch.zeros(1).expand(1, 100_000**2, 10)
    torch.save(state, tmp_path / "bomb.pth")
    refused(tmp_path / "bomb.pth", "claim")


def test_a_zip_that_would_unpack_more_than_it_holds(tiny_model, tmp_path):
    torch.save(tiny_model.state_dict(), tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, \
            zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name) + bytes(10_000_000 if name.endswith("data.pkl") else 0))
    refused(tmp_path / "bomb.pth", "not compressed", "torch.save")


def test_metadata_that_is_nested_without_end(tiny_model, tmp_path):
    metadata = {METADATA_KEY: "[" * 100_000}
    safetensors.torch.save_file(tiny_model.state_dict(), tmp_path / "a.safetensors", metadata)
    refused(tmp_path / "a.safetensors", METADATA_KEY)


@pytest.mark.parametrize("protocol", [2, 18])
def test_what_pytorch_thinks_of_a_pickle_is_not_printed(tmp_path, recwarn, protocol):
    """Its error advises how to run the pickle, in colours; its warning is of the protocol."""
    torch.save({"a": 1}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes().replace(b"\x80\x02", bytes([0x80, protocol]))
    (tmp_path / "a.pth").write_bytes(content.replace(b"K\x01s", b"cos\nsystem\ns"))
    refused(tmp_path / "a.pth", "more than plain tensors")
    assert len(recwarn) == 0


CONTRADICTIONS = {
    "missing tensor": (lambda s: s.pop("Restorer.fusion.bias"), "Restorer.fusion.bias"),
    "missing encoder": (lambda s: s.pop("encoder"), "encoder"),
    "unknown tensor": (lambda s: s.update(extra=torch.zeros(1)), "extra"),
    "odd encoder": (lambda s: s.update(encoder=torch.zeros(1, 440, 10)), "encoder"),
    "other kernel size": (lambda s: s.update(encoder=torch.zeros(1, 121, 10)), "contradict"),
    "other code length": (lambda s: s.update({"Restorer.head2.weight": torch.zeros(16, 9, 1, 1)}), "head2"),
    "no channels": (lambda s: s.update({"Restorer.head1.weight": torch.zeros(0, 3, 3, 3)}), "head1"),
    "flat head": (lambda s: s.update({"Restorer.head1.weight": torch.zeros(16)}), "dimensions"),
    "impossible scale": (lambda s: s.update({"Restorer.upscale.0.weight": torch.zeros(75, 16, 3, 3)}), "scale"),
    "unknown upsampler": (lambda s: s.update({"Restorer.upscale.7.weight": torch.zeros(1)}), "upscale"),
    "stray block": (lambda s: s.update({"Restorer.body.0.body.999999999.body1.0.weight": torch.zeros(1)}), "block"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_contradictions_are_named(tiny_model, tmp_path, case, kind):
    change, word = CONTRADICTIONS[case]
    state = dan_fast.to_published(tiny_model)
    change(state)
    path = tmp_path / f"m.{kind}"
    torch.save(state, path) if kind == "pth" else safetensors.torch.save_file(state, path)
    refused(path, path.name, word)


@pytest.mark.parametrize(("metadata", "word"), [
    ("{", "metadata"), ('{"scale": 9}', "scale"), ('{"speed": 9}', "speed"), ("[]", "metadata"),
    (json.dumps({"channels": 48}), "channels"), ('{"iterations": 0}', "iterations=0"),
    ('{"iterations": 2.0}', "iterations=2.0"), ('{"iterations": true}', "iterations=True"),
    (json.dumps({**asdict(tiny_config()), "iterations": 10**9}), "at most 1000"),
])
def test_metadata_that_lies(tiny_model, tmp_path, metadata, word):
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file(dan_fast.to_published(tiny_model), path, {METADATA_KEY: metadata})
    refused(path, word)


# A network with each field at another value than a published network's.
CHANGED = [{"version": "v1", "groups": 0, "channels": 32, "estimator_channels": 32}, {"scale": 2}, {"scale": 3},
           {"image_channels": 1}, {"channels": 24}, {"groups": 2}, {"blocks": 2}, {"estimator_channels": 24},
           {"estimator_blocks": 2}, {"kernel_size": 5}, {"code_length": 4}, {"iterations": 2}, {"iterations": 7},
           {"group_residual": "doubled"}, {"upsampler": "published"}, {"gradient": "all"}, REFINER]


def test_every_field_is_changed_below():
    assert {name for change in CHANGED for name in change} == {field.name for field in fields(dan_fast.DANConfig)}


@pytest.mark.parametrize("change", CHANGED, ids=str)
def test_every_field_survives(change, tmp_path):
    model = dan_fast.DAN(tiny_config(**change))
    dan_fast.save(model, tmp_path / "m.safetensors")
    assert dan_fast.load(tmp_path / "m.safetensors").config == model.config


def test_iterations_are_the_files_unless_given(tiny_model, tmp_path):
    model = dan_fast.DAN(tiny_config(iterations=2)).eval()
    dan_fast.save(model, tmp_path / "m.safetensors")
    lr = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(dan_fast.load(tmp_path / "m.safetensors")(lr).sr, model(lr).sr)
        assert len(dan_fast.load(tmp_path / "m.safetensors").iterate(lr)) == 2
        assert len(dan_fast.load(tmp_path / "m.safetensors", iterations=3).iterate(lr)) == 3
    torch.save(dan_fast.to_published(model), tmp_path / "m.pth")
    assert dan_fast.load(tmp_path / "m.pth").config.iterations == 4


def test_saving_is_whole_or_not_at_all(tiny_model, tiny_weights, monkeypatch):
    before = tiny_weights.read_bytes()

    def fail(path, data):
        with path.open("wb") as file:
            file.write(data[:len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        dan_fast.save(tiny_model, tiny_weights)
    assert tiny_weights.read_bytes() == before
    assert list(tiny_weights.parent.iterdir()) == [tiny_weights]
    with pytest.raises(CheckpointError, match="safetensors"):
        dan_fast.save(tiny_model, tiny_weights.with_suffix(".pth"))


@pytest.mark.parametrize(("change", "word"), [
    (lambda s: s.pop("Refiner.fusion.bias"), "Refiner.fusion.bias"),
    (lambda s: s.update({"Refiner.head1.weight": torch.zeros(32, 3, 3, 3)}), "Refiner.head1.weight"),
    (lambda s: s.update({"Refiner.body.999999999.body.0.body1.0.weight": torch.zeros(1)}), "block"),
    (lambda s: s.pop("Refiner.head1.weight"), "Refiner"),
])
def test_refiners_that_are_not_whole(change, word, tmp_path):
    state = dan_fast.to_published(DAN(tiny_config(**REFINER)))
    change(state)
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", word)
