"""Files written completely or not at all, and the photos that ship."""

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

# Folder of the photos that ship with the package, CC0.
SAMPLES = Path(__file__).parent / "samples"


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without an error.

    A missing folder is made. After any error in the block, including an interrupt, ``path`` is as it
    was before and no temporary file is left. The temporary name keeps the suffix, from which writers
    take the format.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, as renaming across file systems is not atomic; hidden, so that no search
    # for images finds it.
    part = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path``, completely or not at all. Raises OSError as ``atomic_path``."""
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_npy(path: Path | str, array: np.ndarray) -> None:
    """Write ``array`` as NumPy's ``.npy``, completely or not at all. Raises OSError as ``atomic_path``."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomically(path, buffer.getvalue())


def write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence]) -> None:
    """Write a CSV file, completely or not at all; None becomes an empty cell.

    Raises:
        DanFastError: the file cannot be written.
    """
    try:
        with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([f"{value:.6f}" if isinstance(value, float) else value for value in line]
                             for line in lines)
    except OSError as error:
        raise DanFastError(f"{path}: cannot be written: {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Make ``folder`` and check that files can be written to it; ``DanFastError`` if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DanFastError(f"{folder}: cannot write to this folder: {error.strerror}") from error
