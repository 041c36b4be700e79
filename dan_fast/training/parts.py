"""Splits a checkpoint into parts, for channels that carry only small files, and joins them again.

``parts.json``, the index, holds the name, length and SHA-256 of each part. It is written last and names the parts of
one checkpoint only, so that at any time the folder holds a complete set or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import NamedTuple

from ..errors import DanFastError
from ..files import atomic_path, write_atomically
from .checkpoints import Checkpoints

INDEX = "parts.json"
FORMAT = "dan_fast: a checkpoint in parts, 1"
MIB = 15.0
SMALLEST, MOST_PARTS = 1024, 999  # bytes of a part; parts
_PART = re.compile(r"step-\d{9}-[0-9a-f]{8}\.part\d{3}")
_FILE = re.compile(r"step-(\d{9})\.pt")
_SUM = re.compile(r"[0-9a-f]{64}")
_LONGEST_INDEX = 1 << 20


class _Part(NamedTuple):
    name: str
    bytes: int
    sha256: str


def part_bytes(mib: float, name: str) -> int:
    """Return ``mib`` in bytes.

    Raises:
        DanFastError: a part cannot have that size; the message names the option, ``name``.
    """
    if not SMALLEST <= mib * 2**20 < 2**40:
        raise DanFastError(f"{name} {mib:g}: expected the MiB of a part, {SMALLEST / 2**20:g} or more")
    return int(mib * 2**20)


def write_parts(checkpoint: Path, folder: Path, most: int) -> list[Path]:
    """Write ``checkpoint`` to ``folder`` in parts of at most ``most`` bytes, then remove the earlier parts there.

    Returns:
        The paths of the index and the parts.

    Raises:
        DanFastError: there would be too many parts.
        OSError: a part cannot be written; the earlier parts stay.
    """
    length = checkpoint.stat().st_size
    if length > most * MOST_PARTS:
        raise DanFastError(f"{checkpoint}: {length} bytes are more than {MOST_PARTS} parts of {most}: expected larger "
                           "parts")
    parts: list[_Part] = []
    token = uuid.uuid4().hex[:8]  # names differ from those of earlier parts, even of the same step
    with open(checkpoint, "rb") as file:
        while data := file.read(most):
            part = _Part(f"{checkpoint.stem}-{token}.part{len(parts) + 1:03d}", len(data),
                         hashlib.sha256(data).hexdigest())
            write_atomically(folder / part.name, data)
            parts.append(part)
    index = {"format": FORMAT, "file": checkpoint.name, "parts": [part._asdict() for part in parts]}
    write_atomically(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())
    names = {part.name for part in parts}
    for path in folder.iterdir():
        if _PART.fullmatch(path.name) and path.name not in names:
            path.unlink(missing_ok=True)
    return [folder / INDEX, *(folder / part.name for part in parts)]


def join_parts(folder: Path, out: Path) -> Path | None:
    """Join the parts in ``folder`` to a checkpoint of the run in ``out``, if it is newer than those there.

    Returns:
        The checkpoint's path, or None if there are no parts or the run has a checkpoint that is not older.

    Raises:
        DanFastError: the index or a part is missing or damaged; the message names it.
        OSError: the checkpoint cannot be written.
    """
    if not (folder / INDEX).exists():
        return None
    name, parts = _read_index(folder / INDEX)
    checkpoints = Checkpoints(out / "checkpoints")
    if any(path.name >= name for path in checkpoints.newest_first()):
        return None
    for number, part in enumerate(parts, 1):  # check all of them before reading much
        path = folder / part.name
        if not path.is_file():
            raise DanFastError(f"{path}: part {number} of {len(parts)} is missing: copy it again")
        if path.stat().st_size != part.bytes:
            raise DanFastError(f"{path}: part {number} of {len(parts)} has {path.stat().st_size} bytes, expected "
                               f"{part.bytes}: copy it again")
    with atomic_path(checkpoints.folder / name) as temporary, open(temporary, "wb") as file:
        for number, part in enumerate(parts, 1):
            data = (folder / part.name).read_bytes()
            if hashlib.sha256(data).hexdigest() != part.sha256:
                raise DanFastError(f"{folder / part.name}: part {number} of {len(parts)} is damaged, its SHA-256 is "
                                   f"not that of {INDEX}: copy it again")
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return checkpoints.folder / name


def _read_index(path: Path) -> tuple[str, list[_Part]]:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_LONGEST_INDEX))
        parts = [_Part(**part) for part in content["parts"]]
        # The patterns also ensure that no name leads out of the folder.
        sound = (content["format"] == FORMAT and _FILE.fullmatch(content["file"]) and 0 < len(parts) <= MOST_PARTS
                 and all(_PART.fullmatch(part.name) and type(part.bytes) is int and _SUM.fullmatch(part.sha256)
                         for part in parts))
        if not sound:
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise DanFastError(f"{path}: damaged, or not the index of a checkpoint's parts: copy it again") from None
    return content["file"], parts
