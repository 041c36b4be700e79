"""Results that an earlier run finished, told by a note in the result itself: ``--skip-existing``.

Every result carries the EXIF tag ProcessingSoftware: the version of dan_fast and a hash of all that the result follows
from: the photo's size and time of change, the weights and the options. So a result is done again if its photo changed
since, or if another option is given; and it may be moved and copied.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dan_fast

from ..image_files import read_note


class Recipe:
    """All that results of one run follow from, but the photos.

    Args:
        options: names and values; any that JSON can write.
        files: whose contents count, for example weights.
    """

    def __init__(self, options: dict[str, Any], files: Iterable[Path]) -> None:
        self._hash = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for file in files:
            self._hash.update(hashlib.sha256(file.read_bytes()).digest())

    def note(self, photo: os.stat_result) -> str:
        """The note for the result of a photo, which tells it from all others; one line of ASCII."""
        whole = self._hash.copy()
        whole.update(f"{photo.st_size} {photo.st_mtime_ns}".encode())
        return f"dan_fast {dan_fast.__version__} {whole.hexdigest()[:32]}"


def is_finished(files: list[Path], note: str) -> bool:
    """Whether all ``files`` of a result are there, and the first, which is written last, carries ``note``."""
    return all(file.is_file() for file in files) and read_note(files[0]) == note
