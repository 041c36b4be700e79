"""Cases to learn from: parts of photos, degraded, restored by our network and by SRMDNF; kept in a folder.

What does not depend on the Refiner is computed once: a step of its training then takes half the time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.degradation.degrade import degrade_image
from dan_fast.degradation.eight_bits import from_tensor, to_tensor
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.fast_model.alternation import Whole, alternate
from dan_fast.fast_model.versions import plan_for
from dan_fast.files import make_folder, write_atomically
from dan_fast.image_files import read_image, to_8_bits
from dan_fast.model import DAN

SIDE = 80  # of a case's low-resolution image
IMAGES = "lr", "sr", "taught", "hr"  # of a case
NETWORK = "network.txt"  # names the network that restored the cases
TRIES = 2  # places in a photo, of which the most textured one is taken

# Called with an image (h, w, 3) uint8 and its true kernel (21, 21): the teacher's result (h*s, w*s, 3) uint8.
Teacher = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Cases(NamedTuple):
    """N cases; the images are files that are read where they are needed.

    Attributes:
        lr: (N, 80, 80, 3) uint8.
        sr: (N, 80*s, 80*s, 3) uint8, our network's result.
        taught: (N, 80*s, 80*s, 3) uint8, the teacher's result, which was told the true kernel.
        hr: (N, 80*s, 80*s, 3) uint8, the photo.
        code: (N, c) float32, the estimate that ``sr`` was restored with.
        sigma: (N,) float32, of the true kernel.
        teaches: (N,) bool, whether the teacher's result is closer to the photo than ours.
    """

    lr: np.ndarray
    sr: np.ndarray
    taught: np.ndarray
    hr: np.ndarray
    code: np.ndarray
    sigma: np.ndarray
    teaches: np.ndarray


@torch.inference_mode()
def make_cases(folder: Path, scale: int, kernel_size: int, teacher: Teacher, photos: Sequence[Path], per_photo: int
               ) -> None:
    """Write ``per_photo`` cases of each photo to ``folder``, of random kernels of setting 1; the same every time.

    What depends on our network is still missing: ``restore_cases`` adds it.

    Raises:
        DanFastError: a photo cannot be read.
    """
    side, count = SIDE * scale, len(photos) * per_photo
    lowest, highest = Degradation.setting1(scale).sigma
    make_folder(folder)
    new = _NewFiles(folder)
    lrs, hrs, taught = (new.array(name, (count, size, size, 3), np.uint8)
                        for name, size in (("lr", SIDE), ("hr", side), ("taught", side)))
    sigmas = new.array("sigma", (count,), np.float32)
    order = np.random.default_rng(scale).permutation(count)
    for number, place in enumerate(tqdm(order, unit="case")):
        rng = np.random.default_rng((scale, number))
        hrs[number] = hr = _textured_part(to_8_bits(read_image(photos[place % len(photos)]).visible().rgb), side, rng)
        sigmas[number] = sigma = rng.uniform(lowest, highest)
        kernel = gaussian_kernels(torch.tensor([sigma], dtype=torch.float32), kernel_size)
        lrs[number] = lr = degrade_image(hr, kernel[0], scale)
        taught[number] = teacher(lr, kernel[0].numpy())
    new.keep()


@torch.inference_mode()
def restore_cases(folder: Path, model: DAN) -> None:
    """Write the results and estimates of ``model``, without a Refiner, for the cases in ``folder``.

    Raises:
        DanFastError: the cases are of another scale.
    """
    lrs, hrs, taught = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("lr", "hr", "taught"))
    if hrs.shape[1] != SIDE * model.config.scale:
        raise DanFastError(f"the cases in {folder} are for x{hrs.shape[1] // SIDE}, the network is for "
                           f"x{model.config.scale}: take a network for the scale of the cases")
    plan, new = plan_for(model, refines=False), _NewFiles(folder)
    results = new.array("sr", hrs.shape, np.uint8)
    codes = new.array("code", (len(hrs), model.config.code_length), np.float32)
    teaches = new.array("teaches", (len(hrs),), np.bool_)
    for number, lr in enumerate(tqdm(lrs, unit="case")):
        whole = Whole(plan, to_tensor(lr.copy()))  # torch takes no array that cannot be written
        codes[number] = alternate(plan, whole, model.config.iterations, wants_kernel=False).code[0].numpy()
        assert whole.sr is not None
        results[number] = from_tensor(whole.sr)
        ours, theirs = (np.square(result[number].astype(np.float32) - hrs[number]).mean()
                        for result in (results, taught))
        teaches[number] = theirs < ours
    new.keep()
    write_atomically(folder / NETWORK, fingerprint(model).encode())


def fingerprint(model: DAN) -> str:
    """A name for what ``restore_cases`` depends on: all tensors but the Refiner's."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not name.startswith("Refiner."):
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_restored_by(model: DAN, *folders: Path) -> None:
    """Refuse cases that another network than ``model`` restored.

    Raises:
        DanFastError: there are some; the message says what to do.
    """
    expected = fingerprint(model)
    for folder in folders:
        path = folder / NETWORK
        if not path.is_file() or path.read_text() != expected:
            raise DanFastError(f"the cases in {folder} were not restored by this network: run `restore` with it first")


