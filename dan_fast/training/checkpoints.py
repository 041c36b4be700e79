"""The checkpoints of a run: each written whole or not at all, only the last ones stay, damaged ones are skipped."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import dan_fast_kernels
import torch

from ..errors import DanFastError
from ..files import atomic_path

KEEP = 3  # checkpoints
log = logging.getLogger("dan_fast.train")


class Checkpoints:
    """The files ``step-000001000.pt`` and so on in ``folder``; the last ``KEEP`` of them stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted((p for p in self.folder.iterdir() if re.fullmatch(r"step-\d{9}\.pt", p.name)), reverse=True)

    def write(self, step: int, state: dict) -> Path:
        """Write ``state``, tensors and plain values, then remove all but the last ``KEEP`` checkpoints.

        Returns:
            The file's path.

        Raises:
            OSError: the file cannot be written, for example because the disk is full; earlier checkpoints stay.
        """
        path = self.folder / f"step-{step:09d}.pt"
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch gives the reason only as its cause or context
                reason = error.__cause__ or error.__context__
                raise (reason if isinstance(reason, OSError) else OSError(f"{temporary}: {error}")) from None
            # After a power failure there must be no name without its content.
            file.flush()
            os.fsync(file.fileno())
        for old in self.newest_first()[KEEP:]:
            old.unlink()
        return path

    def read(self, skip: int = 0) -> dict:
        """Return the newest state that can be read.

        Args:
            skip: leave out this many of the newest checkpoints, but never the oldest.

        Raises:
            DanFastError: there is no checkpoint, or none can be read.
        """
        paths = self.newest_first()
        if not paths:
            raise DanFastError(f"{self.folder.parent}: holds no run to resume")
        for path in paths[min(skip, len(paths) - 1):]:
            try:
                return _read(path)
            except Exception as error:  # torch raises many kinds on a damaged file
                log.warning("%s is damaged (%s): passed over", path, str(error).splitlines()[0][:200])
        raise DanFastError(f"{self.folder}: none of the checkpoints can be read, the newest is {paths[0].name}; "
                           "start anew in another folder")


def _read(path: Path) -> dict:
    # torch's reader notices a missing end of the file, but not a changed byte.
    with zipfile.ZipFile(path) as archive:
        if broken := archive.testzip():
            raise zipfile.BadZipFile(f"{broken} has a wrong checksum")
    return torch.load(path, map_location="cpu", weights_only=True)


@cache
def code_revision() -> str:
    """The version, and in a git checkout the revision of the code, for example ``0.1.0, abc123, changed``."""
    version = dan_fast_kernels.__version__
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        finished = subprocess.run(("git", *words), cwd=folder, capture_output=True, text=True, check=True)
        return finished.stdout.strip()

    try:
        # An installed copy may lie in another project's checkout, of which it is no part.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
        return f"{version}, {git('rev-parse', 'HEAD')}{', changed' if changed else ''}"
    except (OSError, subprocess.CalledProcessError):
        return version
