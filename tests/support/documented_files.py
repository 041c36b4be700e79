"""The files that documented commands name, small, made from the photos that ship."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import savemat

from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.cli import main
from dan_fast.files import SAMPLES
from dan_fast.image_files import find_images, read_image, write_image
from dan_fast.training.config_file import write_config
from dan_fast.training.presets import get_preset

# Training steps of one patch of this side, so that a step takes a tenth of a second.
TRAINING = ("--steps", "1", "--batch", "1", "--patch", "16")
_CROP = 80  # pixels, more than a patch and its kernel take of a sharp image


def make(name: str, folder: Path) -> None:
    """Make the file or folder ``name`` of ``FILES`` in ``folder``, and what it is made from."""
    path = folder / name
    if not path.exists():
        FILES[name](path)


def _photo(path: Path, number: int = 0) -> None:
    source = find_images([SAMPLES])[number]
    write_image(path, read_image(source).rgb[100:100 + _CROP, 100:100 + _CROP + 8])


def _photos(path: Path) -> None:
    for number, name in enumerate(("a.jpg", "b.png")):
        _photo(path / name, number)


def _pair(path: Path, low: str, sharp: str) -> None:
    _photo(path / sharp)
    hr = read_image(path / sharp).rgb
    write_image(path / low, np.ascontiguousarray(hr[::4, ::4]))


def _div2krk(path: Path) -> None:
    _pair(path, "lr_x4/im_1.png", "gt/img_1.png")
    (path / "gt_k_x4").mkdir()
    savemat(path / "gt_k_x4" / "kernel_1.mat", {"Kernel": gaussian_kernels([2.0], 21)[0].numpy()})


def _realsr(path: Path) -> None:
    _pair(path / "Canon" / "Test" / "4", "Canon_001_LR4.png", "Canon_001_HR.png")


def _tool(path: Path) -> None:
    """A program that the Python of the tests runs, whichever Python it is started with."""
    code = ("import sys; from PIL import Image; image = Image.open(sys.argv[1]); "
            "image.resize([int(sys.argv[3]) * side for side in image.size]).save(sys.argv[2])")
    path.write_text(f"import os, sys\nos.execv({sys.executable!r}, [{sys.executable!r}, '-c', {code!r}, "
                    "*sys.argv[1:]])\n")


def _kernel(path: Path) -> None:
    kernel = gaussian_kernels([2.0], 21)[0].numpy()
    if path.suffix == ".mat":
        cells = np.empty(2, object)
        cells[:] = [kernel, kernel.T]
        savemat(path, {"kernels": cells})
    else:
        np.save(path, kernel)


def _pack(path: Path, *options: str) -> None:
    make("DIR", path.parent)
    assert main(["pack", str(path.parent / "DIR"), "-o", str(path), *options]) == 0


def _run(path: Path, *options: str) -> None:
    make("DIR", path.parents[1])
    data = str(path.parents[1] / "DIR")
    assert main(["train", "--data", data, "--val", data, "--out", str(path), *TRAINING, *options]) == 0


def _parts(path: Path) -> None:
    _run(path.parents[1] / "runs" / "for-parts", "--parts", str(path))
    shutil.rmtree(path.parents[1] / "runs" / "for-parts")


def _config(path: Path) -> None:
    preset = get_preset("v2-0.3M-x4")
    write_config(path, replace(preset, degradation=replace(preset.degradation, noise=0.03)), 0)
    assert json.loads(path.read_text())["degradation"]["noise"] == 0.03


FILES: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("photo.jpg", "scan.png", "part.png", "sharp.png"), _photo),
    "result.png": partial(_photo, number=1),
    **dict.fromkeys(("holidays", "photos", "some", "Set5", "Set14", "DIR", "VAL", "sharp", "held-out", "results",
                     "drawings"),
                    _photos),
    "DIV2KRK": _div2krk,
    "RealSR": _realsr,
    "my-tool.py": _tool,
    **dict.fromkeys(("known.npy", "kernels_12.mat"), _kernel),
    **dict.fromkeys(("sharp.tif", "df2k.tif"), _pack),
    "train.zip": lambda path: _pack(path, "--jpeg", "95"),
    **dict.fromkeys(("runs/mine", "runs/v2-x4"), _run),
    "out/state": _parts,
    "my-config.json": _config,
}
