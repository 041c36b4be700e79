"""Small sound files of blur kernels, from which broken ones are made."""

import io
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from dan_fast.blur_kernels.files import read_kernels
from dan_fast.errors import DanFastError

from .images import refused_in_one_line


def sound_files() -> dict[str, bytes]:
    """Return the files by name; the suffix tells the format."""
    kernels = [np.outer(np.hanning(size + 2)[1:-1], np.hanning(size + 2)[1:-1]) for size in (5, 7, 9)]
    cells = np.empty((1, 3), object)
    cells[0, :] = kernels
    files = {}
    for name, array in (("one", kernels[0]), ("three", np.stack([kernels[1]] * 3).astype(np.float32))):
        buffer = io.BytesIO()
        np.save(buffer, array)
        files[f"{name}.npy"] = buffer.getvalue()
    for name, content, compressed in (("cells", cells, True), ("plain", cells, False), ("matrix", kernels[0], True)):
        buffer = io.BytesIO()
        savemat(buffer, {"kernels": content}, do_compression=compressed)
        files[f"{name}.mat"] = buffer.getvalue()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=512) as file:
        references = [file.create_dataset(f"#refs#/{i}", data=kernel).ref for i, kernel in enumerate(kernels)]
        file.create_dataset("kernels", data=np.array(references, h5py.ref_dtype)[:, None])
    files["hdf.mat"] = buffer.getvalue()
    return files


def read(path: Path) -> None:
    """Read one file, which must give kernels or a ``DanFastError``; raise any other error."""
    with refused_in_one_line(path, DanFastError):
        kernels = read_kernels(path)
        assert kernels.ndim == 3 and kernels.dtype == np.float32 and np.isfinite(kernels).all()
