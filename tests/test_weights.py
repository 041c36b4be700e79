"""The weights that ship: they load, have a card, and reach the figures that the cards and docs/results state."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import dan_fast
from dan_fast.checkpoint import BEST, DEFAULT, WEIGHTS
from dan_fast.evaluation.degraded_set import GAUSSIAN8_SIGMA, PROTOCOLS, DegradedSet, images_below, isotropic
from dan_fast.evaluation.measure import measure
from dan_fast.evaluation.summary import ALL_KERNELS, MEASURES, Summary, read_summary, summarize
from dan_fast.files import SAMPLES

RESULTS = Path(__file__).parents[1] / "docs" / "results"
NAMES = [name for name in dan_fast.available() if name != "default"]
# By how much a figure may differ between machines, whose float32 sums are rounded in another order.
DECIBELS, KERNEL_ERROR = 0.02, 0.005
MARGINS = {**{f"{prefix}psnr_{channels}": DECIBELS for prefix in ("", "bicubic_") for channels in ("y", "rgb")},
           **{f"{prefix}ssim_{channels}": 0.001 for prefix in ("", "bicubic_") for channels in ("y", "rgb")},
           "kernel_error": KERNEL_ERROR, "kernel_psnr": 0.2}
# PSNR on Y of bicubic and of the network, and the kernel error, on the sample "dog" blurred with sigma 0.6 * scale.
DOG = {
    "v2-0.3M-x2": (35.787, 40.365, 0.063), "v2-0.3M-irregular-x2": (35.787, 38.254, 0.245),
    "v2-0.3M-x3": (33.280, 36.694, 0.135),
    "v2-1.7M-x2": (35.787, 40.674, 0.067), "v2-1.7M-x3": (33.280, 36.809, 0.111), "v2-1.7M-x4": (31.657, 34.927, 0.189),
    "v2-0.3M-x4": (31.657, 34.595, 0.189), "v2-0.3M-irregular-x4": (31.657, 34.610, 0.131),
}


def results(name: str, protocol: str = "") -> dict[tuple[str, str], Summary]:
    """The committed figures of the weights ``name``, by set and kernel."""
    return {(line.set, line.sigma): line for line in read_summary(RESULTS / protocol / f"{name}.csv")}


def of_protocol(protocol: str) -> list[str]:
    return sorted(path.stem for path in (RESULTS / protocol).glob("*.csv"))


def assert_reached(found: Summary, stated: Summary) -> None:
    """Neither worse nor better than stated: what is better is not on the page yet."""
    assert set(MARGINS) == set(MEASURES)
    for column, margin in MARGINS.items():
        assert found.figures[column] == pytest.approx(stated.figures[column], abs=margin), column


def measured(name: str, folder: Path, protocol) -> list[Summary]:
    model = dan_fast.load(name)
    degraded = DegradedSet("Set5", images_below([folder]), model.config.scale, protocol)
    return summarize(measure(degraded, dan_fast.Upscaler(model)))


@pytest.mark.parametrize("name", NAMES)
def test_every_network_loads_and_has_a_card(name):
    model = dan_fast.load(name)
    assert model(torch.rand(1, 3, 16, 16)).sr.isfinite().all()
    card = (WEIGHTS / f"{name}.md").read_text()
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
    for word in ("Data", "Steps", "Licence", "Not good at"):
        assert word in card, word


@pytest.mark.parametrize("name", NAMES)
def test_the_card_states_what_was_measured(name):
    """The tables under "Figures": one for Gaussian8, and one for irregular kernels where the text before says so."""
    figures = (WEIGHTS / f"{name}.md").read_text().split("**Figures.**")[1].split("**Licence.**")[0]
    tables = re.findall(r"((?:[^|\n].*\n)+)\n((?:\|.*\n)+)", figures)
    assert tables
    for text, table in tables:
        protocol = "irregular" if "--protocol irregular" in " ".join(text.split()) else ""
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        assert [row[0] for row in rows] == ["Set5", "Set14", "B100"]
        for name_of_set, *cells in rows:
            for column, cell in zip(header[1:], cells, strict=True):
                other = re.fullmatch(r"`(.*)`", column)
                stated = results(other[1] if other else name, protocol)[name_of_set, ALL_KERNELS].figures
                prefix = "bicubic_" if column == "bicubic" else ""
                assert cell == (f"{stated['kernel_error']:.3f}" if column.startswith("kernel error") else
                                f"{stated[f'{prefix}psnr_y']:.2f} / {stated[f'{prefix}ssim_y']:.4f}")


def test_results_are_of_all_weights():
    assert of_protocol("") == sorted(NAMES)
    assert of_protocol("irregular") == sorted(name for name in NAMES if not name.endswith("x3"))


@pytest.mark.parametrize("scale", BEST)
def test_the_best_of_each_scale(scale):
    psnr = {name: np.mean([line.figures["psnr_y"] for (_, sigma), line in results(name).items()
                           if sigma == ALL_KERNELS]) for name in NAMES if name.endswith(f"x{scale}")}
    assert max(psnr, key=psnr.get) == BEST[scale]


def test_default_is_the_best_at_x4():
    assert BEST[4] == DEFAULT
    default, best = dan_fast.load("default"), dan_fast.load(DEFAULT)
    assert all(torch.equal(a, b) for a, b in zip(default.parameters(), best.parameters(), strict=True))


@pytest.mark.parametrize("scale", BEST)
def test_a_refiner_is_behind_a_network_like_the_small_one(scale):
    names = f"v2-0.3M-x{scale}", f"v2-1.7M-x{scale}"
    small, refined = (dan_fast.load(name).state_dict() for name in names)
    shapes = {name: tensor.shape for name, tensor in small.items()}
    assert {name: tensor.shape for name, tensor in refined.items() if not name.startswith("Refiner.")} == shapes
    for name_of_set in ("Set5", "Set14", "B100"):
        before, after = (results(name)[name_of_set, ALL_KERNELS].figures for name in names)
        assert after["psnr_y"] > before["psnr_y"] + 0.1
        assert after["kernel_error"] < before["kernel_error"] + 0.001


def test_the_refiner_of_x4_is_behind_the_small_network_itself():
    small, refined = (dan_fast.load(name).state_dict() for name in ("v2-0.3M-x4", "v2-1.7M-x4"))
    assert all(torch.equal(tensor, refined[name]) for name, tensor in small.items())
    for name_of_set in ("Set5", "Set14", "B100"):
        before, after = (results(name)[name_of_set, ALL_KERNELS].figures for name in ("v2-0.3M-x4", "v2-1.7M-x4"))
        assert after["kernel_error"] == pytest.approx(before["kernel_error"], abs=0.001)


@pytest.mark.parametrize("scale", [2, 4])
def test_each_kind_of_blur_is_for_the_network_that_learned_it(scale):
    round_blur, irregular = f"v2-0.3M-x{scale}", f"v2-0.3M-irregular-x{scale}"
    for protocol, better, worse in (("", round_blur, irregular), ("irregular", irregular, round_blur)):
        first, second = results(better, protocol), results(worse, protocol)
        for name_of_set in ("Set5", "Set14", "B100"):
            assert (first[name_of_set, ALL_KERNELS].figures["psnr_y"] >
                    second[name_of_set, ALL_KERNELS].figures["psnr_y"] + 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_that_ships(name):
    """The same for those who have no test sets."""
    scale = dan_fast.load(name).config.scale
    figures = measured(name, SAMPLES / "dog.png", isotropic(0.6 * scale))[-1].figures
    bicubic, psnr, error = DOG[name]
    assert figures["bicubic_psnr_y"] == pytest.approx(bicubic, abs=DECIBELS)
    assert figures["psnr_y"] == pytest.approx(psnr, abs=DECIBELS)
    assert figures["kernel_error"] == pytest.approx(error, abs=KERNEL_ERROR)


@pytest.mark.parametrize("name", NAMES)
def test_one_kernel_of_set5(shared, name):
    sigma = np.linspace(*GAUSSIAN8_SIGMA[dan_fast.load(name).config.scale], 8).tolist()[3]
    found, = measured(name, shared / "data" / "Set5", isotropic(sigma))
    assert_reached(found, results(name)["Set5", f"{sigma:.2f}"])


@pytest.mark.parametrize("name", of_protocol("irregular"))
def test_irregular_kernels_of_set5(shared, name):
    found, = measured(name, shared / "data" / "Set5", PROTOCOLS["irregular"])
    assert_reached(found, results(name, "irregular")["Set5", ALL_KERNELS])


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_of_set5(shared, name):
    found, stated = measured(name, shared / "data" / "Set5", PROTOCOLS["gaussian8"]), results(name)
    assert len(found) == 9
    for line in found:
        assert_reached(line, stated["Set5", line.sigma])
