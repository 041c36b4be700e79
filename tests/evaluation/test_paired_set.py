"""Test sets of pairs: which are read, which are left out and why."""

import numpy as np
import pytest
from scipy.io import savemat
from support.image_pairs import write_pair
from support.image_sets import bicubic_upscaler, write_random

from dan_fast.errors import DanFastError, ImageError
from dan_fast.evaluation.measure import measure
from dan_fast.evaluation.metrics import kernel_error
from dan_fast.evaluation.paired_set import PairedSet
from dan_fast.evaluation.summary import OF_KERNELS
from dan_fast.image_files import read_image, write_image

KERNEL = np.outer(np.hanning(13), np.hanning(13))


def test_div2krk(tmp_path):
    for number in (1, 2, 10):
        write_pair(tmp_path, f"lr_x4/im_{number}.png", f"gt/img_{number}.png", seed=number)
        (tmp_path / "gt_k_x4").mkdir(exist_ok=True)
        savemat(tmp_path / "gt_k_x4" / f"kernel_{number}.mat", {"Kernel": np.roll(KERNEL, number % 2, 0)})
    pairs = PairedSet.from_folders(tmp_path / "lr_x4", tmp_path / "gt", 4, tmp_path / "gt_k_x4")
    assert pairs.name == "lr_x4" and len(pairs) == 3
    cases = list(pairs.cases())
    assert [case.image for case in cases] == ["img_1.png", "img_10.png", "img_2.png"]
    for case, number in zip(cases, (1, 10, 2), strict=True):
        np.testing.assert_array_equal(case.lr, read_image(tmp_path / "lr_x4" / f"im_{number}.png").rgb)
        np.testing.assert_array_equal(case.hr, read_image(tmp_path / "gt" / f"img_{number}.png").rgb)
        assert case.kernel == pytest.approx(np.roll(KERNEL, number % 2, 0) / KERNEL.sum(), abs=1e-6)
        assert case.registered and case.sigma is None


def test_realsr_has_both_in_one_folder(tmp_path):
    folder = tmp_path / "Test" / "4"
    for number in (1, 2):
        write_pair(folder, f"Canon_00{number}_LR4.png", f"Canon_00{number}_HR.png", seed=number)
    pairs = PairedSet.from_folders(folder, folder, 4)
    assert [(case.image, case.kernel) for case in pairs.cases()] == [("Canon_001_HR.png", None),
                                                                    ("Canon_002_HR.png", None)]


def test_what_the_scale_does_not_divide_is_cut_off_below_and_to_the_right(tmp_path):
    write_pair(tmp_path, "lr/a.png", "hr/a.png", spare=3)
    case, = PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4).cases()
    np.testing.assert_array_equal(case.hr, read_image(tmp_path / "hr" / "a.png").rgb[:48, :40])
    write_pair(tmp_path, "lr/a.png", "hr/a.png", spare=4)
    with pytest.raises(ImageError, match=r"44x52 pixels and .* 10x12: expected 4 times as many, 40x48"):
        list(PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4).cases())
    for height, width in ((47, 40), (48, 39), (52, 40), (48, 44)):
        write_random(tmp_path / "hr" / "a.png", height, width)
        with pytest.raises(ImageError, match="expected 4 times"):
            list(PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4).cases())


def test_every_file_that_is_left_out_is_named(tmp_path):
    for number, name in enumerate(("good", "broken_lr", "broken_hr", "large", "tiny", "two", "odd")):
        write_pair(tmp_path, f"lr/{name}.png", f"hr/{name}.png", seed=number)
        (tmp_path / "k").mkdir(exist_ok=True)
        np.save(tmp_path / "k" / f"{name}.npy", KERNEL)
    (tmp_path / "k" / "good.npy").rename(tmp_path / "k" / "good.NPY")
    (tmp_path / "lr" / "broken_lr.png").write_bytes(b"no image")
    (tmp_path / "hr" / "broken_hr.png").write_bytes(b"no image")
    write_random(tmp_path / "hr" / "large.png", 60, 40)
    write_pair(tmp_path, "lr/tiny.png", "hr/tiny.png", height=16, width=16)
    np.save(tmp_path / "k" / "two.npy", np.stack([KERNEL, KERNEL]))
    np.save(tmp_path / "k" / "odd.npy", -KERNEL)
    write_random(tmp_path / "lr" / "alone_lr.png", 12, 10)
    write_random(tmp_path / "hr" / "alone_hr2.png", 48, 40)
    write_pair(tmp_path, "lr/no_kernel.png", "hr/no_kernel.png")
    pairs = PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4, tmp_path / "k")
    skipped: list[str] = []
    assert [case.image for case in pairs.cases(skipped.append)] == ["good.png"]
    for name, reason in (
            ("lr/alone_lr.png", "has no partner"), ("hr/alone_hr2.png", "has no partner"),
            ("hr/no_kernel.png", "has no partner"), ("lr/broken_lr.png", "not a readable"),
            ("hr/broken_hr.png", "not a readable"), ("hr/large.png", "expected 4 times"), ("hr/tiny.png", "too few"),
            ("k/two.npy", "holds 2 kernels, expected that of one image"), ("k/odd.npy", "sum")):
        assert len([text for text in skipped if text.startswith(str(tmp_path / name)) and reason in text]) == 1, name
    assert len(skipped) == 9
    with pytest.raises(ImageError, match="has no partner"):
        list(pairs.cases())