class _NewFiles:
    """Arrays that become files of a folder all together; until then those that were there stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] = []

    def array(self, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """A new array for ``name``."""
        self._names.append(name)
        return np.lib.format.open_memmap(self._folder / f"{name}.new", "w+", dtype, shape)

    def keep(self) -> None:
        """Put the arrays, which are complete, in their places."""
        for name in self._names:
            (self._folder / f"{name}.new").replace(self._folder / f"{name}.npy")


def read_cases(*folders: Path) -> Cases:
    """The cases that ``make_cases`` and ``restore_cases`` wrote to the folders, one folder after the other.

    Raises:
        DanFastError: the folders' cases are for several scales.
    """
    parts = [Cases(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in Cases._fields})
             for folder in folders]
    if len({part.hr.shape[1:] for part in parts}) > 1:
        raise DanFastError(f"the cases in {', '.join(map(str, folders))} are for several scales: take those of one")
    return Cases(**{name: Rows([getattr(part, name) for part in parts]) if name in IMAGES else
                    np.concatenate([getattr(part, name) for part in parts])
                    for name in Cases._fields})  # type: ignore[arg-type]


class Rows(Sequence[np.ndarray]):
    """Rows of arrays that are files, which are read where they are needed.

    Args:
        arrays: of the same shape but for the number of rows.
        rows: numbers of the rows that count, in the arrays one after the other; default: all.
    """

    def __init__(self, arrays: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        self._arrays = arrays
        self._ends = np.cumsum([len(array) for array in arrays])
        self._rows = np.arange(self._ends[-1]) if rows is None else rows
        self.shape = len(self._rows), *arrays[0].shape[1:]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place):
        first, *rest = place if isinstance(place, tuple) else (place,)
        row = self._rows[first]
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self._arrays[number][(row - self._ends[number], *rest)]  # counted from the array's end

    def of(self, rows: np.ndarray) -> Rows:
        """Some of these rows."""
        return Rows(self._arrays, self._rows[rows])


class Batch(NamedTuple):
    """Patches of some cases, turned and mirrored alike; images are (B, 3, h, w) in [0, 1].

    Attributes:
        sharp_share: (B, 1, 1, 1), how much of the loss is that to the photo; the rest is that to the teacher.
    """

    lr: Tensor
    sr: Tensor
    taught: Tensor
    hr: Tensor
    code: Tensor
    sigma: Tensor
    sharp_share: Tensor


def batch(cases: Cases, rng: np.random.Generator, size: int, patch: int, scale: int, sharp_share: float) -> Batch:
    """A random batch. Cases at which the teacher is no better are learned from the photo alone."""
    chosen = rng.choice(len(cases.sigma), size, replace=False)
    images: list[list[np.ndarray]] = [[], [], [], []]
    for case in chosen:
        top, left = rng.integers(SIDE - patch + 1, size=2)
        turns, mirrored = rng.integers(4), rng.integers(2)
        for kind, whole in zip(images, (getattr(cases, name) for name in IMAGES), strict=True):
            step = whole.shape[1] // SIDE
            part = np.rot90(whole[case, top * step:(top + patch) * step, left * step:(left + patch) * step], turns)
            kind.append(part[:, ::-1] if mirrored else part)
    lr, sr, taught, hr = (torch.cat([to_tensor(part.copy()) for part in kind]) for kind in images)
    shares = np.where(cases.teaches[chosen], sharp_share, 1.0).astype(np.float32)
    return Batch(lr, sr, taught, hr, torch.from_numpy(cases.code[chosen]), torch.from_numpy(cases.sigma[chosen]),
                 torch.from_numpy(shares)[:, None, None, None])


def _textured_part(photo: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """The one of ``TRIES`` random parts of ``photo`` in which neighbours differ most, (side, side, 3)."""
    missing = [(0, max(0, side - length)) for length in photo.shape[:2]]
    photo = np.pad(photo, [*missing, (0, 0)], mode="symmetric")
    parts = []
    for _ in range(TRIES):
        top, left = (int(rng.integers(length - side + 1)) for length in photo.shape[:2])
        parts.append(np.ascontiguousarray(photo[top:top + side, left:left + side]))
    return max(parts, key=lambda part: sum(np.abs(np.diff(part.mean(2), axis=axis)).mean() for axis in (0, 1)))
