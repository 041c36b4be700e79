"""``dan-fast demo`` blurs, shrinks and upscales the photos that ship."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..checkpoint import load
from ..command_line.arguments import add_device_argument
from ..degradation import gaussian_kernels
from ..degradation.degrade import degrade_image
from ..evaluation.crops import crop_to_multiple, middle
from ..evaluation.degraded_set import GAUSSIAN8_SIGMA, KERNEL_SIZE
from ..evaluation.measure import bicubic
from ..evaluation.metrics import kernel_error, psnr
from ..evaluation.pictures import kernel_picture, side_by_side
from ..files import SAMPLES, make_folder
from ..image_files import find_images, read_image, write_image
from ..inference import Upscaler
from ..runtime.devices import pick_device

# Side of the middle of each photo that is shown at its real size, pixels: four fit beside each other on a screen.
SHOWN = 288


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="default", help="a weights file, or the name of weights that ship")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output"), metavar="DIR",
                        help="folder for the pictures")
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    upscaler = Upscaler(load(args.weights, device=pick_device(args.device)))
    scale = upscaler.scale
    make_folder(args.output)
    photos = find_images([SAMPLES])
    sigmas = np.linspace(*GAUSSIAN8_SIGMA[scale], len(photos))
    rows, lines = [], []
    for path, sigma in zip(tqdm(photos, unit="photo"), sigmas, strict=True):
        hr = crop_to_multiple(read_image(path).rgb, scale)
        kernel = gaussian_kernels(torch.tensor([sigma]).float(), KERNEL_SIZE)[0]
        lr = degrade_image(hr, kernel, scale)
        result, plain = upscaler(lr), bicubic(lr, scale)
        before, after = (psnr(image, hr, crop=scale, y_channel=True) for image in (plain, result.image))
        error = kernel_error(result.kernel, kernel.numpy())
        lines.append(f"{path.stem:>10} {sigma:>6.2f} {before:>10.2f} {after:>8.2f} {after - before:>+7.2f} "
                     f"{error:>13.3f}")
        write_image(args.output / f"{path.stem}_lr.png", lr)
        write_image(args.output / f"{path.stem}_x{scale}.png", result.image)
        kernels = np.concatenate([kernel_picture(k, SHOWN // 2) for k in (result.kernel, kernel.numpy())])
        rows.append(side_by_side([*(middle(image, SHOWN) for image in (plain, result.image, hr)), kernels],
                                 ["bicubic", "DAN", "sharp original", "kernel: DAN, true"]))
        write_image(args.output / f"{path.stem}_compare.png", rows[-1])
    write_image(args.output / "demo.png", np.concatenate(rows))
    print(f"\n{len(photos)} photos blurred by a Gaussian of sigma (pixels), shrunk x{scale}, and upscaled again; "
          "PSNR on Y in dB:\n")
    print(f"{'photo':>10} {'sigma':>6} {'bicubic':>10} {'DAN':>8} {'gain':>7} {'kernel error':>13}")
    print("\n".join(lines))
    print(f"\nkernel error: sum of absolute differences to the true kernel, 0 to 2\nlook at {args.output / 'demo.png'}")
    return 0
