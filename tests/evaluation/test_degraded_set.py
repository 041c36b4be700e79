"""Test sets: their cases, protocols and names."""

import numpy as np
import pytest
import torch
from support.image_sets import write_random, write_set

from dan_fast.degradation import gaussian_kernels
from dan_fast.errors import DanFastError, ImageError
from dan_fast.evaluation.degraded_set import PROTOCOLS, DegradedSet, image_sets, images_below


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("protocol", "count", "sizes"), [
    ("gaussian8", 8, {2: 21, 3: 21, 4: 21}), ("irregular", 1, {2: 11, 3: 21, 4: 31}),
    ("random", 1, {2: 21, 3: 21, 4: 21})])
def test_cases(folder, scale, protocol, count, sizes):
    degraded = DegradedSet.from_folder(folder, scale, protocol)
    cases = list(degraded)
    assert len(cases) == len(degraded) == 2 * count
    assert [case.image for case in cases[::count]] == ["0.png", "1.png"]
    for case in cases:
        assert case.kernel.shape == (sizes[scale], sizes[scale])
        assert case.kernel.dtype == np.float32
        assert case.kernel.sum() == pytest.approx(1, abs=1e-5)
        assert case.hr.dtype == case.lr.dtype == np.uint8
        assert case.hr.shape == (50 // scale * scale, 46 // scale * scale, 3)
        assert case.lr.shape == (50 // scale, 46 // scale, 3)


@pytest.mark.parametrize(("scale", "low", "high"), [(2, 0.80, 1.60), (3, 1.35, 2.40), (4, 1.80, 3.20)])
def test_gaussian8_is_the_published_one(folder, scale, low, high):
    cases = list(DegradedSet.from_folder(folder, scale, limit=1))
    assert [case.sigma for case in cases] == pytest.approx(np.linspace(low, high, 8))
    last = gaussian_kernels(torch.tensor([high]), 21)[0].numpy()
    np.testing.assert_allclose(cases[-1].kernel, last, atol=1e-7)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cases_are_the_same_every_time_and_whatever_the_limit(folder, protocol):
    everything = list(DegradedSet.from_folder(folder, 4, protocol))
    for case, other in zip(DegradedSet.from_folder(folder, 4, protocol, limit=1), everything, strict=False):
        np.testing.assert_array_equal(case.lr, other.lr)
        np.testing.assert_array_equal(case.kernel, other.kernel)
    if protocol != "gaussian8":
        assert not np.array_equal(everything[0].kernel, everything[1].kernel)


def test_unusable_images_are_refused_or_skipped(folder):
    write_random(folder / "a_small.png", 24, 20)
    (folder / "b_broken.png").write_bytes(b"no image")
    degraded = DegradedSet.from_folder(folder, 4)
    with pytest.raises(ImageError, match="a_small"):
        list(degraded)
    skipped = []
    assert len(list(degraded.cases(skipped.append))) == 16
    assert ["a_small" in skipped[0], "b_broken" in skipped[1]] == [True, True]


def test_refuses_other_protocols_scales_and_empty_folders(folder, tmp_path):
    with pytest.raises(DanFastError, match="gaussian9"):
        DegradedSet.from_folder(folder, 4, "gaussian9")
    with pytest.raises(DanFastError, match="scale=5"):
        DegradedSet.from_folder(folder, 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError):
        DegradedSet.from_folder(tmp_path / "empty", 4)


def test_image_sets_and_names(tmp_path):
    for name in ("both/one/x.png", "both/two/deep/x.png", "single/x.png", "single/more/y.png"):
        write_random(tmp_path / name)
    assert image_sets([tmp_path / "both", tmp_path / "single"]) == [
        tmp_path / "both" / "one", tmp_path / "both" / "two", tmp_path / "single"]
    assert [name for _, name in images_below([tmp_path / "single"])] == ["more/y.png", "x.png"]
