"""Writing files so that they are whole or not there; where the files that ship are."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .errors import DanFastError

# Photos that ship with the package, CC0.
SAMPLES = Path(__file__).parent / "samples"


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    The folder is made if it is missing. Whatever goes wrong in the block, an interrupt included,
    ``path`` is as it was before and no temporary file stays behind. The temporary name keeps the
    suffix, which writers read the format from.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, as a rename across file systems is not atomic; hidden, so that no
    # search for images finds it.
    part = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path``: the whole of it, or nothing. Raises OSError as ``atomic_path``."""
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write ``array`` as NumPy's ``.npy``: the whole of it, or nothing. Raises OSError."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomically(path, buffer.getvalue())


def write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence]) -> None:
    """A CSV file, whole or not at all; None is an empty cell. Raises ``DanFastError`` if it cannot be written."""
    try:
        with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([f"{value:.6f}" if isinstance(value, float) else value for value in line]
                             for line in lines)
    except OSError as error:
        raise DanFastError(f"{path}: cannot be written: {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Make ``folder`` and see that it can be written to; ``DanFastError`` if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DanFastError(f"{folder}: cannot write to this folder: {error.strerror}") from error