def test_limit_and_what_is_refused(tmp_path):
    for number in range(3):
        write_pair(tmp_path, f"lr/{number}x4.png", f"hr/{number}.png", seed=number)
    pairs = PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4, limit=2)
    assert [case.image for case in pairs.cases()] == ["0.png", "1.png"]
    for name in ("hr/0a.png", "hr/1a.png", "lr/0bx4.png"):
        write_random(tmp_path / name, 48, 40)
    skipped: list[str] = []
    list(PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4, limit=2).cases(skipped.append))
    assert len(skipped) == 1 and "0a.png" in skipped[0], "1a.png comes after the last pair that was asked for"
    for limit, reported in ((3, 2), (0, 0), (None, 3)):
        skipped = []
        list(PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4, limit=limit).cases(skipped.append))
        assert len(skipped) == reported
    (tmp_path / "empty").mkdir()
    for arguments, message in (((tmp_path / "lr", tmp_path / "empty", 4), "holds no image"),
                               ((tmp_path / "none", tmp_path / "hr", 4), "no such file or folder"),
                               ((tmp_path / "lr", tmp_path / "hr", 5), "scale=5"),
                               ((tmp_path / "lr", tmp_path / "hr", 4, tmp_path / "hr"), "holds no kernel"),
                               ((tmp_path / "lr", tmp_path / "hr", 4, tmp_path / "none"), "no such folder")):
        with pytest.raises(DanFastError, match=message):
            PairedSet.from_folders(*arguments)


def test_grey_and_16_bit_images(tmp_path):
    write_pair(tmp_path, "lr/a.png", "hr/a.png")
    hr = read_image(tmp_path / "hr" / "a.png").rgb
    write_image(tmp_path / "hr" / "a.png", hr.astype(np.uint16) * 257)
    grey = read_image(tmp_path / "lr" / "a.png").rgb[..., 1]
    write_image(tmp_path / "lr" / "a.png", grey)
    case, = PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4).cases()
    np.testing.assert_array_equal(case.hr, hr)
    np.testing.assert_array_equal(case.lr, np.stack([grey] * 3, 2))


def test_measured_without_and_with_kernels(tmp_path):
    write_pair(tmp_path, "lr/a.png", "hr/a.png")
    (tmp_path / "k").mkdir()
    shifted = np.zeros((21, 21), np.float32)
    shifted[12, 7] = 1
    np.save(tmp_path / "k" / "a.npy", shifted)
    unknown, = measure(PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4), bicubic_upscaler(4))
    known, = measure(PairedSet.from_folders(tmp_path / "lr", tmp_path / "hr", 4, tmp_path / "k"), bicubic_upscaler(4))
    assert all(getattr(unknown, column) is None for column in OF_KERNELS)
    assert known.psnr_y == unknown.psnr_y == unknown.bicubic_psnr_y
    assert (known.shift_down, known.shift_right) == (2, -3)
    flat = np.full((21, 21), 1 / 441)
    assert known.kernel_error == pytest.approx(kernel_error(flat, shifted), abs=1e-6)
    # The images are in register whatever the kernel's shift; only the kernels are centred.
    assert known.aligned_psnr_y == known.psnr_y and known.aligned_ssim_rgb == known.ssim_rgb
    centred = np.zeros((21, 21))
    centred[10, 10] = 1
    assert known.aligned_kernel_error == pytest.approx(kernel_error(flat, centred), abs=1e-6)
